"""A small HTTP/1.1 client for the Docker Engine API, without the price of importing a big one.

One kept-alive connection per thread; chunked and sized bodies both ways; connections taken over for attach and exec.
Failures become the kinds of ``stackctl.errors``, from the HTTP status and the engine's message.
"""

import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast
from urllib.parse import quote

from stackctl import errors
from stackctl.values import Json, JsonObject

_CHUNK = 1 << 16
_MAX_HEAD = 1 << 20
_NEWEST_API = (1, 51)
Connect = Callable[[], socket.socket]
Headers = dict[str, str]
Query = Mapping[str, str | bool | int]

_KINDS: dict[int, type[errors.StackctlError]] = {
    304: errors.NotModifiedError,
    400: errors.InvalidInputError,
    401: errors.UnauthorizedError,
    403: errors.ForbiddenError,
    404: errors.NotFoundError,
    405: errors.UnsupportedError,
    409: errors.ConflictError,
    501: errors.UnsupportedError,
    503: errors.UnavailableError,
}


def unix_connector(path: str) -> Connect:
    """Return what opens a connection to a UNIX socket; it raises UnavailableError or ForbiddenError."""

    def connect() -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(path)
        except PermissionError as error:
            link.close()
            raise errors.ForbiddenError(
                f"no permission on the engine's socket {path}",
                hint="Use sudo, or join the group that owns the socket.",
            ) from error
        except OSError as error:
            link.close()
            raise errors.UnavailableError(
                f"no engine answers at {path}: {error.strerror or error}",
                hint="Start one: sudo stackctl engine start.",
            ) from error
        return link

    return connect


def tcp_connector(host: str, port: int, *, tls: tuple[str, str, str] | None = None) -> Connect:
    """Return what opens a TCP connection; ``tls`` names the files of CA, certificate and key (each may be empty)."""

    def connect() -> socket.socket:
        try:
            link = socket.create_connection((host, port))
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _secured(link, host, tls) if tls is not None else link
        except OSError as error:
            raise errors.UnavailableError(
                f"no engine answers at tcp://{host}:{port}: {error.strerror or error}"
            ) from error

    return connect


def _secured(link: socket.socket, host: str, tls: tuple[str, str, str]) -> socket.socket:
    import ssl

    authority, certificate, key = tls
    context = ssl.create_default_context(cafile=authority or None)
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context.wrap_socket(link, server_hostname=host)


class Connection:
    """One HTTP connection with a read buffer."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.link.sendall(data)

    def receive(self) -> bytes:
        """Return what is there next, empty at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.link.recv(_CHUNK)

    def line(self) -> bytes:
        """Return the next line without its end; raises UnavailableError when the connection ends first."""
        while (end := self.buffer.find(b"\n")) < 0:
            data = self.link.recv(_CHUNK)
            if not data or len(self.buffer) > _MAX_HEAD:
                raise errors.UnavailableError("the engine closed the connection")
            self.buffer += data
        line, self.buffer = self.buffer[:end], self.buffer[end + 1 :]
        return line.rstrip(b"\r")

    def some(self, most: int) -> bytes:
        """Return between 1 and ``most`` bytes; empty at the end."""
        data = self.receive()
        data, self.buffer = data[:most], data[most:]
        return data

    def head(self) -> tuple[int, Headers]:
        """Read a status line and headers (names in lower case)."""
        first = self.line().split(b" ", 2)
        if len(first) < 2 or not first[0].startswith(b"HTTP/1."):
            raise errors.UnavailableError("what answers at the socket is no engine")
        headers: Headers = {}
        while line := self.line():
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return int(first[1]), headers

    def close(self) -> None:
        """Close; a reader in another thread wakes up with the end of the stream."""
        try:
            self.link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.link.close()


