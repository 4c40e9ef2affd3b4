"""Keyboard: single keys while something else is shown; the terminal is given back whatever happens.

Ctrl-C and Ctrl-Z keep their meaning, and output goes on as it does in any terminal. In the background nothing
is read, and what the shell set up is left alone.
"""

import atexit
import os
import re
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Sequence

_ERASE = ("\x7f", "\b")
_KILL = "\x15"
_CANCEL = ("\x1b", "\x04")
_BACKGROUND_PAUSE = 0.2
# What arrows and function keys send; it means nothing here.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])")


def available() -> bool:
    """Tell whether somebody sits at a terminal that can be read and written."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


class Keyboard:
    """Calls ``pressed`` with each key in a thread of its own; enter it in the main thread."""

    def __init__(self, pressed: Callable[[str], None]) -> None:
        self._pressed = pressed
        self._fd = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._fd)
        self._stop_read, self._stop_write = os.pipe()
        self._ready = ""
        self._thread = threading.Thread(target=self._listen, name="keys", daemon=True)

    def __enter__(self) -> "Keyboard":
        atexit.register(self._give_back)
        signal.signal(signal.SIGTSTP, self._suspend)
        signal.signal(signal.SIGCONT, lambda *_: self._take())
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        atexit.unregister(self._give_back)
        os.write(self._stop_write, b"x")
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=1)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)
        if not self._thread.is_alive():
            os.close(self._stop_read)
            os.close(self._stop_write)

    def ask(self, question: str, choices: Sequence[str]) -> str | None:
        """Ask for one of the choices on one line; "" for none of them, None for "never mind". For ``pressed`` alone.

        Tab completes, and the beginning of a name is enough where it is the only one.
        """
        _show(question)
        typed = ""
        while True:
            key = self._key()
            if key is None or key in _CANCEL:
                _show("\n")
                return None
            if key in "\r\n":
                _show("\n")
                found = _matches(typed, choices)
                if not typed or len(found) == 1:
                    return found[0] if typed else ""
                _show(f"{typed}: one of {', '.join(found or choices)}\n{question}")
                typed = ""
            elif key == "\t":
                rest = _common(_matches(typed, choices))[len(typed) :]
                typed += rest
                _show(rest)
            elif key in _ERASE:
                _show("\b \b" if typed else "")
                typed = typed[:-1]
            elif key == _KILL:
                _show("\b \b" * len(typed))
                typed = ""
            elif key.isprintable():
                typed += key
                _show(key)

    # The terminal

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return False

    def _take(self) -> None:
        if self._is_ours():
            tty.setcbreak(self._fd, termios.TCSADRAIN)

    def _give_back(self) -> None:
        if self._is_ours():
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _suspend(self, *_: object) -> None:
        """Stop as Ctrl-Z stops any program; SIGCONT brings the keys back."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._suspend)

    # The thread

    def _listen(self) -> None:
        while (key := self._key()) is not None:
            self._pressed(key)

    def _key(self) -> str | None:
        """Return the next key; None when it is over."""
        while not self._ready:
            ready, _, _ = select.select([self._fd, self._stop_read], [], [])
            if self._stop_read in ready:
                return None
            if not self._is_ours():
                # A read would stop us until we are brought to the front.
                if select.select([self._stop_read], [], [], _BACKGROUND_PAUSE)[0]:
                    return None
                continue
            try:
                data = os.read(self._fd, 1024)
            except OSError:
                return None
            if not data:
                return None
            self._ready = _SEQUENCE.sub("", data.decode(errors="replace"))
        key, self._ready = self._ready[0], self._ready[1:]
        return key


def _matches(typed: str, choices: Sequence[str]) -> list[str]:
    return [typed] if typed in choices else [name for name in choices if name.startswith(typed)]


def _common(names: Sequence[str]) -> str:
    """Return what all of the names begin with."""
    least, most = min(names, default=""), max(names, default="")
    same = (index for index, letter in enumerate(least) if most[index : index + 1] != letter)
    return least[: next(same, len(least))]


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
