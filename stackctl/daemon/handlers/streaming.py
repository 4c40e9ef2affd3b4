"""/containers/{id}: attach and logs."""

from collections.abc import AsyncIterator

from aiohttp import web

from stackctl.api import times
from stackctl.api.detach import parse_keys
from stackctl.api.framing import SYSTEM_ERROR, encode_frame
from stackctl.daemon.call import Call
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import (
    finish,
    hijack,
    join,
    stream_type,
    until_gone,
)
from stackctl.engine.requests import LogQuery
from stackctl.errors import InvalidInputError, StackctlError


async def attach(call: Call) -> web.StreamResponse:
    engine = call.engine
    record = engine.containers.resolve(call.args["id"])
    tty = record.spec.tty
    keys = parse_keys(call.text("detachKeys"))
    wants = _wanted(call)
    stdin = call.flag("stdin") and record.spec.open_stdin
    streams = await engine.running.attach(
        record.id,
        stdin=stdin,
        stdout=1 in wants,
        stderr=2 in wants,
        logs=call.flag("logs"),
        stream=call.flag("stream"),
    )
    try:
        connection = await hijack(call, tty=tty)
        try:
            await join(connection, streams, tty=tty, wants=wants, stdin=stdin, keys=keys)
        finally:
            response = finish(call, connection)
        return response
    finally:
        await streams.close()


def _wanted(call: Call) -> frozenset[int]:
    return frozenset(number for number, name in ((1, "stdout"), (2, "stderr")) if call.flag(name))


async def logs(call: Call) -> web.StreamResponse:
    record = call.engine.containers.resolve(call.args["id"])
    wants = _wanted(call)
    if not wants:
        raise InvalidInputError("Bad parameters: you must choose at least one stream")
    tty = record.spec.tty
    query = LogQuery(
        stdout=1 in wants,
        stderr=2 in wants,
        since=call.instant("since"),
        until=call.instant("until"),
        tail=_tail(call),
        follow=call.flag("follow"),
    )
    source = call.engine.logs.read(record.id, query)
    stamped = call.flag("timestamps")
    response = await call.stream(stream_type(call.version, tty=tty))

    async def frames() -> AsyncIterator[bytes]:
        try:
            async for stream, seconds, line in source:
                if stamped:
                    line = times.rfc3339_nano(seconds).encode() + b" " + line
                yield line if tty else encode_frame(stream, line)
        except StackctlError as error:
            text = f"Error grabbing logs: {text_of(error)}\n".encode()
            yield text if tty else encode_frame(SYSTEM_ERROR, text)

    await until_gone(call, frames(), response.write)
    await response.write_eof()
    return response


def _tail(call: Call) -> int:
    """Return how many lines from the end; -1 for all. What is no number means all, as in Docker."""
    text = call.text("tail")
    return int(text[:12]) if text.isdigit() else -1


ROUTES = (
    ("POST", "/containers/{id}/attach", attach),
    ("GET", "/containers/{id}/logs", logs),
)