class Response:
    """An answer whose body is yet to be read: iterate it, or ``read`` it whole."""

    def __init__(
        self,
        connection: Connection,
        status: int,
        headers: Headers,
        *,
        give_back: Callable[[Connection], None] | None,
        bodiless: bool = False,
    ) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._give_back = give_back
        self._bodiless = bodiless or status in (204, 304) or 100 <= status < 200
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body()
        except (OSError, errors.UnavailableError):
            if self.closed:
                return
            self.close()
            raise
        if not self.closed:
            self._finish()

    def _body(self) -> Iterator[bytes]:
        connection = self.connection
        if self._bodiless:
            return
        if "chunked" in self.headers.get("transfer-encoding", ""):
            while size := int(connection.line().split(b";")[0] or b"0", 16):
                yield from self._sized(size)
                connection.line()
            while connection.line():
                pass
        elif "content-length" in self.headers:
            yield from self._sized(int(self.headers["content-length"]))
        else:
            self._give_back = None
            while data := connection.receive():
                yield data

    def _sized(self, size: int) -> Iterator[bytes]:
        while size:
            data = self.connection.some(size)
            if not data:
                raise errors.UnavailableError("the engine closed the connection in mid-answer")
            size -= len(data)
            yield data

    def _finish(self) -> None:
        self.closed = True
        if self._give_back is not None and self.headers.get("connection", "").lower() != "close":
            self._give_back(self.connection)
        else:
            self.connection.close()

    def read(self) -> bytes:
        return b"".join(self)

    def lines(self) -> Iterator[bytes]:
        """Yield the body line by line, empty ones left out."""
        rest = b""
        for data in self:
            *whole, rest = (rest + data).split(b"\n")
            yield from (line for line in whole if line.strip())
        if rest.strip():
            yield rest

    def objects(self) -> Iterator[JsonObject]:
        """Yield the JSON objects of a progress or event stream."""
        for line in self.lines():
            yield cast(JsonObject, json.loads(line))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.connection.close()


