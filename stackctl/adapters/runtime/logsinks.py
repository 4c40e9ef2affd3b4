"""LogSinks by sockets: journald's, syslog's on this machine, UDP and TCP."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

JOURNAL = Path("/run/systemd/journal/socket")
SYSLOG = Path("/dev/log")
_PAUSE = 1.0
_PORT = 514


class SocketSink:
    """A connection that is made when it is needed and made anew when it broke.

    On a stream each message ends with a line feed, as syslog daemons frame them.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None

    async def send(self, message: bytes) -> None:
        while True:
            try:
                await self._try(message)
            except OSError:
                # The container writes into its file; what it says meanwhile waits there.
                await self.close()
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _try(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._socket = await asyncio.to_thread(self._connect)
            self._socket.setblocking(False)
        if self._socket.type == socket.SOCK_STREAM:
            message += b"\n"
        await loop.sock_sendall(self._socket, message)

    async def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


class MachineLogSinks:
    """The logs of this machine and of the network."""

    def __init__(self, journal: Path = JOURNAL, syslog: Path = SYSLOG) -> None:
        self._journal = journal
        self._syslog = syslog

    def has_journal(self) -> bool:
        return self._journal.exists()

    def has_syslog(self) -> bool:
        return self._syslog.exists()

    def journal(self) -> SocketSink:
        return SocketSink(lambda: _unix(str(self._journal), socket.SOCK_DGRAM))

    def syslog(self, address: str) -> SocketSink:
        return SocketSink(lambda: _reach(address or f"unixgram://{self._syslog}"))


def _reach(address: str) -> socket.socket:
    parts = urlsplit(address)
    if parts.scheme in ("unix", "unixgram"):
        kind = socket.SOCK_DGRAM if parts.scheme == "unixgram" else socket.SOCK_STREAM
        return _unix(parts.path, kind)
    where = (parts.hostname or "localhost", parts.port or _PORT)
    if parts.scheme == "tcp":
        return socket.create_connection(where, timeout=5.0)
    family, kind, number, _, found = socket.getaddrinfo(*where, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, number)
    sock.connect(found)
    return sock


def _unix(path: str, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
