"""Joining a container's standard streams to the user's: what exec, run and attach share."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from stackctl.cli import terminal
from stackctl.errors import ConflictError, InvalidInputError, StackctlError
from stackctl.orchestrator.apply.contract import Conversation

STDERR = 2
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts to set the size
HandOn = Callable[[int], None]


def variables(pairs: Sequence[str]) -> Iterator[str]:
    """Yield NAME=VALUE; a bare NAME takes its value from our own environment, as docker does."""
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not name:
            raise InvalidInputError(f'--env: "{pair}" has no name', hint="write it as NAME=VALUE")
        if equals:
            yield pair
        elif name in os.environ:
            yield f"{name}={os.environ[name]}"


def join(
    connection: Conversation,
    *,
    tty: bool,
    stdin: bool,
    resize: Callable[[int, int], None],
    started: Callable[[], None] | None = None,
    detach_keys: bytes = terminal.DETACH_KEYS,
) -> bool:
    """Copy both ways until the program closes its output; True when the user left by ctrl-p ctrl-q.

    ``started`` is called once the streams are joined, so that nothing of the output is lost. ``resize`` takes
    height and width; a program that has ended already needs none.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        keys = terminal.Input(
            connection.write,
            connection.close_write,
            connection.close,
            detach_keys=detach_keys if tty else b"",
        )
        if tty:
            undo.enter_context(terminal.raw())
        if started:
            started()
        if tty:
            undo.enter_context(terminal.on_resize(_forgiving(resize)))
        if stdin:
            undo.enter_context(keys)
        for stream, data in connection:
            _write(sys.stderr if stream == STDERR else sys.stdout, data)
        return keys.detached.is_set()


def _forgiving(resize: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Return what tells the program its window's size, from a thread, again until the program has begun."""
    one_at_a_time = threading.Lock()

    def persist() -> None:
        with one_at_a_time:
            for pause in _PAUSES:
                try:
                    # The newest size: the window may have changed while we waited for our turn.
                    resize(*terminal.size())
                except ConflictError:
                    time.sleep(pause)
                except (StackctlError, OSError):
                    return
                else:
                    return

    def tell(_height: int, _width: int) -> None:
        threading.Thread(target=persist, daemon=True).start()

    return tell


def _write(stream: TextIO, data: bytes) -> None:
    stream.buffer.write(data)
    stream.buffer.flush()