class Http:
    """Requests to one engine; safe to use from several threads.

    ``headers`` go with every request. ``api_version`` is what the engine speaks, known from its first answer on.
    """

    def __init__(self, connect: Connect, *, headers: Headers | None = None) -> None:
        self._connect = connect
        self._local = threading.local()
        self._headers = {"Host": "docker", "User-Agent": "stackctl", **(headers or {})}
        self._pid = os.getpid()
        self.api_version = (0, 0)

    def json(
        self, method: str, path: str, *, query: Query | None = None, body: Json = None
    ) -> Json:
        """Return the decoded answer; None when it has no body. Raises the kind for an error status."""
        data = self.request(method, path, query=query, body=body).read()
        return cast(Json, json.loads(data)) if data.strip() else None

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json = None,
        data: bytes | BinaryIO | None = None,
        headers: Headers | None = None,
        stream: bool = False,
    ) -> Response:
        """Send a request and return its answer with the body unread; raises the kind for an error status.

        ``body`` is sent as JSON, ``data`` as it is (a file in chunks). ``stream``: on a connection of its own, for
        answers that are long or get closed halfway.
        """
        extra = dict(headers or {})
        payload: bytes | BinaryIO | None = data
        if body is not None:
            payload = json.dumps(body).encode()
            extra.setdefault("Content-Type", "application/json")
        elif data is not None:
            extra.setdefault("Content-Type", "application/x-tar")
        fresh = stream or (data is not None and not isinstance(data, bytes))
        response = self._exchange(method, path, query, payload, extra, fresh=fresh)
        self._learn(response)
        if response.status >= 400 or response.status == 304:
            raise failure(response.status, response.read())
        return response

    def hijack(
        self, path: str, *, query: Query | None = None, body: Json = None
    ) -> tuple[Connection, Headers]:
        """Send a POST and take the connection over as a two-way stream."""
        connection = Connection(self._connect())
        try:
            payload = json.dumps(body).encode() if body is not None else b""
            extra = {
                "Content-Type": "application/json",
                "Connection": "Upgrade",
                "Upgrade": "tcp",
                "Content-Length": str(len(payload)),
            }
            connection.send(self._head("POST", path, query, extra) + payload)
            status, headers = connection.head()
            if status not in (101, 200):
                response = Response(connection, status, headers, give_back=None)
                raise failure(status, response.read())
        except BaseException:
            connection.close()
            raise
        return connection, headers

    def close(self) -> None:
        """Close this thread's connection."""
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            kept.close()
            self._local.connection = None

    def _exchange(
        self,
        method: str,
        path: str,
        query: Query | None,
        payload: bytes | BinaryIO | None,
        extra: Headers,
        *,
        fresh: bool,
    ) -> Response:
        head_extra = dict(extra)
        if isinstance(payload, bytes):
            head_extra["Content-Length"] = str(len(payload))
        elif payload is not None:
            head_extra["Transfer-Encoding"] = "chunked"
        elif method in ("POST", "PUT"):
            head_extra["Content-Length"] = "0"
        kept = None if fresh else self._take()
        connection = kept or Connection(self._connect())
        try:
            status, headers = self._send(connection, method, path, query, payload, head_extra)
        except (OSError, errors.UnavailableError) as error:
            connection.close()
            if kept is None:
                raise _lost(error) from error
            # A kept connection may have been closed meanwhile by the engine; only then is a second try safe.
            connection = Connection(self._connect())
            try:
                status, headers = self._send(connection, method, path, query, payload, head_extra)
            except OSError as again:
                connection.close()
                raise _lost(again) from again
        except BaseException:
            connection.close()
            raise
        give_back = None if fresh else self._keep
        return Response(connection, status, headers, give_back=give_back, bodiless=method == "HEAD")

    def _send(
        self,
        connection: Connection,
        method: str,
        path: str,
        query: Query | None,
        payload: bytes | BinaryIO | None,
        extra: Headers,
    ) -> tuple[int, Headers]:
        head = self._head(method, path, query, extra)
        if payload is None or isinstance(payload, bytes):
            connection.send(head + (payload or b""))
        else:
            connection.send(head)
            try:
                while data := payload.read(_CHUNK):
                    connection.send(b"%x\r\n%b\r\n" % (len(data), data))
                connection.send(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # the engine answered early; its answer says why
        status, headers = connection.head()
        while status == 100:
            status, headers = connection.head()
        return status, headers

    def _head(self, method: str, path: str, query: Query | None, extra: Headers) -> bytes:
        prefix = "/v{}.{}".format(*self.api_version) if self.api_version[0] else ""
        text = f"{method} {prefix}{path}{_query(query)} HTTP/1.1\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in (self._headers | extra).items())
        return (text + "\r\n").encode("latin-1")

    def _learn(self, response: Response) -> None:
        if not self.api_version[0]:
            major, _, minor = response.headers.get("api-version", "").partition(".")
            if major.isdigit() and minor.isdigit():
                self.api_version = min((int(major), int(minor)), _NEWEST_API)

    def _take(self) -> Connection | None:
        kept: Connection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        return kept if self._pid == os.getpid() else None

    def _keep(self, connection: Connection) -> None:
        other = getattr(self._local, "connection", None)
        if other is not None:
            connection.close()
        else:
            self._local.connection = connection


def failure(status: int, body: bytes) -> errors.StackctlError:
    """Return the error for an HTTP status and the engine's JSON (or other) body."""
    text = body.decode(errors="replace").strip()
    try:
        decoded = json.loads(text)
        if isinstance(decoded, dict) and isinstance(decoded.get("message"), str):
            text = decoded["message"]
    except ValueError:
        pass
    kind = _KINDS.get(status, errors.StackctlError)
    return kind(text or f"the engine answered with status {status}")


def path_part(text: str) -> str:
    """Return a name or reference as one part of a path (slashes stay: image references have them)."""
    return quote(text, safe="/:@")


def auth_header(value: Json) -> str:
    """Return credentials in the form of X-Registry-Auth and X-Registry-Config."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def _query(query: Query | None) -> str:
    if not query:
        return ""
    parts = []
    for name, value in query.items():
        text = ("1" if value else "0") if isinstance(value, bool) else str(value)
        parts.append(f"{quote(name, safe='')}={quote(text, safe='')}")
    return "?" + "&".join(parts)


def _lost(error: Exception) -> errors.StackctlError:
    if isinstance(error, errors.StackctlError):
        return error
    return errors.UnavailableError(f"the connection to the engine broke: {error}")
