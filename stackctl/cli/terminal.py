"""Raw mode, window size and signals."""

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator

from stackctl.errors import InvalidInputError

DETACH_KEYS = b"\x10\x11"  # ctrl-p ctrl-q


def parse_keys(text: str) -> bytes:
    """Read "ctrl-p,ctrl-q" or "a,ctrl-]": a key is one character or ctrl- and one of a-z @ [ ] ^ _ and backslash."""
    keys = b""
    for part in text.split(",") if text else ():
        name = part.removeprefix("ctrl-")
        if name != part and len(name) == 1 and "@" <= name.upper() <= "_":
            keys += bytes((ord(name.upper()) - 64,))
        elif len(part) == 1 and part.isascii():
            keys += part.encode()
        else:
            raise InvalidInputError(
                f'--detach-keys: "{part}" is no key', hint="such as ctrl-p,ctrl-q"
            )
    return keys


def size() -> tuple[int, int]:
    """Return the terminal's height and width in characters; (24, 80) where there is none."""
    for stream in (sys.stdout, sys.stdin, sys.stderr):
        try:
            packed = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
        except (OSError, ValueError):
            continue
        height, width, _, _ = struct.unpack("HHHH", packed)
        if height and width:
            return height, width
    return 24, 80


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Hand every key to the program in the container, until leaving."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def on_resize(tell: Callable[[int, int], None]) -> Iterator[None]:
    """Call ``tell(height, width)`` now and whenever the window changes."""
    tell(*size())
    before = signal.signal(signal.SIGWINCH, lambda *_: tell(*size()))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


class Input:
    """Copies standard input to the container in a thread; sees the keys that detach."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        leave: Callable[[], None],
        *,
        detach_keys: bytes,
    ) -> None:
        self.detached = threading.Event()
        self._write = write
        self._close = close
        self._leave = leave
        self._detach_keys = detach_keys
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> "Input":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join(timeout=1)
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _copy(self) -> None:
        fd = sys.stdin.fileno()
        held = b""
        while True:
            # Regular files cannot be polled but are always ready; select accepts them.
            ready, _, _ = select.select([fd, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            with contextlib.suppress(OSError):
                if not data:
                    self._close()
                    return
                data, held = held + data, b""
                if self._detach_keys and self._detach_keys in data:
                    self._write(data[: data.index(self._detach_keys)])
                    self.detached.set()
                    self._leave()
                    return
                # What may be the beginning of the keys is held back until the next one tells.
                length = _overlap(data, self._detach_keys)
                data, held = data[: len(data) - length], data[len(data) - length :]
                if data:
                    self._write(data)


def _overlap(data: bytes, keys: bytes) -> int:
    """Return how many bytes at the end of the data begin the keys."""
    for length in range(min(len(keys) - 1, len(data)), 0, -1):
        if data.endswith(keys[:length]):
            return length
    return 0
