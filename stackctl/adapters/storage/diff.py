"""What an overlay's upper changes in the layers below it: ``docker diff``."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from stackctl.adapters.storage.treewriter import OPAQUE_XATTR
from stackctl.contracts.storage import Change

_MODIFIED, _ADDED, _DELETED = 0, 1, 2


def compare(upper: str, lowers: Sequence[str]) -> list[Change]:
    """Return the changes by path; ``lowers`` are the layers' directories, topmost first."""
    found: list[Change] = []
    _compare(upper, list(lowers), "", found)
    return sorted(found, key=lambda change: change.path)


def _compare(upper: str, lowers: list[str], prefix: str, found: list[Change]) -> None:
    names = set()
    with os.scandir(upper) as scan:
        for entry in scan:
            names.add(entry.name)
            path = f"{prefix}/{entry.name}"
            info = entry.stat(follow_symlinks=False)
            below, visible = _below(lowers, entry.name)
            if _is_whiteout(info):
                found.append(Change(path=path, kind=_DELETED))
            elif not stat.S_ISDIR(info.st_mode):
                found.append(Change(path=path, kind=_ADDED if below is None else _MODIFIED))
            else:
                before = len(found)
                _compare(entry.path, visible, path, found)
                if below is None:
                    found.append(Change(path=path, kind=_ADDED))
                elif len(found) > before or not _alike(info, below):
                    # A directory is there for the sake of what is in it, or because it was itself changed.
                    found.append(Change(path=path, kind=_MODIFIED))
    if lowers and _is_opaque(upper):
        hidden = {path.name for lower in lowers for path in Path(lower).iterdir()} - names
        found.extend(
            Change(path=f"{prefix}/{name}", kind=_DELETED)
            for name in hidden
            if _below(lowers, name)[0] is not None
        )


def _below(lowers: Sequence[str], name: str) -> tuple[os.stat_result | None, list[str]]:
    """Return what the layers show under a name, and the directories that are merged there."""
    first: os.stat_result | None = None
    merged: list[str] = []
    for lower in lowers:
        path = f"{lower}/{name}"
        try:
            info = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if _is_whiteout(info):
            break
        first = first or info
        if not stat.S_ISDIR(info.st_mode):
            break
        merged.append(path)
        if _is_opaque(path):
            break
    return first, merged if first and stat.S_ISDIR(first.st_mode) else []


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return False
        raise


def _alike(upper: os.stat_result, lower: os.stat_result) -> bool:
    return (upper.st_mode, upper.st_uid, upper.st_gid, int(upper.st_mtime)) == (
        lower.st_mode,
        lower.st_uid,
        lower.st_gid,
        int(lower.st_mtime),
    )
