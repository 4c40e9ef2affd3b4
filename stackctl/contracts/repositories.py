"""Repositories: git, reached for the sources of builds."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Protocol

from stackctl.frozen import frozen


@frozen
class GitSource:
    """A repository: ``ref`` "" is its default branch, ``commit`` what the ref must lead to (or begin with)."""

    remote: str
    ref: str = ""
    subdir: str = ""
    commit: str = ""
    keep_git_dir: bool = False
    submodules: bool = True


@frozen
class GitAccess:
    """What a build gave for repositories: tokens and headers by secret name, the socket of an SSH agent."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agent: str = ""


class Repositories(Protocol):
    """Reads repositories. Raises UnavailableError for one that cannot be read, HostError where git is missing.

    Nothing of a repository is run, no configuration but our own is heard, and no protocol reads this machine's files.
    """

    async def resolve(self, source: GitSource, access: GitAccess) -> str:
        """Return the commit that the source's ref leads to now; raises InvalidInputError when it has no such ref."""

    async def checkout(
        self, source: GitSource, commit: str, access: GitAccess, target: Path, *, keep: bool
    ) -> None:
        """Make the files of a commit in the new directory ``target``; with ``keep`` its .git stays there."""
