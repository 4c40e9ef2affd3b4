"""The few calls of the hot path, without the price of the SDK's import: HTTP/1.1 over a socket.

Only ``socket`` and ``json`` are imported: http.client alone would cost three times what a whole ``ps`` takes. A thread
keeps its connection; a stream or a hijacked connection has one of its own.
"""

import contextlib
import io
import json
import socket
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast

from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    NotModifiedError,
    StackctlError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from stackctl.values import Json

KINDS: dict[int, type[StackctlError]] = {
    304: NotModifiedError,
    400: InvalidInputError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: UnsupportedError,
    409: ConflictError,
    501: UnsupportedError,
    503: UnavailableError,
}
Query = Mapping[str, str | int | bool | None]
_PIECE = 256 * 1024


class Answer:
    """One response, its body still on the wire."""

    def __init__(self, connection: "Connection", method: str) -> None:
        self._connection = connection
        self._file = connection.file
        status_line = self._file.readline(65536)
        if not status_line:
            raise EndOfConnectionError
        parts = status_line.split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/"):
            raise UnavailableError("what answers at the socket is not an engine")
        self.status = int(parts[1])
        self.headers: dict[str, str] = {}
        while (line := self._file.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "")
        length = self.headers.get("content-length", "")
        empty = method == "HEAD" or self.status in (204, 304) or self.status == 101
        self._left = 0 if empty else int(length) if length else -1
        if empty:
            self._chunked = False

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives."""
        if self._chunked:
            yield from self._chunks()
            return
        while self._left:
            size = _PIECE if self._left < 0 else min(self._left, _PIECE)
            data = self._file.read1(size)
            if not data:
                if self._left > 0:
                    raise UnavailableError(
                        "the engine closed the connection in the middle of its answer"
                    )
                self._connection.reusable = False
                return
            if self._left > 0:
                self._left -= len(data)
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._file.readline(65536)
            if not line:
                raise UnavailableError(
                    "the engine closed the connection in the middle of its answer"
                )
            left = int(line.split(b";")[0] or b"0", 16)
            if left == 0:
                while self._file.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                return
            while left:
                data = self._file.read1(min(left, _PIECE))
                if not data:
                    raise UnavailableError(
                        "the engine closed the connection in the middle of its answer"
                    )
                left -= len(data)
                yield data
            self._file.readline(8)

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.pieces())


class EndOfConnectionError(UnavailableError):
    """The engine hung up before it answered."""

    def __init__(self) -> None:
        super().__init__(
            "the engine closed the connection before it answered",
            hint="stackctl engine logs says why, for the built-in engine",
        )


class Connection:
    """One socket to the engine."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.file = cast(io.BufferedReader, sock.makefile("rb", buffering=65536))
        self.reusable = True

    def close(self) -> None:
        """Hang up; also from another thread, which ends a read in progress."""
        self.reusable = False
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        # The descriptor is the file's too. A read in progress has just been ended.
        with contextlib.suppress(OSError, ValueError):
            self.file.close()

    def __del__(self) -> None:
        """Hang up with the thread that kept the connection."""
        if hasattr(self, "file"):
            self.close()


