"""Checkouts: tells whether git is changing files at this moment, so that a checkout is one change and not many.

git holds ``index.lock`` beside its index from the first file it touches to the last.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

# A lock that a git which died has left is not waited for.
_STALE = 60.0


class Checkouts:
    """Knows the repositories that the paths are in."""

    def __init__(self, paths: Iterable[str]) -> None:
        found = (_lock_of(Path(path)) for path in paths)
        self._locks = tuple(dict.fromkeys(path for path in found if path))

    def under_way(self) -> bool:
        for path in self._locks:
            try:
                age = time.time() - os.lstat(path).st_mtime
            except OSError:
                continue
            if age < _STALE:
                return True
        return False


def _lock_of(path: Path) -> str:
    """Return where the lock of the repository that holds a path would be, "" where there is none."""
    for folder in (path, *path.parents):
        git = folder / ".git"
        if git.is_dir():
            return str(git / "index.lock")
        if git.is_file():
            # A linked work tree or a submodule; git itself keeps what it says true.
            where = git.read_text(errors="surrogateescape").partition("gitdir:")[2].strip()
            return str(folder / where / "index.lock") if where else ""
    return ""
