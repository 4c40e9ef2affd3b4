"""Bind mounts into a root nobody runs in, so that copying in and out sees volumes where the container will.

No place is looked up twice by name: a mount goes onto what one openat2 with RESOLVE_IN_ROOT opened, since a volume
that another container shares may be changing at this moment.
"""

import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path

from stackctl.contracts.storage import Furnishing
from stackctl.errors import HostError
from stackctl.host.files import open_in_root
from stackctl.host.mounts import MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, mount

_LOOK = os.O_PATH | os.O_CLOEXEC


def furnish(root: Path, items: Sequence[Furnishing]) -> None:
    """Mount each item in the root, parents first; raises HostError. A source that is gone is left out."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for item in sorted(items, key=lambda item: item.target.count("/")):
            source = Path(item.source)
            if source.exists():
                _mount(root_fd, item, is_directory=source.is_dir())
    except OSError as error:
        raise HostError(
            f"cannot show the container's mounts: {error.strerror}", errno=error.errno or 0
        ) from error
    finally:
        os.close(root_fd)


def _mount(root_fd: int, item: Furnishing, *, is_directory: bool) -> None:
    place = _place(root_fd, item.target, is_directory=is_directory)
    try:
        if stat.S_ISDIR(os.fstat(place).st_mode) != is_directory:
            return
        mount(item.source, Path(f"/proc/self/fd/{place}"), flags=MS_BIND | MS_REC)
    finally:
        os.close(place)
    # Opened again, this is the new mount's root; nothing mounted below it may show at the source.
    top = open_in_root(root_fd, item.target, _LOOK)
    try:
        here = Path(f"/proc/self/fd/{top}")
        mount("", here, flags=MS_PRIVATE | MS_REC)
        if item.read_only:
            mount("", here, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    finally:
        os.close(top)


def _place(root_fd: int, target: str, *, is_directory: bool) -> int:
    """Open the place of a mount, making it and what leads to it as the runtime would at the start."""
    try:
        return open_in_root(root_fd, target, _LOOK)
    except FileNotFoundError:
        parent = _place(root_fd, posixpath.dirname(target) or "/", is_directory=True)
    try:
        name = posixpath.basename(target)
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
    finally:
        os.close(parent)
    return open_in_root(root_fd, target, _LOOK)
