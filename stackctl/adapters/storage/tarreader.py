"""Read tar streams: ustar, GNU long names and sparse files, pax records (POSIX.1-2017, pax; GNU tar manual, Formats).

Only a parser: it never touches a file. Every number is checked, every string bounded, so that a hostile header ends
in InvalidInputError and not in memory or time without end.
"""

import bz2
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, cast

import zstandard

from stackctl.contracts.storage import TarLimits
from stackctl.errors import HostError, InvalidInputError

try:
    from isal.igzip import IGzipFile as _GzipFile
except ImportError:  # the wheel exists for two architectures; elsewhere the standard library serves
    from gzip import GzipFile as _GzipFile  # type: ignore[assignment]

BLOCK = 512
CHUNK = 1 << 20
_MAX_META = 1 << 20
_MAX_SPARSE = 100_000
_XZ_MEMORY = 256 << 20  # xz -9 needs 65 MiB
_HINT = "max-layer-size and max-layer-entries of the engine's settings say how much may be"
_MAX_SIZE = 1 << 50
_ZERO = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."

REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"4",
    b"5",
    b"6",
)
_REGULAR_KINDS = frozenset((b"0", b"\0", b"7"))


class Readable(Protocol):
    """What a tar is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes, b"" at the end."""


@dataclass(slots=True)
class TarEntry:
    """One entry. Names are bytes as they stand; ``kind`` is the type flag; ``mtime`` is in nanoseconds.

    ``size`` is what follows in the stream, ``real_size`` what the file is to be (they differ for sparse files, whose
    ``sparse`` lists (offset, length) of the data).
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    real_size: int = 0
    sparse: list[tuple[int, int]] | None = None


def decompressed(raw: BinaryIO | Readable) -> Readable:
    """Return a reader of the plain bytes: gzip, bzip2, xz and zstd are told by their first bytes (RFC 1952, 8878)."""
    source = _Peekable(raw)
    magic = source.peek(6)
    file = cast(BinaryIO, source)
    if magic.startswith(b"\x1f\x8b"):
        return _gunzip(file)
    if magic.startswith(b"\x28\xb5\x2f\xfd") or (
        magic[1:4] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5
    ):
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return cast(Readable, decompressor.stream_reader(file, read_across_frames=True))
    if magic.startswith(b"BZh"):
        return cast(Readable, bz2.BZ2File(file))
    if magic.startswith(b"\xfd7zXZ\0"):
        return _Xz(source)
    return source


class _Xz:
    """The plain bytes of xz streams; LZMAFile takes as much memory as the data asks for, up to 4 GiB."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._stream: lzma.LZMADecompressor | None = None
        self._input = b""

    def read(self, size: int, /) -> bytes:
        while True:
            if self._stream is None:
                # Streams may follow each other, with zero bytes in between (xz file format, 2.2).
                while not self._input.strip(b"\0"):
                    self._input = self._raw.read(CHUNK)
                    if not self._input:
                        return b""
                self._input = self._input.lstrip(b"\0")
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            if self._stream.needs_input and not self._input:
                self._input = self._raw.read(CHUNK)
                if not self._input:
                    raise EOFError("the xz data is cut short")
            data = self._stream.decompress(self._input, size)
            self._input = b""
            if self._stream.eof:
                self._input = self._stream.unused_data
                self._stream = None
            if data:
                return data


def _gunzip(file: BinaryIO) -> Readable:
    make = cast(Callable[..., Readable], _GzipFile)
    return make(fileobj=file, mode="rb")


