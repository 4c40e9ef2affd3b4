"""Standard streams: over the attach socket of conmon, and over pipes or a terminal of our own.

Output is read as soon as it is there into a bounded buffer. When nobody takes it the reading stops, and with it, as
on any pipe, in the end the writer.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from stackctl.errors import ConflictError

_PACKET = 8192
_READ = 65536
_HIGH = 4 << 20
_LOW = 1 << 20
_PATIENCE = 4.0
_STDOUT, _STDERR = 2, 3  # conmon's first byte of a packet


class OutputBuffer:
    """Chunks on their way from readers to the one iterator; ends when every reader has."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._sources: dict[int, tuple[int, Callable[[], None]]] = {}
        self._paused = False
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(
        self, descriptor: int, stream: int, read: Callable[[], tuple[int, bytes] | None]
    ) -> None:
        """Read ``descriptor`` whenever it is ready; ``read`` returns None at the end of its stream."""

        def ready() -> None:
            try:
                chunk = read()
            except BlockingIOError:
                return
            except OSError:
                chunk = None
            if chunk is None:
                self.drop(descriptor)
            elif chunk[1]:
                self._put(chunk)

        self._sources[descriptor] = (stream, ready)
        ready()  # much has said all it has to say by now
        if descriptor in self._sources and not self._paused:
            self._loop.add_reader(descriptor, ready)

    def drop(self, descriptor: int) -> None:
        """Forget a source; may be repeated."""
        if self._sources.pop(descriptor, None) is not None:
            self._loop.remove_reader(descriptor)
        self._changed.set()

    def drop_all(self) -> None:
        for descriptor in list(self._sources):
            self.drop(descriptor)
        self._changed.set()

    @property
    def ended(self) -> bool:
        return not self._sources

    async def chunks(self) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            while self._chunks:
                stream, data = self._chunks.popleft()
                self._size -= len(data)
                if self._paused and self._size < _LOW:
                    self._resume()
                yield stream, data
            if not self._sources:
                return
            self._changed.clear()
            await self._changed.wait()

    def _put(self, chunk: tuple[int, bytes]) -> None:
        stream, data = chunk
        self._chunks.append((stream, data))
        self._size += len(data)
        self._changed.set()
        if self._size > _HIGH and not self._paused:
            self._paused = True
            for descriptor in self._sources:
                self._loop.remove_reader(descriptor)

    def _resume(self) -> None:
        self._paused = False
        for descriptor, (_, ready) in self._sources.items():
            self._loop.add_reader(descriptor, ready)


_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.EBADF, errno.ENOTCONN)


class InputWriter:
    """Writes to a descriptor that does not block, and can be told to stop while it waits for room."""

    def __init__(self, descriptor: int, send: Callable[[memoryview], int]) -> None:
        self._descriptor = descriptor
        self._send = send
        self._room: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self.stopped = False

    async def write(self, data: bytes) -> None:
        """Write everything as room comes; success when the other side is gone."""
        view = memoryview(data)
        async with self._turn:
            while view and not self.stopped:
                try:
                    view = view[self._send(view) :]
                except BlockingIOError:
                    await self._wait_for_room()
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
                    self.stop()

    def stop(self) -> None:
        """Write no more; the descriptor may be closed afterwards. May be repeated."""
        self.stopped = True
        if self._room is not None:
            asyncio.get_running_loop().remove_writer(self._descriptor)
            _tell(self._room)

    async def _wait_for_room(self) -> None:
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(self._descriptor, _tell, self._room)
        try:
            await self._room
        finally:
            self._room = None
            if not self.stopped:
                loop.remove_writer(self._descriptor)


def _tell(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)


class AttachedStreams:
    """A container's streams, over conmon's SOCK_SEQPACKET socket."""

    def __init__(
        self, connection: socket.socket, *, park: Callable[[socket.socket], None] | None
    ) -> None:
        self._socket = connection
        self._park = park
        self._input = InputWriter(connection.fileno(), connection.send)
        self._input_closed = False
        self._closed = False
        self._buffer = OutputBuffer()
        self._buffer.add(connection.fileno(), 1, self._receive)

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        return self._buffer.chunks()

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), _PACKET):
            await self._input.write(data[start : start + _PACKET])

    async def close_input(self) -> None:
        if not self._input_closed and not self._closed:
            self._input_closed = True
            self._input.stop()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._input.stop()
        self._buffer.drop_all()
        if self._park is not None and not self._input_closed:
            # conmon takes the end of this connection for the end of input: it must outlive us, deaf.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
            self._park(self._socket)
        else:
            self._socket.close()

    def _receive(self) -> tuple[int, bytes] | None:
        packet = self._socket.recv(_PACKET + 1)
        if not packet:
            return None
        return (2 if packet[0] == _STDERR else 1), packet[1:]


async def connect(
    bundle: Path, *, park: Callable[[socket.socket], None] | None = None
) -> AttachedStreams:
    """Connect to the monitor of a bundle; raises ConflictError when it is gone.

    ``park`` takes the connection of a stream that leaves without closing the input.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        directory = os.open(bundle, os.O_PATH | os.O_CLOEXEC)
        try:
            # A socket's address has 107 bytes; a bundle's path may have more.
            await _connect(connection, f"/proc/self/fd/{directory}/attach")
        finally:
            os.close(directory)
    except OSError as error:
        connection.close()
        raise ConflictError(f"container {bundle.name} is not running") from error
    return AttachedStreams(connection, park=park)


async def _connect(connection: socket.socket, address: str) -> None:
    pause = 0.001
    while True:
        try:
            connection.connect(address)
            return
        except BlockingIOError:
            # Ten wait to be accepted already. The kernel tells nobody when there is room again.
            if pause > _PATIENCE:
                raise
            await asyncio.sleep(pause)
            pause *= 2


class PipeStreams:
    """The streams of a process that was given pipes, or one end of a terminal."""

    def __init__(
        self, *, stdin: int = -1, stdout: int = -1, stderr: int = -1, terminal: int = -1
    ) -> None:
        """Take the descriptors over; for a terminal all of them are one."""
        self._stdin = stdin
        self._terminal = terminal
        typed = terminal if terminal >= 0 else stdin
        self._input = InputWriter(typed, lambda view: os.write(typed, view))
        self._buffer = OutputBuffer()
        self._open: list[int] = []
        for descriptor, stream in ((stdout, 1), (stderr, 2), (terminal, 1)):
            if descriptor >= 0:
                os.set_blocking(descriptor, False)
                self._open.append(descriptor)
                self._buffer.add(descriptor, stream, _reader(descriptor, stream))
        if stdin >= 0:
            os.set_blocking(stdin, False)

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        return self._buffer.chunks()

    def end_output(self) -> None:
        """Let the iterator end, whoever still holds the other end."""
        self._buffer.drop_all()

    @property
    def ended(self) -> bool:
        return self._buffer.ended

    @property
    def terminal(self) -> int:
        return self._terminal

    async def write(self, data: bytes) -> None:
        if self._terminal >= 0 or self._stdin >= 0:
            await self._input.write(data)

    async def close_input(self) -> None:
        # A terminal has no half-close: end of file is a character there, and the client's to send.
        self._close_stdin()

    async def close(self) -> None:
        self._input.stop()
        self._close_stdin()
        self._buffer.drop_all()
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()
        self._terminal = -1

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            self._input.stop()
            os.close(self._stdin)
            self._stdin = -1


def _reader(descriptor: int, stream: int) -> Callable[[], tuple[int, bytes] | None]:
    def read() -> tuple[int, bytes] | None:
        data = os.read(descriptor, _READ)
        return (stream, data) if data else None

    return read
