"""TCP for the engine: mutual TLS in front of the HTTP server, or plain where that was asked for by name.

TLS is taken apart here and not by the event loop, since the loop ends a connection when the client closes its half,
and ``docker run -i`` over TLS needs the other half to stay open.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from stackctl.daemon.settings import TlsFiles
from stackctl.errors import HostError, InvalidInputError

log = logging.getLogger(__name__)
_CHUNK = 65536
_HANDSHAKE_SECONDS = 10.0

Factory = Callable[[], asyncio.BaseProtocol]


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context that shows our certificate and demands one of the clients'. Raises HostError naming the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    for name, path in (("tlscacert", files.ca), ("tlscert", files.cert), ("tlskey", files.key)):
        if not path.is_file():
            raise HostError(f"--{name}: there is no file {path}", hint="name the three TLS files")
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.cert, files.key)
    except (ssl.SSLError, OSError) as error:
        raise HostError(
            f"cannot use {files.cert} with {files.key} and {files.ca}: {error}"
        ) from error
    return context


def address_of(host: str) -> tuple[str, int]:
    """Return the address and port of tcp://ADDRESS:PORT; 2376 when no port is given, as dockerd's with TLS."""
    text = host.removeprefix("tcp://").rstrip("/")
    name, colon, port = text.rpartition(":")
    if not colon or name.endswith(":"):
        name, port = text, "2376"
    if not port.isdecimal() or int(port) > 65535:
        raise InvalidInputError(f'invalid --host "{host}": expected tcp://ADDRESS:PORT')
    return name.strip("[]") or "127.0.0.1", int(port)


async def listen(
    host: str, factory: Factory, context: ssl.SSLContext | None
) -> asyncio.AbstractServer:
    """Serve one tcp:// address; without a context in plain. Raises HostError when the address cannot be had."""
    address, port = address_of(host)
    try:
        if context is None:
            loop = asyncio.get_running_loop()
            return await loop.create_server(factory, address, port)

        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _Front(context, factory, reader, writer).run()
            except (OSError, TimeoutError, ssl.SSLError) as error:
                log.debug("TLS connection: %s", error)
            finally:
                writer.transport.abort()

        return await asyncio.start_server(client, address, port, limit=_CHUNK)
    except OSError as error:
        raise HostError(f"cannot serve {host}: {error.strerror}", errno=error.errno or 0) from error


class _Front:
    """One client: its TLS connection outside, a plain socket pair to the HTTP server inside."""

    def __init__(
        self,
        context: ssl.SSLContext,
        factory: Factory,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._factory = factory
        self._reader = reader
        self._writer = writer

    async def run(self) -> None:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            await self._handshake()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(self._factory, theirs)
        reader, writer = await asyncio.open_connection(sock=ours, limit=_CHUNK)
        down = asyncio.create_task(self._down(reader))
        up = asyncio.create_task(self._up(writer))
        try:
            await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (down, up):
                task.cancel()
            await asyncio.gather(down, up, return_exceptions=True)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await self._flush()

    async def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                await self._flush()
                return
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()  # tell the client what was wrong
                raise

    async def _fill(self) -> None:
        data = await self._reader.read(_CHUNK)
        if not data:
            raise ConnectionResetError("the client is gone")
        self._in.write(data)

    async def _flush(self) -> None:
        if data := self._out.read():
            self._writer.write(data)
            await self._writer.drain()

    async def _up(self, inner: asyncio.StreamWriter) -> None:
        """Carry what the client sends; return when it is gone, not when it has closed its half alone."""
        while True:
            try:
                data = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                break
            inner.write(data)
            await inner.drain()
        inner.write_eof()
        while await self._reader.read(_CHUNK):
            pass

    async def _down(self, inner: asyncio.StreamReader) -> None:
        while data := await inner.read(_CHUNK):
            self._tls.write(data)
            await self._flush()
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # our end is told; the client's answer is not waited for
        await self._flush()
