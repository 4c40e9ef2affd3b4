"""Requests to a UNIX socket byte by byte, as no well-behaved client would send them."""

import contextlib
import json
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from stackctl.api.framing import Decoder


@dataclass
class Answer:
    """What came back; status 0 when the connection was closed without an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self):
        return json.loads(self.body)


def connect(path: Path, timeout: float = 20.0) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Blocking: a full queue of connections is waited for, where a timeout would make it an error at once.
    sock.connect(str(path))
    sock.settimeout(timeout)
    return sock


def exchange(path: Path, data: bytes, *, half_close: bool = False, timeout: float = 20.0) -> Answer:
    """Send bytes as they are and read one answer; a stream is cut after ``timeout``."""
    with connect(path, timeout) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        return read_answer(sock, timeout)


def request(
    path: Path,
    method: str,
    target: str,
    body: bytes | dict | list | None = None,
    *,
    headers: dict[str, str] | None = None,
    timeout: float = 20.0,
) -> Answer:
    """Send a well-formed request and read its answer."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {target} HTTP/1.1", "Host: engine", "Connection: close"]
    if body is not None:
        lines += [f"Content-Length: {len(data)}"]
        if not isinstance(body, bytes):
            lines += ["Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")
    return exchange(path, head + data, timeout=timeout)


def read_answer(sock: socket.socket, timeout: float) -> Answer:
    """Read until the answer is whole, the other side closes, or the time is over."""
    data = b""
    deadline = time.monotonic() + timeout
    while not _whole(data) and (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            piece = sock.recv(1 << 18)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            break
        if not piece:
            break
        data += piece
    return _parse(data)


def _whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    lower = head.lower()
    if head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304")) or b"\r\ncontent-length: 0" in lower:
        return True
    if b"transfer-encoding: chunked" in lower:
        return body.endswith(b"0\r\n\r\n")
    _, found, rest = lower.partition(b"\r\ncontent-length:")
    return bool(found) and len(body) >= int(rest.split(b"\r\n")[0])


def _parse(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    words = first.split()
    if len(words) < 2 or not words[1].isdigit():
        return Answer(0, body=data)
    headers = {
        name.strip().lower().decode(): value.strip().decode(errors="replace")
        for name, _, value in (line.partition(b":") for line in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(words[1]), headers, body)


def _joined(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size or b"0", 16)
        if not length:
            break
        out += rest[:length]
        body = rest[length + 2 :]
    return out


def frames(body: bytes):
    """Return the frames of a multiplexed stream."""
    return list(Decoder().feed(body))
