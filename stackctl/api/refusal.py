"""A gRPC server that has one answer to every call: a status and its text (HTTP/2, RFC 9113; gRPC over HTTP/2); pure.

It is for clients that would take an HTTP error for "try something else". Header blocks of the client are never read, so
no table of theirs is kept; ours are literal.
"""

from urllib.parse import quote

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UNIMPLEMENTED = 12
_HEADERS, _SETTINGS, _PING, _GOAWAY = 1, 4, 6, 7
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_HEAD = 9
_LARGEST = 1 << 14  # SETTINGS_MAX_FRAME_SIZE as it is where nobody says another
_STATUS_200 = b"\x88"  # ":status: 200" of HPACK's static table


class Refusal:
    """What comes in is fed, what it returns is sent; ``over`` when the connection should be closed."""

    def __init__(self, message: str, *, status: int = UNIMPLEMENTED) -> None:
        fields = {
            "content-type": "application/grpc",
            "grpc-status": str(status),
            "grpc-message": quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"),
        }
        self._answer = _STATUS_200 + b"".join(_literal(*item) for item in fields.items())
        self._buffer = b""
        self._greeted = False
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """Return what answers the data; "" while something is missing."""
        self._buffer += data
        out = b""
        if not self._greeted:
            if len(self._buffer) < len(PREFACE):
                self.over = not PREFACE.startswith(self._buffer)
                return b""
            if not self._buffer.startswith(PREFACE):
                self.over = True
                return b""
            self._buffer = self._buffer[len(PREFACE) :]
            self._greeted = True
            out = _frame(_SETTINGS, 0, 0, b"")
        while len(self._buffer) >= _HEAD and not self.over:
            length = int.from_bytes(self._buffer[:3], "big")
            if length > _LARGEST:
                self.over = True
                break
            if len(self._buffer) < _HEAD + length:
                break
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
            payload = self._buffer[_HEAD : _HEAD + length]
            self._buffer = self._buffer[_HEAD + length :]
            out += self._answered(kind, flags, stream, payload)
        return out

    def _answered(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _HEADERS:
            return _frame(_HEADERS, _END_STREAM | _END_HEADERS, stream, self._answer)
        self.over = kind == _GOAWAY
        return b""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def _literal(name: str, value: str) -> bytes:
    """Return a header field without indexing, its name new (RFC 7541, 6.2.2), both as plain text."""
    return b"\x00" + _text(name.encode()) + _text(value.encode())


def _text(data: bytes) -> bytes:
    """Return a string with its length: a prefix of 7 bits, then 7 bits a byte (RFC 7541, 5.1 and 5.2)."""
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    head = [127]
    length -= 127
    while length >= 128:
        head.append(length % 128 + 128)
        length //= 128
    return bytes((*head, length)) + data
