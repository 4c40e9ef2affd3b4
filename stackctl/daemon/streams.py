"""Upgraded connections (attach, exec) and batched streaming: bytes between a client and a process."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from stackctl.api.detach import Detector
from stackctl.api.framing import SYSTEM_ERROR, encode_frame
from stackctl.api.versions import Version
from stackctl.contracts.runtime import Streams
from stackctl.daemon.call import Call, base_headers
from stackctl.daemon.errors import text_of
from stackctl.errors import StackctlError, UnsupportedError

RAW_TYPE = "application/vnd.docker.raw-stream"
MULTIPLEXED_TYPE = "application/vnd.docker.multiplexed-stream"
_MULTIPLEXED_SINCE: Version = (1, 42)
_CHUNK = 256 * 1024
_LARGE = 32 * 1024


def stream_type(version: Version, *, tty: bool) -> str:
    """Return the content type of a stream that says what it is (API 1.42 on)."""
    return RAW_TYPE if tty or version < _MULTIPLEXED_SINCE else MULTIPLEXED_TYPE


class Connection:
    """The client's socket after the upgrade: ours alone, half-closable."""

    __slots__ = ("_loop", "_socket", "_tail")

    def __init__(self, sock: socket.socket, tail: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._tail = tail

    async def receive(self) -> bytes:
        """Return what the client sent; b"" when it sends no more."""
        if self._tail:
            tail, self._tail = self._tail, b""
            return tail
        try:
            return await self._loop.sock_recv(self._socket, _CHUNK)
        except OSError:
            return b""

    async def send(self, data: bytes) -> None:
        """Send; raises OSError when the client is gone."""
        await self._loop.sock_sendall(self._socket, data)

    def end(self) -> None:
        """Tell the client that nothing more comes; may be repeated."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def gone(self) -> None:
        """Return when the client has closed both directions; half-closing its side is not leaving."""
        # An epoll of its own reports hang-ups alone and is itself a file that the loop can wait for.
        poll = select.epoll()
        try:
            poll.register(self._socket.fileno(), 0)
            hung_up = asyncio.Event()
            self._loop.add_reader(poll.fileno(), hung_up.set)
            try:
                await hung_up.wait()
            finally:
                self._loop.remove_reader(poll.fileno())
        finally:
            poll.close()

    def close(self) -> None:
        """Close; unread input is taken first, so that the client sees an end and not a reset."""
        self.end()
        with contextlib.suppress(OSError):
            while self._socket.recv(_CHUNK):
                pass
        self._socket.close()


async def hijack(call: Call, *, tty: bool, protocol: str = "tcp") -> Connection:
    """Answer 101 to the protocol (or 200 without an Upgrade header) and take the connection over."""
    request = call.request
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    transport.pause_reading()
    original: socket.socket | None = transport.get_extra_info("socket")
    if original is None:
        raise UnsupportedError("this connection cannot be upgraded")
    sock = original.dup()
    sock.setblocking(False)
    upgraded = (
        "upgrade" in request.headers.get("Connection", "").lower() or "Upgrade" in request.headers
    )
    lines = _head(call, protocol if upgraded else "", tty=tty)
    # What came with the request's head was read by the HTTP parser already.
    tail: bytes = getattr(request.protocol, "_message_tail", b"")
    connection = Connection(sock, tail)
    call.started = True
    try:
        await connection.send(lines)
    except OSError:
        connection.close()
        transport.abort()
        raise
    return connection


def _head(call: Call, protocol: str, *, tty: bool) -> bytes:
    if protocol:
        lines = [
            "HTTP/1.1 101 UPGRADED",
            f"Content-Type: {stream_type(call.version, tty=tty)}",
            "Connection: Upgrade",
            f"Upgrade: {protocol}",
        ]
    else:
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {RAW_TYPE}"]
    lines += [f"{name}: {value}" for name, value in base_headers(call.version).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def join(
    connection: Connection,
    streams: Streams,
    *,
    tty: bool,
    wants: frozenset[int],
    stdin: bool,
    keys: bytes,
) -> None:
    """Carry bytes both ways until the output ends, the client leaves or types the detach keys.

    ``wants`` holds the output streams to pass on (1, 2). The process goes on in any case.
    """
    tasks = [
        asyncio.create_task(_carry_output(connection, streams, tty=tty, wants=wants)),
        asyncio.create_task(connection.gone()),
    ]
    feeder = asyncio.create_task(
        _carry_input(connection, streams, Detector(keys) if tty and keys else None, stdin=stdin)
    )
    waiting = {*tasks, feeder}
    try:
        while not any(task.done() for task in tasks):
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if feeder.done():
                waiting.discard(feeder)
                if not feeder.cancelled() and feeder.exception() is None and feeder.result():
                    break
    finally:
        for task in (*tasks, feeder):
            task.cancel()
        await asyncio.gather(*tasks, feeder, return_exceptions=True)


async def _carry_output(
    connection: Connection, streams: Streams, *, tty: bool, wants: frozenset[int]
) -> None:
    try:
        async for stream, data in streams.output():
            if stream in wants:
                await connection.send(data if tty else encode_frame(stream, data))
        connection.end()
    except OSError:
        return
    except StackctlError as error:
        with contextlib.suppress(OSError):
            text = f"{text_of(error)}\r\n".encode()
            await connection.send(text if tty else encode_frame(SYSTEM_ERROR, text))


async def _carry_input(
    connection: Connection, streams: Streams, detector: Detector | None, *, stdin: bool
) -> bool:
    """Pass input on until the client sends no more; True when the detach keys were typed."""
    while data := await connection.receive():
        if not stdin:
            continue
        if detector is not None:
            data = detector.feed(data)
        if data:
            await streams.write(data)
        if detector is not None and detector.detached:
            return True
    if stdin:
        await streams.close_input()
    return False


def finish(call: Call, connection: Connection) -> web.StreamResponse:
    """Close an upgraded connection and end the call."""
    connection.close()
    call.cut()
    return web.Response()


class Batcher:
    """Gathers small writes while the source has more at hand, and sends them when it pauses."""

    __slots__ = ("_buffer", "_limit", "_send", "_task")

    def __init__(self, send: Callable[[bytes], Awaitable[None]], *, limit: int = _CHUNK) -> None:
        self._send = send
        self._buffer = bytearray()
        self._limit = limit
        self._task: asyncio.Task[None] | None = None

    def add(self, data: bytes) -> bool:
        """Take one piece; True when so much is waiting that the caller should flush."""
        self._buffer += data
        if len(self._buffer) >= self._limit:
            return True
        if self._task is None or self._task.done():
            # The task runs when the source waits: then what is here is all there is.
            self._task = asyncio.create_task(self._flush_later())
        return False

    async def _flush_later(self) -> None:
        with contextlib.suppress(OSError):
            await self._drain()

    async def _drain(self) -> None:
        while self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            await self._send(data)

    async def flush(self) -> None:
        """Send everything; raises OSError when the client is gone."""
        if self._task is not None and not self._task.done():
            await self._task
        await self._drain()


async def until_gone(
    call: Call, source: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]]
) -> None:
    """Send what the source yields until it ends or the client closes the connection.

    A source may stay silent for ever (events, logs of an idle container), so leaving is watched for, not found out by
    writing.
    """
    transport = call.request.transport
    if transport is None:
        return
    sock: socket.socket = transport.get_extra_info("socket").dup()
    connection = Connection(sock, b"")
    leaving = asyncio.create_task(connection.gone())
    carrying = asyncio.create_task(_carry(source, send))
    try:
        await asyncio.wait({leaving, carrying}, return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            carrying.result()
    finally:
        for task in (leaving, carrying):
            task.cancel()
        await asyncio.gather(leaving, carrying, return_exceptions=True)
        sock.close()


async def _carry(source: AsyncIterator[bytes], send: Callable[[bytes], Awaitable[None]]) -> None:
    batcher = Batcher(send)
    with contextlib.suppress(ConnectionError):
        async for data in source:
            if len(data) >= _LARGE:
                await batcher.flush()
                await send(data)
            elif batcher.add(data):
                await batcher.flush()
        await batcher.flush()
