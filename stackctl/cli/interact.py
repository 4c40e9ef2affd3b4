"""Joining a container's standard streams to the user's: what exec, run and attach share."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from stackctl.api.framing import Decoder
from stackctl.cli import terminal
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.values import Json, JsonObject


class Connection(Protocol):
    """A hijacked connection to the engine."""

    def recv(self) -> bytes:
        """Return the next bytes; empty at the end."""

    def sendall(self, data: bytes) -> None:
        """Send bytes."""

    def close_write(self) -> None:
        """Say that no more bytes come."""

    def close(self) -> None:
        """Hang up."""


class Poster(Protocol):
    """The one call that resizing needs."""

    def post(self, path: str, body: JsonObject | None = None, **query: Json) -> Json:
        """POST and return the JSON answer."""


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


def identity(answer: Json) -> str:
    """Return the Id of what a create call made."""
    match answer:
        case {"Id": str(found)}:
            return found
    raise StackctlError("the engine's answer to a create call has no Id")


def exit_code(answer: Json, key: str) -> int:
    """Return the exit code from an inspect or wait answer; 255 where the engine does not know it."""
    match answer:
        case dict() if isinstance(code := answer.get(key), int):
            return code & 0xFF
    return 255


def try_resize(engine: Poster, path: str, height: int, width: int) -> None:
    """Set a terminal's size; a program that has ended already needs none."""
    with contextlib.suppress(StackctlError):
        engine.post(f"{path}/resize", None, h=height, w=width)


def join(
    connection: Connection,
    *,
    tty: bool,
    stdin: bool,
    resize: Callable[[int, int], None],
    started: Callable[[], None] | None = None,
) -> bool:
    """Copy both ways until the program closes its output; True when the user left by ctrl-p ctrl-q.

    ``started`` is called once the streams are joined, so that nothing of the output is lost.
    """
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        keys = terminal.Input(connection.sendall, connection.close_write, detach_keys=tty)
        if tty:
            undo.enter_context(terminal.raw())
        if started:
            started()
        if tty:
            undo.enter_context(terminal.on_resize(resize))
        if stdin:
            undo.enter_context(keys)
        _copy_out(connection, tty=tty)
        return keys.detached.is_set()


def _copy_out(connection: Connection, *, tty: bool) -> None:
    decoder = Decoder()
    while data := connection.recv():
        if tty:
            _write(sys.stdout, data)
            continue
        for stream, piece in decoder.feed(data):
            _write(sys.stderr if stream in (2, 3) else sys.stdout, piece)


def _write(stream: object, data: bytes) -> None:
    buffer = stream.buffer  # type: ignore[attr-defined]
    buffer.write(data)
    buffer.flush()