class _Peekable(io.RawIOBase):
    """A stream whose first bytes can be looked at; a file as far as decompressors ask for one."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._head = b""

    def peek(self, size: int) -> bytes:
        while len(self._head) < size:
            chunk = self._raw.read(size - len(self._head))
            if not chunk:
                break
            self._head += chunk
        return self._head

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            head = self._head if size < 0 else self._head[:size]
            self._head = self._head[len(head) :]
            return head
        return self._raw.read(size if size >= 0 else CHUNK)

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - as io.RawIOBase has it before 3.12
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True


class TarStream:
    """The entries of a tar, in order; the data of one is read with ``read`` before the next is asked for.

    ``digest`` is the SHA-256 of every plain byte, once ``drain`` was called. Raises InvalidInputError for what is no
    tar, is cut short or passes a bound (``max_bytes`` of plain data, ``max_entries``).
    """

    def __init__(
        self,
        source: Readable,
        *,
        hashing: bool = False,
        max_bytes: int = TarLimits().size,
        max_entries: int = TarLimits().entries,
    ) -> None:
        self._source = source
        self._hash = hashlib.sha256() if hashing else None
        self._buffer = b""
        self._at = 0
        self._left = 0
        self._padding = 0
        self._total = 0
        self._entries = 0
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._global: dict[bytes, bytes] = {}

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}" if self._hash is not None else ""

    def __iter__(self) -> Iterator[TarEntry]:
        while (entry := self._next()) is not None:
            self._entries += 1
            if self._entries > self._max_entries:
                raise InvalidInputError(
                    f"the tar has more than {self._max_entries} entries", hint=_HINT
                )
            yield entry

    def read(self, limit: int = CHUNK) -> bytes:
        """Return the next bytes of the current entry's data, b"" at its end."""
        if not self._left:
            return b""
        if self._at == len(self._buffer) and not self._fill():
            raise InvalidInputError("the tar ends in the middle of a file")
        take = min(limit, self._left, len(self._buffer) - self._at)
        data = (
            self._buffer if take == len(self._buffer) else self._buffer[self._at : self._at + take]
        )
        self._at += take
        self._left -= take
        return data

    def drain(self) -> None:
        """Read what follows the last entry, so that the digest covers the whole stream."""
        while self._fill():
            pass

    def _fill(self) -> bool:
        try:
            self._buffer = self._source.read(CHUNK)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            if isinstance(error, OSError) and error.errno:
                # A kernel's refusal (a full disk), not broken data: gzip's own OSError has no number.
                raise HostError(str(error.strerror), errno=error.errno) from error
            raise InvalidInputError(f"the data cannot be decompressed: {error}") from error
        except Exception as error:
            # What python-isal raises, whose modules are only there once they were used.
            if type(error).__module__.startswith(("isal", "igzip")):
                raise InvalidInputError(f"the data cannot be decompressed: {error}") from error
            raise
        self._at = 0
        self._total += len(self._buffer)
        if self._total > self._max_bytes:
            raise InvalidInputError(
                f"the data is larger than {self._max_bytes} bytes unpacked", hint=_HINT
            )
        if self._hash is not None:
            self._hash.update(self._buffer)
        return bool(self._buffer)

    def _exactly(self, size: int) -> bytes:
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        parts = [self._buffer[self._at :]]
        missing = size - len(parts[0])
        self._at = len(self._buffer)
        while missing:
            if not self._fill():
                return b"".join(parts)
            part = self._buffer[:missing]
            self._at = len(part)
            missing -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip_rest(self) -> None:
        while self._left:
            self.read(self._left)
        if self._padding:
            self._exactly(self._padding)
            self._padding = 0

    def _next(self) -> TarEntry | None:
        self._skip_rest()
        pax: dict[bytes, bytes] = {}
        long_name = long_link = b""
        while True:
            header = self._exactly(BLOCK)
            # The end is two blocks of zeros; one, or the end of the stream, is accepted as every tar does.
            if not header or header == _ZERO:
                return None
            if len(header) < BLOCK:
                raise InvalidInputError("the tar ends in the middle of a header")
            _check_sum(header)
            kind = header[156:157]
            size = _number(header[124:136])
            if kind in b"xgLKX" and kind:
                data = self._meta(size)
                if kind in b"xX":
                    pax.update(_records(data))
                elif kind == b"g":
                    self._global.update(_records(data))
                elif kind == b"L":
                    long_name = data.split(b"\0", 1)[0]
                else:
                    long_link = data.split(b"\0", 1)[0]
                continue
            return self._entry(header, kind, size, {**self._global, **pax}, long_name, long_link)

    def _meta(self, size: int) -> bytes:
        if size > _MAX_META:
            raise InvalidInputError(f"a tar header of {size} bytes is too long")
        data = self._exactly(size + -size % BLOCK)
        if len(data) < size:
            raise InvalidInputError("the tar ends in the middle of a header")
        return data[:size]

    def _entry(
        self,
        header: bytes,
        kind: bytes,
        size: int,
        pax: dict[bytes, bytes],
        long_name: bytes,
        long_link: bytes,
    ) -> TarEntry:
        magic = header[257:263]
        name = _text(header[0:100])
        if magic == b"ustar\0" and header[345] and not long_name:
            name = _text(header[345:500]) + b"/" + name
        name = pax.get(b"path") or long_name or name
        if b"size" in pax:
            size = _decimal(pax[b"size"])
        device = kind in (CHAR, BLOCKDEV)
        mtime = _number(header[136:148]) * 1_000_000_000
        entry = TarEntry(
            name=name,
            kind=kind,
            mode=_number(header[100:108]) & 0o7777,
            uid=_decimal(pax[b"uid"]) if b"uid" in pax else _number(header[108:116]),
            gid=_decimal(pax[b"gid"]) if b"gid" in pax else _number(header[116:124]),
            size=size,
            mtime=_time(pax[b"mtime"]) if b"mtime" in pax else mtime,
            link=pax.get(b"linkpath") or long_link or _text(header[157:257]),
            major=_number(header[329:337]) if device else 0,
            minor=_number(header[337:345]) if device else 0,
        )
        if kind in _REGULAR_KINDS or kind not in (
            HARDLINK,
            SYMLINK,
            CHAR,
            BLOCKDEV,
            DIRECTORY,
            FIFO,
            b"S",
        ):
            # Version 7 says "directory" by a slash at the end; an unknown type is a file (POSIX.1-2017, pax).
            entry.kind = DIRECTORY if kind in (b"0", b"\0") and name.endswith(b"/") else REGULAR
        if pax:
            entry.xattrs = {
                key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)
            }
        self._bound(entry)
        entry.real_size = entry.size
        if kind == b"S":
            self._old_sparse(header, entry)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or b"GNU.sparse.size" in pax:
            self._pax_sparse(pax, entry)
        return entry

    def _bound(self, entry: TarEntry) -> None:
        if entry.kind in (HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO):
            # These carry no data; some writers leave a hard link's size in the header all the same.
            entry.size = 0
        if not 0 <= entry.size <= _MAX_SIZE:
            raise InvalidInputError(f'the size of "{_show(entry.name)}" is not possible')
        if not (0 <= entry.uid < 1 << 32 and 0 <= entry.gid < 1 << 32):
            raise InvalidInputError(f'the owner of "{_show(entry.name)}" is not possible')
        if b"\0" in entry.name or b"\0" in entry.link:
            raise InvalidInputError(f'the name "{_show(entry.name)}" holds a zero byte')
        if not -(1 << 72) < entry.mtime < 1 << 72:
            entry.mtime = 0
        self._left = entry.size
        self._padding = -entry.size % BLOCK

    def _old_sparse(self, header: bytes, entry: TarEntry) -> None:
        pieces = _sparse_table(header[386:482])
        extended = header[482]
        while extended:
            block = self._exactly(BLOCK)
            if len(block) < BLOCK or len(pieces) > _MAX_SPARSE:
                raise InvalidInputError(f'the sparse map of "{_show(entry.name)}" is not possible')
            pieces += _sparse_table(block[:504])
            extended = block[504]
        entry.kind = REGULAR
        entry.real_size = _number(header[483:495])
        _set_sparse(entry, pieces)

    def _pax_sparse(self, pax: dict[bytes, bytes], entry: TarEntry) -> None:
        entry.kind = REGULAR
        entry.name = pax.get(b"GNU.sparse.name") or entry.name
        size = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"0"
        entry.real_size = _decimal(size)
        if pax.get(b"GNU.sparse.major") == b"1":
            values = self._map_in_data(entry)
        elif b"GNU.sparse.map" in pax:
            values = [_decimal(item) for item in pax[b"GNU.sparse.map"].split(b",") if item]
        else:
            raise InvalidInputError(
                f'"{_show(entry.name)}" is a sparse file in a form that is not understood'
            )
        _set_sparse(entry, list(zip(values[0::2], values[1::2], strict=False)))

    def _map_in_data(self, entry: TarEntry) -> list[int]:
        """Read the map of format 1.0: decimal lines at the start of the data, padded to a block."""
        text = b""
        count = -1
        lines: list[bytes] = []
        while count < 0 or len(lines) < 1 + 2 * count:
            if self._left < BLOCK or len(text) > _MAX_META:
                raise InvalidInputError(f'the sparse map of "{_show(entry.name)}" is not possible')
            text += self._exactly(BLOCK)
            self._left -= BLOCK
            lines = text.split(b"\n")[:-1]
            if lines and count < 0:
                count = _decimal(lines[0])
                if count > _MAX_SPARSE:
                    raise InvalidInputError(f'the sparse map of "{_show(entry.name)}" is too long')
        entry.size = self._left
        return [_decimal(line) for line in lines[1 : 1 + 2 * count]]


