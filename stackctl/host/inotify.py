"""File changes by inotify(7)."""

import ctypes
import os
from pathlib import Path

from stackctl.errors import HostError

MODIFY = 0x2
CREATE = 0x100
MOVED_TO = 0x80
MOVE_SELF = 0x800
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


def _failed(text: str) -> HostError:
    number = ctypes.get_errno()
    hint = "See fs.inotify.max_user_instances and max_user_watches." if number in (24, 28) else ""
    return HostError(f"{text}: {os.strerror(number)}", errno=number, hint=hint)
