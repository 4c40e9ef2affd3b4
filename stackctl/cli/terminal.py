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

CTRL_P = 0x10
CTRL_Q = 0x11


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
        self, write: Callable[[bytes], None], close: Callable[[], None], *, detach_keys: bool
    ) -> None:
        self.detached = threading.Event()
        self._write = write
        self._close = close
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
                if self._detach_keys:
                    data, held = held + data, b""
                    if bytes((CTRL_P, CTRL_Q)) in data:
                        self.detached.set()
                        self._close()
                        return
                    if data[-1] == CTRL_P:
                        data, held = data[:-1], data[-1:]
                self._write(data)
