"""Somebody at a terminal: types a command, waits for what it shows, presses keys, changes the window's size."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

# A session whose controlling terminal this is, so that Ctrl-C arrives as from a keyboard.
_IN_A_SESSION = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "stackctl", *sys.argv[1:]])
"""


class Typist:
    """One command on a terminal of its own; used as a context manager, which ends it."""

    def __init__(
        self,
        argv: list[str],
        *,
        cwd: Path,
        environ: dict[str, str],
        rows: int = 30,
        columns: int = 100,
    ) -> None:
        self.master, slave = pty.openpty()
        self._size(slave, rows, columns)
        self.shown = b""
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _IN_A_SESSION,
                *argv,
            ],
            cwd=cwd,
            env={**environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def __enter__(self) -> "Typist":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.master)

    @staticmethod
    def _size(fd: int, rows: int, columns: int) -> None:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows: int, columns: int) -> None:
        """Drag the window's corner."""
        self._size(self.master, rows, columns)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def see(self, pattern: bytes, *, within: float = 60) -> re.Match[bytes]:
        """Return the first match in what is shown from now on, and forget up to its end; fails when it stays away."""
        deadline = time.monotonic() + within
        while True:
            if match := re.search(pattern, self.shown):
                self.shown = self.shown[match.end() :]
                return match
            left = deadline - time.monotonic()
            if left <= 0 or not self._more(left):
                raise AssertionError(f"{pattern!r} is not in {self.shown[-3000:]!r}")

    def _more(self, seconds: float) -> bool:
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data
        return bool(data)

    def code(self, *, within: float = 90) -> int:
        """Return the exit code once it ended; what it shows until then is read."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline and self._more(0.5):
            if self.process.poll() is not None and not select.select([self.master], [], [], 0)[0]:
                break
        return self.process.wait(max(deadline - time.monotonic(), 1))
