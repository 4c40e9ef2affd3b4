"""The multiplexed stream of attach, exec and logs: frames of an 8-byte header and a payload; pure.

Header: stream (0 standard input, 1 output, 2 error, 3 an error of the engine), three zero bytes, payload length as a
big-endian 32-bit number (Docker Engine API, ContainerAttach, "Stream format").
"""

import struct
from collections.abc import Iterable, Iterator

from stackctl.errors import InvalidInputError

STDIN, STDOUT, STDERR, SYSTEM_ERROR = range(4)
HEADER_SIZE = 8
_HEADER = struct.Struct(">BxxxI")
# No engine writes frames that long; a length beyond it means that the stream is no multiplexed one.
_LONGEST = 1 << 30
# The headers of short frames, made once: a log is millions of them.
_HEADERS = {
    stream: [_HEADER.pack(stream, length) for length in range(1024)] for stream in (STDOUT, STDERR)
}


def encode_frame(stream: int, payload: bytes) -> bytes:
    return _HEADER.pack(stream, len(payload)) + payload


def encode_frames(stream: int, payloads: Iterable[bytes]) -> bytes:
    """Return one frame for each payload, joined; made for many short ones."""
    headers = _HEADERS[stream]
    limit = len(headers)
    pack = _HEADER.pack
    parts: list[bytes] = []
    append = parts.append
    for data in payloads:
        length = len(data)
        append(headers[length] if length < limit else pack(stream, length))
        append(data)
    return b"".join(parts)


class Decoder:
    """Frames from bytes, however they were cut; keeps what is incomplete for the next call."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, payload) for each frame that is complete now; raises InvalidInputError for no frame."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= HEADER_SIZE:
                stream, length = _HEADER.unpack_from(self._buffer, start)
                if stream > SYSTEM_ERROR or length > _LONGEST:
                    raise InvalidInputError("not a multiplexed stream: bad frame header")
                end = start + HEADER_SIZE + length
                if len(self._buffer) < end:
                    break
                payload = bytes(self._buffer[start + HEADER_SIZE : end])
                start = end
                yield stream, payload
        finally:
            del self._buffer[:start]

    @property
    def pending(self) -> int:
        """The bytes of an incomplete frame held back."""
        return len(self._buffer)
