"""The stack's name, found the cheap way: without reading the stack file as one.

Most commands on a running stack need its name only. What cannot be told from a look at the text (interpolation,
several documents, flow style) is left to the reader of stack files, which gives the same answer slowly; a test
compares the two.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.stackfile.names import NAMES, OVERRIDES

NAME_RULE = "lower-case letters, digits, - and _; a letter or digit first"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NOT_IN_NAME = re.compile(r"[^a-z0-9_-]")
# A key of the top level whose value is one plain or quoted word.
_TOP = r"""(?m)^(?:name|"name"|'name')\s*:(.*)$"""
_VALUE = r"""\s+(?:"([\w.-]+)"|'([\w.-]+)'|([A-Za-z][\w.-]*))\s*(?:#.*)?"""
_SPECIAL = re.compile(r"^(?:---|\.\.\.|%|\?|\{|<<)", re.MULTILINE)
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_TRUE = frozenset({"1", "t", "true", "yes"})
TWINS = (
    "FILE", "PROJECT_NAME", "PROFILES", "ENV_FILES", "PATH_SEPARATOR", "DISABLE_ENV_FILE", "PARALLEL_LIMIT",
    "ANSI", "PROGRESS", "REMOVE_ORPHANS", "IGNORE_ORPHANS", "COMPATIBILITY", "STATUS_STDOUT", "MENU",
)  # fmt: skip


def with_twins(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables, where STACKCTL_X stands in for COMPOSE_X and wins over it."""
    own = {
        f"COMPOSE_{name}": environ[f"STACKCTL_{name}"]
        for name in TWINS
        if f"STACKCTL_{name}" in environ
    }
    return {**environ, **own} if own else environ


def is_true(text: str) -> bool:
    """Tell whether a variable switches something on."""
    return text.lower() in _TRUE


def checked(name: str) -> str:
    """Return a name that was given; raises InvalidInputError for one that is none."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f'"{name}" is not a stack name', hint=NAME_RULE)
    return name


def guess(
    environ: Mapping[str, str],
    cwd: Path,
    *,
    files: Sequence[str] = (),
    directory: str = "",
    env_files: Sequence[str] = (),
) -> str:
    """Return the name that the stack file would give, or "" where only reading it tells."""
    if env_files or environ.get("COMPOSE_ENV_FILES") or environ.get("COMPOSE_FILE"):
        return ""
    paths = [cwd / path for path in files if path != "-"]
    if len(paths) != len(files) or any("://" in path or "git@" in path for path in files):
        return ""
    if not paths:
        paths = _find(cwd / directory)
    if not paths:
        return ""
    folder = Path(os.path.normpath(cwd / directory)) if directory else _folder(paths[0])
    try:
        if not is_true(environ.get("COMPOSE_DISABLE_ENV_FILE", "")):
            variables = folder / ".env"
            if variables.is_file() and "COMPOSE_" in variables.read_text():
                return ""
        texts = [path.read_text() for path in paths]
    except (OSError, UnicodeDecodeError):
        return ""
    return _from_texts(texts, folder.name)


def _folder(path: Path) -> Path:
    return Path(os.path.normpath(path)).parent


def _find(start: Path) -> list[Path]:
    """Return the file of a folder or the nearest one above; nothing where there is a choice to warn of."""
    for folder in (start, *Path(os.path.normpath(start)).parents):
        present = [folder / name for name in NAMES if (folder / name).exists()]
        if present:
            own = present[0].name.startswith("stack.")
            names = [name for name in OVERRIDES if name.startswith("stack.") == own]
            overrides = [folder / name for name in names if (folder / name).exists()]
            return present + overrides if len(present) == 1 and len(overrides) < 2 else []
    return []


def _from_texts(texts: Sequence[str], folder: str) -> str:
    name = ""
    for text in texts:
        if _SPECIAL.search(text):
            return ""
        written = re.findall(_TOP, text) if "name" in text else []
        if len(written) > 1:
            return ""
        for value in written:
            match = re.fullmatch(_VALUE, value)
            word = next((part for part in match.groups() if part), "") if match else ""
            if not word or word.lower() in _WORDS:
                return ""
            name = word
    return _NOT_IN_NAME.sub("", (name or folder).lower()).lstrip("_-")
