"""File changes by inotify(7).

watchfiles is for the platforms that have no inotify (``orchestrator.watch.portable``). On Linux it was measured with one
non-recursive watch a directory, so that ignored directories are left out, and does not do this job:

- It drops the kernel's word that events were lost, and hears files being opened. With the process held up while another
  program opened files 20 000 times, a save after that was never told, nor that anything was missing.
- It tells of each write and not of the end of writing: a file written over 0.2 s came in 20 states, here in 2.
- One file with a name that is not UTF-8 ends its watching for good.
- Directories cannot be added: each new one takes a new watcher and thread, or all are begun anew.
- It looks every few milliseconds: 0.4 % of a core a watcher while nothing happens, here none. A save was told after 15 ms
  (here 7) with 1, 1 000 and 50 000 files.
"""

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

from stackctl.errors import HostError

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
MOVE_SELF = 0x800
Q_OVERFLOW = 0x4000
IGNORED = 0x8000
ONLYDIR = 0x1000000
EXCL_UNLINK = 0x4000000
_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """One inotify descriptor; ``drain`` empties it. Close it."""

    def __init__(self) -> None:
        self.descriptor: int = _libc.inotify_init1(_CLOEXEC_NONBLOCK)
        if self.descriptor < 0:
            raise _failed("cannot watch files")

    def add(self, path: Path, mask: int) -> None:
        """Watch a file or directory; again for a path whose inode may have changed."""
        if _libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask) < 0:
            raise _failed(f"cannot watch {path}")

    def drain(self) -> None:
        """Forget what has been told so far."""
        try:
            while os.read(self.descriptor, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


_HEADER = struct.Struct("iIII")
_DIRECTORY_MASK = (
    ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | ONLYDIR | EXCL_UNLINK
)


class DirectoryEvents:
    """What happens to the entries of directories, told by the number that ``add`` gave for each.

    Nothing else is watched: not the directories below, and no directory that was not added. Events of a file that is
    being written come when its writer closes it.
    """

    def __init__(self) -> None:
        self._fd: int = _libc.inotify_init1(_CLOEXEC_NONBLOCK)
        if self._fd < 0:
            raise _failed("cannot watch files")
        self._wake_read, self._wake_write = os.pipe2(_CLOEXEC_NONBLOCK)

    def add(self, path: str) -> int:
        """Watch a directory; the number is the directory's (not the path's), and never given again to another one.

        Raises FileNotFoundError or NotADirectoryError, and HostError for the kernel's limits.
        """
        number: int = _libc.inotify_add_watch(self._fd, os.fsencode(path), _DIRECTORY_MASK)
        if number < 0:
            code = ctypes.get_errno()
            if code in (2, 20, 40):
                raise OSError(code, os.strerror(code), path)
            raise _failed(f"cannot watch {path}")
        return number

    def remove(self, number: int) -> None:
        """Stop watching a directory; nothing happens when it is gone."""
        _libc.inotify_rm_watch(self._fd, number)

    def read(self, timeout: float | None) -> list[tuple[int, int, str]]:
        """Return (number, mask, name) of what happened, nothing after ``timeout`` seconds or ``wake``."""
        ready, _, _ = select.select([self._fd, self._wake_read], [], [], timeout)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        try:
            data = os.read(self._fd, 1 << 18)
        except BlockingIOError:
            return []
        return list(_events(data))

    def wake(self) -> None:
        """Let ``read`` return in another thread."""
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            pass  # it was woken already

    def close(self) -> None:
        for fd in (self._fd, self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        self._fd = self._wake_read = self._wake_write = -1


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        number, mask, _, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        yield number, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def _failed(text: str) -> HostError:
    number = ctypes.get_errno()
    hint = "See fs.inotify.max_user_instances and max_user_watches." if number in (24, 28) else ""
    return HostError(f"{text}: {os.strerror(number)}", errno=number, hint=hint)