class Transport:
    """Requests to one engine; safe to use from several threads."""

    def __init__(self, connect: Callable[[], socket.socket], *, host: str = "docker") -> None:
        self._connect = connect
        self._host = host
        self._local = threading.local()
        self._kept: weakref.WeakSet[Connection] = weakref.WeakSet()

    def close(self) -> None:
        """Hang up everything that is kept for the next request; that one opens a connection anew."""
        for connection in list(self._kept):
            connection.close()

    def open(self) -> Connection:
        """Return a fresh connection; raises what ``connect`` raises."""
        return Connection(self._connect())

    def send(
        self,
        connection: Connection,
        method: str,
        target: str,
        body: bytes | BinaryIO | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Write a request."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "User-Agent: stackctl"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is None or isinstance(body, bytes):
            data = body or b""
            if data or method in ("POST", "PUT"):
                lines.append(f"Content-Length: {len(data)}")
            connection.socket.sendall("\r\n".join([*lines, "", ""]).encode() + data)
            return
        lines.append("Transfer-Encoding: chunked")
        connection.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        for piece in _pieces_of(body):
            connection.socket.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.socket.sendall(b"0\r\n\r\n")

    def request(
        self,
        method: str,
        target: str,
        body: Json = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a call; raises the kind of error the status says."""
        data = None if body is None else json.dumps(body).encode()
        extra = {
            **({"Content-Type": "application/json"} if data is not None else {}),
            **(headers or {}),
        }
        while True:
            connection = getattr(self._local, "connection", None)
            if connection is not None and not connection.reusable:
                connection = None
            kept = connection is not None
            if connection is None:
                connection = self.open()
            self._local.connection = None
            try:
                self.send(connection, method, target, data, extra)
                answer = Answer(connection, method)
                content = answer.read()
            except (EndOfConnectionError, ConnectionError) as error:
                connection.close()
                if kept:
                    # The engine closed an idle connection; nothing was answered, so ask again.
                    continue
                if isinstance(error, ConnectionError):
                    raise EndOfConnectionError from error
                raise
            except BaseException:
                connection.close()
                raise
            if connection.reusable and answer.headers.get("connection", "").lower() != "close":
                self._local.connection = connection
                self._kept.add(connection)
            else:
                connection.close()
            check(answer.status, content)
            return answer.status, answer.headers, content

    def stream(
        self,
        method: str,
        target: str,
        body: bytes | BinaryIO | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Stream":
        """Start a call whose answer comes in pieces; raises as ``request`` does when it is an error."""
        connection = self.open()
        try:
            try:
                self.send(connection, method, target, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # An engine that refuses a body answers before it has read it all.
                pass
            try:
                answer = Answer(connection, method)
            except ConnectionError as error:
                raise EndOfConnectionError from error
            if answer.status >= 400:
                check(answer.status, answer.read())
        except BaseException:
            connection.close()
            raise
        return Stream(connection, answer)

    def hijack(self, target: str, body: Json = None) -> tuple[Connection, Answer]:
        """POST and take the connection over; raises as ``request`` does when refused."""
        connection = self.open()
        try:
            # Without a body where there is nothing to say: Podman takes it for the first of the input.
            data = b"" if body is None else json.dumps(body).encode()
            headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
            if data:
                headers["Content-Type"] = "application/json"
            self.send(connection, "POST", target, data, headers)
            answer = Answer(connection, "POST")
            if answer.status not in (101, 200):
                check(answer.status, answer.read())
                raise StackctlError(f"the engine answered {answer.status} where it should upgrade")
        except BaseException:
            connection.close()
            raise
        return connection, answer


class Stream:
    """The body of an answer as it arrives; ``close`` ends the iteration from another thread."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer
        self._closed = False

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.pieces()
        except (OSError, ValueError, UnavailableError):
            if not self._closed:
                raise
        finally:
            self.close()

    def close(self) -> None:
        self._closed = True
        self._connection.close()


def check(status: int, content: bytes) -> None:
    """Raise the kind of error that a status says, with the engine's own words."""
    if status < 300:
        return
    text = content.decode(errors="replace").strip()
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        answer = {}
    message = answer.get("message") if isinstance(answer, dict) else None
    kind = KINDS.get(status, StackctlError)
    raise kind(str(message or text or f"the engine answered {status}"))


def lines_of(pieces: Iterator[bytes]) -> Iterator[dict[str, Json]]:
    """Yield the JSON objects of a stream that holds one a line, or one after the other."""
    decoder = json.JSONDecoder()
    held = ""
    import codecs

    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    for piece in pieces:
        held += utf8.decode(piece)
        while held := held.lstrip():
            try:
                value, end = decoder.raw_decode(held)
            except ValueError:
                break
            held = held[end:]
            if isinstance(value, dict):
                yield value


def _pieces_of(body: BinaryIO | Iterator[bytes]) -> Iterator[bytes]:
    if hasattr(body, "read"):
        while piece := body.read(_PIECE):
            yield piece
        return
    for piece in body:
        if piece:
            yield piece
