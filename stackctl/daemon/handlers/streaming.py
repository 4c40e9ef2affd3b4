"""/containers/{id}: attach and logs."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from stackctl.api.detach import parse_keys
from stackctl.api.framing import SYSTEM_ERROR, encode_frame, encode_frames
from stackctl.contracts.runtime import LogPart, Streams
from stackctl.daemon.call import Call
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import (
    finish,
    hijack,
    join,
    stream_type,
    until_gone,
)
from stackctl.engine.logmessages import details_of
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


async def attach_ws(call: Call) -> web.StreamResponse:
    """Attach over a WebSocket: output as binary messages without frames, messages that come as input."""
    engine = call.engine
    record = engine.containers.resolve(call.args["id"])
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
        socket = web.WebSocketResponse()
        await socket.prepare(call.request)
        call.started = True
        sending = asyncio.create_task(_send_output(socket, streams, wants))
        try:
            async for message in socket:
                if stdin and message.type in (web.WSMsgType.TEXT, web.WSMsgType.BINARY):
                    data = message.data
                    await streams.write(data.encode() if isinstance(data, str) else data)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return socket
    finally:
        await streams.close()


async def _send_output(
    socket: web.WebSocketResponse, streams: Streams, wants: frozenset[int]
) -> None:
    try:
        async for stream, data in streams.output():
            if stream in wants:
                await socket.send_bytes(data)
    finally:
        await socket.close()


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
        part=LogPart(
            since=call.nanoseconds("since"),
            until=call.nanoseconds("until"),
            tail=_tail(call),
            stamped=call.flag("timestamps"),
            details=details_of(record) if call.flag("details") else b"",
        ),
        follow=call.flag("follow"),
    )
    source = _framed(call.engine.logs.read(record.id, query), tty=tty)
    response = await call.stream(stream_type(call.version, tty=tty))

    await until_gone(call, _told(source, tty=tty), response.write)
    await response.write_eof()
    return response


async def _framed(
    source: AsyncIterator[list[tuple[int, list[bytes]]]], *, tty: bool
) -> AsyncIterator[bytes]:
    async for batch in source:
        for stream, texts in batch:
            yield b"".join(texts) if tty else encode_frames(stream, texts)


async def _told(source: AsyncIterator[bytes], *, tty: bool) -> AsyncIterator[bytes]:
    """Yield the source; an error after the head of the answer was sent is told in the stream."""
    try:
        async for data in source:
            yield data
    except StackctlError as error:
        text = f"Error grabbing logs: {text_of(error)}\n".encode()
        yield text if tty else encode_frame(SYSTEM_ERROR, text)


def _tail(call: Call) -> int:
    """Return how many lines from the end; -1 for all. What is no number means all, as in Docker."""
    text = call.text("tail")
    return int(text[:12]) if text.isdecimal() else -1


ROUTES = (
    ("POST", "/containers/{id}/attach", attach),
    ("GET", "/containers/{id}/attach/ws", attach_ws),
    ("GET", "/containers/{id}/logs", logs),
)
