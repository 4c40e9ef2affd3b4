"""How repositories are written as sources of ADD and as build contexts; pure.

It is Docker's way: ``URL#REF:DIRECTORY``, or a query (``?ref=…&subdir=…``).
"""

import re
from urllib.parse import parse_qsl

from stackctl.contracts.repositories import GitSource
from stackctl.errors import InvalidInputError

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PREFIX = re.compile(r"[0-9a-f]{7,64}")
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:.+")
_QUERY = frozenset(
    {"ref", "branch", "tag", "commit", "checksum", "subdir", "keep-git-dir", "submodules"}
)


def is_git(source: str) -> bool:
    """Tell whether a source is a repository and no path or plain file."""
    path = re.split(r"[#?]", source, maxsplit=1)[0]
    if source.startswith(("git://", "ssh://")):
        return True
    if source.startswith(("http://", "https://")):
        return path.endswith(".git")
    return "://" not in source and _SCP.fullmatch(source) is not None


def parse_git(source: str) -> GitSource:
    """Return a source's parts; raises InvalidInputError for what git could take for an option or a path of ours."""
    text, _, fragment = source.partition("#")
    remote, mark, query = text.partition("?")
    ref, _, subdir = fragment.partition(":")
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20)) if mark else {}
    except ValueError as error:
        raise InvalidInputError(f"{source[:200]}: the query of the repository: {error}") from error
    if unknown := given.keys() - _QUERY:
        raise InvalidInputError(
            f"{source[:200]}: {min(unknown)[:40]!r} is not known in the query of a repository",
            hint=", ".join(sorted(_QUERY)),
        )
    refs = {given[key] for key in ("ref", "branch", "tag") if key in given} | ({ref} - {""})
    if len(refs) > 1:
        raise InvalidInputError(f"{source[:200]}: more than one ref is named")
    ref = refs.pop() if refs else ""
    if "tag" in given:
        ref = f"refs/tags/{ref}"
    elif "branch" in given:
        ref = f"refs/heads/{ref}"
    subdir = (given.get("subdir") or subdir).strip("/")
    if ref.startswith("-") or remote.startswith("-") or re.search(r"[\s\0-\x1f\x7f]", ref):
        raise InvalidInputError(f"{source[:200]}: {ref[:80]!r} is not a ref")
    if ".." in subdir.split("/"):
        raise InvalidInputError(f"{source[:200]}: the directory leads out of the repository")
    commit = given.get("commit") or given.get("checksum") or ""
    return GitSource(
        remote=remote,
        ref=ref or commit if not _COMMIT.fullmatch(commit) else ref,
        subdir=subdir,
        commit=commit,
        keep_git_dir=_truth(given.get("keep-git-dir"), default=False),
        submodules=_truth(given.get("submodules"), default=True),
    )


def check_commit(commit: str, wanted: str, source: str) -> None:
    """Raise InvalidInputError when a commit is not the one asked for, which may be cut to seven letters or more."""
    if not wanted:
        return
    if not _PREFIX.fullmatch(wanted):
        raise InvalidInputError(
            f"checksum {wanted[:80]!r} is not a commit",
            hint="a repository is checked by the ID of its commit, in hexadecimal",
        )
    if not commit.startswith(wanted):
        raise InvalidInputError(f"{source}: the commit is {commit}, not {wanted} as asked for")


def _truth(text: str | None, *, default: bool) -> bool:
    if text is None:
        return default
    if text.lower() not in ("", "true", "false", "1", "0"):
        raise InvalidInputError(f"{text[:40]!r} in the query of a repository: true or false")
    return text.lower() in ("", "true", "1")
