"""ContentStore by digest-named files in an OCI image layout (OCI image specification, image-layout.md).

A blob is written beside the others under a random name, hashed as it comes, and gets its name when it is whole,
verified and flushed; so a name that exists is a blob that is right.
"""

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
import posixpath
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from stackctl.adapters.storage.bridge import into_thread, out_of_thread, to_the_end
from stackctl.adapters.storage.layers import batched
from stackctl.adapters.storage.tarreader import (
    HARDLINK,
    REGULAR,
    SYMLINK,
    Readable,
    TarStream,
    any_tar,
    decompressed,
)
from stackctl.adapters.storage.tarwriter import Owner, end, header, padding
from stackctl.adapters.storage.treewriter import clean_name
from stackctl.contracts.storage import TarLimits
from stackctl.errors import HostError, InvalidInputError, NotFoundError
from stackctl.host.files import atomic_write, remove_tree, write_all
from stackctl.oci.descriptor import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    Descriptor,
)
from stackctl.oci.digest import check_digest, digest_of, is_digest

MAX_SMALL_BLOB = 8 << 20
_BATCH = 1 << 20
_PARTIAL = "partial-"
_MAX_ARCHIVE_ENTRIES = 100_000
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % OCI_INDEX.encode()


class Compressor(Protocol):
    """What zlib's and isal's compressors have in common."""

    def compress(self, data: bytes, /) -> bytes:
        """Take bytes; return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class BlobStore:
    """Blobs below ``root``, which is made when it is not there."""

    def __init__(self, root: Path, *, limits: TarLimits | None = None) -> None:
        self._limits = limits or TarLimits()
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        for directory in (root, root / "blobs", self._blobs, self._ingest):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (root / "oci-layout").exists():
            atomic_write(root / "oci-layout", _LAYOUT)
            atomic_write(root / "index.json", _INDEX)

    async def recover(self) -> None:
        """Remove what a crash left half written. To be called before anything is stored.

        The first part of a download stays, since the next pull goes on from there and verifies the whole.
        """
        for left in await asyncio.to_thread(lambda: list(self._ingest.iterdir())):
            if not left.name.startswith(_PARTIAL):
                await asyncio.to_thread(remove_tree, left)

    def partial(self, expected: Descriptor) -> int:
        try:
            size = self._partial_path(expected.digest).stat().st_size
        except OSError:
            return 0
        # One that is as long as the blob and yet no blob is wrong: it starts anew.
        return size if expected.size < 0 or size < expected.size else 0

    async def drop_partials(self, kept: Collection[str] = ()) -> int:
        spared = {self._partial_path(digest).name for digest in kept if is_digest(digest)}
        return await asyncio.to_thread(self._drop_partials, spared)

    def _drop_partials(self, spared: Collection[str]) -> int:
        freed = 0
        for left in self._ingest.glob(f"{_PARTIAL}*"):
            if left.name not in spared:
                freed += left.stat().st_size
                left.unlink(missing_ok=True)
        return freed

    def _partial_path(self, digest: str) -> Path:
        return self._ingest / f"{_PARTIAL}{digest.replace(':', '-')}"

    def new_file(self) -> Path:
        """Return a name for a file to be written and then given to ``adopt``."""
        return self._ingest / os.urandom(8).hex()

    async def ingest(
        self,
        chunks: AsyncIterator[bytes],
        expected: Descriptor | None = None,
        *,
        resume: bool = False,
    ) -> Descriptor:
        algorithm = expected.digest.partition(":")[0] if expected else "sha256"
        start, path = 0, self.new_file()
        if resume and expected is not None:
            start, path = self.partial(expected), self._partial_path(expected.digest)
        writer = _Writer(path, algorithm if expected else "", at=start)
        limit = expected.size if expected is not None and expected.size >= 0 else None
        keep = resume
        try:
            if start:
                await to_the_end(writer.hash_again)
            batch: list[bytes] = []
            waiting, total = 0, start
            async for chunk in chunks:
                batch.append(chunk)
                waiting += len(chunk)
                total += len(chunk)
                if limit is not None and total > limit:
                    keep = False
                    raise InvalidInputError(
                        f"the blob {_name(expected)} is larger than the {limit} bytes it should have"
                    )
                if waiting >= _BATCH:
                    await to_the_end(functools.partial(writer.write, batch))
                    batch, waiting = [], 0
            await to_the_end(functools.partial(writer.write, batch))
            found, size = await to_the_end(writer.finish)
            # Whole: it becomes the blob, or it is wrong and of no use to anybody.
            keep = False
            return await self._accept(writer, found, size, expected)
        except OSError as error:
            raise _mapped(error) from error
        finally:
            if keep:
                writer.close()
            else:
                writer.discard()
            await _closed(chunks)

    async def _accept(
        self, writer: "_Writer", found: str, size: int, expected: Descriptor | None
    ) -> Descriptor:
        media_type = expected.media_type if expected else "application/octet-stream"
        if expected is not None:
            if expected.size >= 0 and size != expected.size:
                raise InvalidInputError(
                    f"the blob {_name(expected)} has {size} bytes, not {expected.size}"
                )
            if writer.expected_digest != expected.digest:
                raise InvalidInputError(
                    f"the blob {_name(expected)} is not what its name says: it is {writer.expected_digest}"
                )
        await asyncio.to_thread(writer.path.replace, self._target(found))
        return Descriptor(media_type=media_type, digest=found, size=size)

    async def adopt(self, file: Path, digest: str, size: int, media_type: str) -> Descriptor:
        """Take a file from ``new_file``, flushed and hashed by the caller, as a blob."""
        await asyncio.to_thread(file.replace, self._target(check_digest(digest)))
        return Descriptor(media_type=media_type, digest=digest, size=size)

    async def put(self, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        target = self._target(digest)
        if not target.exists():
            try:
                await asyncio.to_thread(atomic_write, target, data)
            except OSError as error:
                raise _mapped(error) from error
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    async def ingest_tar(self, chunks: AsyncIterator[bytes]) -> Descriptor:
        target = self.new_file()
        try:
            digest, size = await into_thread(
                chunks, lambda raw: _store_plain(raw, target, self._limits)
            )
            return await self.adopt(target, digest, size, OCI_LAYER)
        except OSError as error:
            raise _mapped(error) from error
        finally:
            target.unlink(missing_ok=True)

    async def ingest_archive(self, chunks: AsyncIterator[bytes]) -> Mapping[str, Descriptor]:
        def work(raw: Readable) -> dict[str, Descriptor]:
            return _store_files(raw, self.new_file, self._target)

        try:
            return await into_thread(chunks, work)
        except OSError as error:
            raise _mapped(error) from error

    def archive(self, files: Sequence[tuple[str, str | bytes]], mtime: int) -> AsyncIterator[bytes]:
        sources = [
            (name, self.path(what) if isinstance(what, str) else what) for name, what in files
        ]
        return out_of_thread(lambda: batched(_archive(sources, mtime)))

    async def compress(self, digest: str) -> Descriptor:
        source, target = self.path(digest), self.new_file()
        try:
            found, size = await to_the_end(lambda: _gzip(source, target))
            return await self.adopt(target, found, size, OCI_LAYER_GZIP)
        except OSError as error:
            raise _mapped(error) from error
        finally:
            target.unlink(missing_ok=True)

    async def read(self, digest: str) -> bytes:
        path = self.path(digest)
        size = path.stat().st_size
        if size > MAX_SMALL_BLOB:
            raise InvalidInputError(f"the blob {digest} has {size} bytes, too many to read whole")
        return await asyncio.to_thread(path.read_bytes)

    def path(self, digest: str) -> Path:
        target = self._target(check_digest(digest))
        if not target.exists():
            raise NotFoundError(f"the blob {digest} is not in the content store")
        return target

    def has(self, digest: str) -> bool:
        return is_digest(digest) and self._target(digest).exists()

    async def delete(self, digest: str) -> None:
        # Renamed at once, so that nobody finds it between the caller's decision and the slower removal.
        trash = self.new_file()
        try:
            self._target(check_digest(digest)).rename(trash)
        except FileNotFoundError:
            return
        await asyncio.to_thread(trash.unlink)

    async def digests(self) -> Sequence[str]:
        names = await asyncio.to_thread(os.listdir, self._blobs)
        return sorted(f"sha256:{name}" for name in names if is_digest(f"sha256:{name}"))

    def _target(self, digest: str) -> Path:
        algorithm, _, name = digest.partition(":")
        if algorithm == "sha256":
            return self._blobs / name
        return self._blobs.parent / algorithm / name


class _Writer:
    """One blob being written: always hashed as SHA-256, and as what is expected where that is something else."""

    def __init__(self, path: Path, algorithm: str, *, at: int = 0) -> None:
        self.path = path
        self.expected_digest = ""
        # From the start a new file, whatever is there under the name of a partial download.
        if not at:
            path.unlink(missing_ok=True)
        new = 0 if at else os.O_CREAT | os.O_EXCL
        self._fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | new, 0o600)
        self._hash = hashlib.new(algorithm or "sha256")
        self._size = 0

    def hash_again(self) -> None:
        """Take what the file holds already as written."""
        while data := os.read(self._fd, _BATCH):
            self._hash.update(data)
            self._size += len(data)

    def write(self, batch: list[bytes]) -> None:
        for data in batch:
            self._hash.update(data)
            write_all(self._fd, data)
            self._size += len(data)

    def finish(self) -> tuple[str, int]:
        os.fsync(self._fd)
        self.expected_digest = f"{self._hash.name}:{self._hash.hexdigest()}"
        if self._hash.name != "sha256":
            (self.path.parent.parent / "blobs" / self._hash.name).mkdir(mode=0o700, exist_ok=True)
        return self.expected_digest, self._size

    def close(self) -> None:
        """Close; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def discard(self) -> None:
        """Close; remove the file unless it became a blob."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


async def _closed(chunks: AsyncIterator[bytes]) -> None:
    """End a generator that was left in the middle now, and not when the collector finds it."""
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


def _store_plain(raw: Readable, target: Path, limits: TarLimits) -> tuple[str, int]:
    """Write a tar without its compression; the tar is walked, so that what is none is refused here."""
    writer = _Writer(target, "")
    try:
        stream = TarStream(
            _Copying(decompressed(raw), writer), max_bytes=limits.size, max_entries=limits.entries
        )
        for _ in stream:
            pass
        stream.drain()
        return writer.finish()
    finally:
        writer.close()


class _Copying:
    """A reader that writes down what passes."""

    def __init__(self, source: Readable, writer: "_Writer") -> None:
        self._source = source
        self._writer = writer

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._writer.write([data])
        return data


def _store_files(
    raw: Readable, new_file: Callable[[], Path], target: Callable[[str], Path]
) -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    links: dict[str, str] = {}
    stream = TarStream(decompressed(raw), max_entries=_MAX_ARCHIVE_ENTRIES)
    for entry in stream:
        name = os.fsdecode(clean_name(entry.name))
        if entry.kind == SYMLINK:
            # Old archives share layers so: "<id>/layer.tar" -> "../<other id>/layer.tar".
            where = posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link))
            links[name] = os.fsdecode(clean_name(os.fsencode(where)))
        elif entry.kind == HARDLINK:
            links[name] = os.fsdecode(clean_name(entry.link))
        elif entry.kind == REGULAR and entry.sparse is None:
            found[name] = _store_file(stream, new_file(), target)
    stream.drain()
    for name, other in links.items():
        if other in found:
            found.setdefault(name, found[other])
    return found


def _store_file(stream: TarStream, path: Path, target: Callable[[str], Path]) -> Descriptor:
    writer = _Writer(path, "")
    try:
        head = b""
        while chunk := stream.read():
            head = head or chunk[:512]
            writer.write([chunk])
        digest, size = writer.finish()
        path.replace(target(digest))
    finally:
        writer.discard()
    return Descriptor(media_type=_sniff(head), digest=digest, size=size)


def _sniff(head: bytes) -> str:
    if head.startswith(b"\x1f\x8b"):
        return OCI_LAYER_GZIP
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return OCI_LAYER_ZSTD
    return OCI_LAYER if any_tar(head) or head == bytes(512) else "application/octet-stream"


def _archive(files: Sequence[tuple[str, Path | bytes]], mtime: int) -> Iterator[bytes]:
    directories: set[str] = set()
    owner = Owner(mode=0o644, mtime=mtime)
    for name, what in files:
        parents = [str(parent) for parent in reversed(Path(name).parents) if str(parent) != "."]
        for parent in parents:
            if parent not in directories:
                directories.add(parent)
                yield header(f"{parent}/".encode(), b"5", Owner(mode=0o755, mtime=mtime))
        if isinstance(what, bytes):
            yield header(name.encode(), b"0", owner, size=len(what)) + what + padding(len(what))
            continue
        with open(what, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            yield header(name.encode(), b"0", owner, size=size)
            while data := file.read(_BATCH):
                yield data
            yield padding(size)
    yield end()


def _compressor() -> Compressor:
    """Return a gzip compressor: with isal ten times as fast as zlib's usual level, a tenth larger."""
    try:
        from isal import isal_zlib
    except ImportError:  # the wheel exists for two architectures
        return zlib.compressobj(6, zlib.DEFLATED, 31)
    make = cast(Callable[..., Compressor], isal_zlib.compressobj)
    return make(level=isal_zlib.ISAL_BEST_COMPRESSION, wbits=31)


def _gzip(source: Path, target: Path) -> tuple[str, int]:
    """Compress, without a name and a time in the header (RFC 1952), so that the same bytes give the same bytes."""
    writer = _Writer(target, "")
    try:
        squeeze = _compressor()
        with open(source, "rb", buffering=0) as file:
            while data := file.read(_BATCH):
                writer.write([squeeze.compress(data)])
        writer.write([squeeze.flush()])
        return writer.finish()
    finally:
        writer.close()


def _name(expected: Descriptor | None) -> str:
    return expected.digest if expected else ""


def _mapped(error: OSError) -> Exception:
    """Return our kind of the kernel's refusal; what befell the sender stays as it is."""
    if isinstance(error, ConnectionError | TimeoutError):
        return error
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return HostError(f"cannot store a blob: {error.strerror}", errno=error.errno or 0, hint=hint)