def _set_sparse(entry: TarEntry, pieces: list[tuple[int, int]]) -> None:
    at = total = 0
    for offset, length in pieces:
        if offset < at or length < 0:
            raise InvalidInputError(f'the sparse map of "{_show(entry.name)}" is not in order')
        at = offset + length
        total += length
    if at > entry.real_size or total != entry.size or entry.real_size > _MAX_SIZE:
        raise InvalidInputError(f'the sparse map of "{_show(entry.name)}" does not fit its data')
    entry.sparse = [piece for piece in pieces if piece[1]]


def _sparse_table(raw: bytes) -> list[tuple[int, int]]:
    pieces = []
    for start in range(0, len(raw) - 23, 24):
        if not raw[start]:
            break
        pieces.append((_number(raw[start : start + 12]), _number(raw[start + 12 : start + 24])))
    return pieces


def _text(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _show(name: bytes) -> str:
    return name[:200].decode(errors="replace")


def _number(raw: bytes) -> int:
    """Return an octal field, or GNU's base 256 for what octal cannot say."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    text = raw.split(b"\0", 1)[0].strip() if raw[-1] else raw[:-1]
    if not text.isdigit():
        text = raw.split(b"\0", 1)[0].strip()
    if not text:
        return 0
    try:
        if not text.isdigit():
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise InvalidInputError(f'"{_show(text)}" is not a number of a tar header') from None


def _decimal(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 20:
        raise InvalidInputError(f'"{_show(raw)}" is not a number of a tar header')
    return int(raw)


def _time(raw: bytes) -> int:
    """Return a pax time, decimal seconds with a fraction, in nanoseconds."""
    whole, _, fraction = raw.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole.lstrip(b"-")
    if not digits.isdigit() or len(digits) > 14 or (fraction and not fraction.isdigit()):
        return 0
    value = int(digits) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return -value if negative else value


def _records(data: bytes) -> dict[bytes, bytes]:
    """Return pax records: "length key=value", a line each, the length counting the whole record."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 21)
        if space < 0:
            break
        end = at + _decimal(data[at:space])
        if end <= space or end > len(data) or data[end - 1 : end] != b"\n":
            raise InvalidInputError("a pax record of the tar is damaged")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise InvalidInputError("a pax record of the tar is damaged")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            # Format 0.0 repeats its keys; joined in order they are the map of format 0.1.
            before = records.get(b"GNU.sparse.map")
            records[b"GNU.sparse.map"] = value if before is None else before + b"," + value
        else:
            records[key] = value
        at = end
    return records


def _check_sum(header: bytes) -> None:
    try:
        stored = _number(header[148:156])
    except InvalidInputError as error:
        raise InvalidInputError(f"this is not a tar: {error.message}") from error
    total = sum(header) - sum(header[148:156]) + 8 * 32
    if stored != total:
        signed = total - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
        if stored != signed:
            raise InvalidInputError("this is not a tar: the checksum of a header is wrong")


def any_tar(data: bytes) -> bool:
    """Tell whether the bytes start like a tar (ustar magic or a header whose checksum fits)."""
    if len(data) < BLOCK:
        return False
    try:
        _check_sum(data[:BLOCK])
    except InvalidInputError:
        return False
    return data[:BLOCK] != _ZERO
