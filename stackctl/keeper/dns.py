"""DNS messages: questions read and answers written by hand; pure (RFC 1035, RFC 6891)."""

import socket
import struct

A, PTR, AAAA, ANY, OPT = 1, 12, 28, 255, 41
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
TTL = 600
_HEADER = struct.Struct(">HHHHHH")
_PLAIN_LIMIT = 512


class Question:
    """What a query asks. ``rcode`` is not NOERROR when the query itself is wrong; ``limit`` is the reply's size."""

    __slots__ = ("flags", "identifier", "kind", "limit", "name", "raw", "rcode", "record_class")

    def __init__(self, identifier: int, flags: int) -> None:
        self.identifier = identifier
        self.flags = flags
        self.name = ""
        self.kind = 0
        self.record_class = 0
        self.raw = b""
        self.limit = 0
        self.rcode = NOERROR


def parse_question(data: bytes) -> Question | None:
    """Return the question of a query, None for what must not be answered (a response, less than a header)."""
    if len(data) < _HEADER.size:
        return None
    identifier, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & 0x8000:
        return None
    question = Question(identifier, flags)
    if flags & 0x7800:
        question.rcode = NOTIMP
        return question
    name = _read_name(data, _HEADER.size)
    if questions != 1 or name is None or name[1] + 4 > len(data):
        question.rcode = FORMERR
        return question
    question.name, end = name
    question.kind, question.record_class = struct.unpack_from(">HH", data, end)
    question.raw = data[_HEADER.size : end + 4]
    if additional and not answers and not authorities:
        question.limit = _edns_size(data, end + 4)
    return question


def reply(
    question: Question,
    rcode: int,
    addresses: list[str],
    *,
    names: list[str] | None = None,
    limit: int = 0,
) -> bytes:
    """Return the answer: addresses of the family asked for, or names for PTR.

    ``limit`` is the transport's size (0: by the question, 512 without EDNS); a longer answer is cut and marked.
    """
    found = _records(question.kind, addresses, names or [])
    count = len(found)
    records = b"".join(
        struct.pack(">HHHIH", 0xC00C, kind, IN, TTL, len(content)) + content
        for kind, content in found
    )
    extra = b""
    if question.limit:
        extra = b"\0" + struct.pack(">HHIH", OPT, question.limit, 0, 0)
    flags = 0x8080 | (question.flags & 0x0100) | rcode
    size = limit or max(question.limit, _PLAIN_LIMIT)
    if _HEADER.size + len(question.raw) + len(records) + len(extra) > size:
        records, count, flags = b"", 0, flags | 0x0200
    header = _HEADER.pack(
        question.identifier, flags, 1 if question.raw else 0, count, 0, 1 if extra else 0
    )
    return header + question.raw + records + extra


def reverse_address(name: str) -> str:
    """Return the address a PTR name is about, "" for any other name."""
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        if len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
            return ".".join(reversed(parts))
    if name.endswith(".ip6.arpa"):
        nibbles = name.removesuffix(".ip6.arpa").split(".")
        if len(nibbles) == 32:
            try:
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex("".join(nibbles[::-1])))
            except ValueError:
                return ""
    return ""


def _records(kind: int, addresses: list[str], names: list[str]) -> list[tuple[int, bytes]]:
    if kind == PTR:
        return [(PTR, _write_name(name)) for name in names]
    records = []
    for address in addresses:
        own = AAAA if ":" in address else A
        if kind in (own, ANY):
            family = socket.AF_INET6 if own == AAAA else socket.AF_INET
            records.append((own, socket.inet_pton(family, address)))
    return records


def _read_name(data: bytes, offset: int) -> tuple[str, int] | None:
    """Return the name, lower case, and where it ends; None when it is not well formed or is compressed."""
    labels: list[str] = []
    total = 0
    while offset < len(data):
        length = data[offset]
        offset += 1
        if length == 0:
            return ".".join(labels).lower(), offset
        total += length + 1
        if length > 63 or total > 254 or offset + length > len(data):
            return None
        labels.append(data[offset : offset + length].decode("latin-1"))
        offset += length
    return None


def _write_name(name: str) -> bytes:
    encoded = b""
    for label in name.split("."):
        content = label.encode("latin-1", "replace")[:63]
        encoded += bytes((len(content),)) + content if content else b""
    return encoded + b"\0"


def _edns_size(data: bytes, offset: int) -> int:
    if offset + 11 <= len(data) and data[offset] == 0:
        kind, size = struct.unpack_from(">HH", data, offset + 1)
        if kind == OPT:
            return min(max(int(size), _PLAIN_LIMIT), 4096)
    return 0
