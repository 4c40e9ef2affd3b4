"""ContentStore by digest-named files in an OCI image layout (OCI image specification, image-layout.md).

A blob is written beside the others under a random name, hashed as it comes, and gets its name when it is whole,
verified and flushed; so a name that exists is a blob that is right.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stackctl.errors import HostError, InvalidInputError, NotFoundError
from stackctl.host.files import atomic_write, remove_tree, write_all
from stackctl.oci.descriptor import OCI_INDEX, Descriptor
from stackctl.oci.digest import check_digest, digest_of, is_digest

MAX_SMALL_BLOB = 8 << 20
_BATCH = 1 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % OCI_INDEX.encode()


class BlobStore:
    """Blobs below ``root``, which is made when it is not there."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        for directory in (root, root / "blobs", self._blobs, self._ingest):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (root / "oci-layout").exists():
            atomic_write(root / "oci-layout", _LAYOUT)
            atomic_write(root / "index.json", _INDEX)

    async def recover(self) -> None:
        """Remove what a crash left half written. To be called before anything is stored."""
        for left in await asyncio.to_thread(lambda: list(self._ingest.iterdir())):
            await asyncio.to_thread(remove_tree, left)

    def new_file(self) -> Path:
        """Return a name for a file to be written and then given to ``adopt``."""
        return self._ingest / os.urandom(8).hex()

    async def ingest(
        self, chunks: AsyncIterator[bytes], expected: Descriptor | None = None
    ) -> Descriptor:
        algorithm = expected.digest.partition(":")[0] if expected else "sha256"
        writer = _Writer(self.new_file(), algorithm if expected else "")
        limit = expected.size if expected is not None and expected.size >= 0 else None
        try:
            batch: list[bytes] = []
            waiting = total = 0
            async for chunk in chunks:
                batch.append(chunk)
                waiting += len(chunk)
                total += len(chunk)
                if limit is not None and total > limit:
                    raise InvalidInputError(
                        f"the blob {_name(expected)} is larger than the {limit} bytes it should have"
                    )
                if waiting >= _BATCH:
                    await asyncio.to_thread(writer.write, batch)
                    batch, waiting = [], 0
            await asyncio.to_thread(writer.write, batch)
            found, size = await asyncio.to_thread(writer.finish)
            return await self._accept(writer, found, size, expected)
        except OSError as error:
            raise _host_error(error) from error
        finally:
            writer.discard()

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
                raise _host_error(error) from error
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

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
        await asyncio.to_thread(self._target(check_digest(digest)).unlink, missing_ok=True)

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

    def __init__(self, path: Path, algorithm: str) -> None:
        self.path = path
        self.expected_digest = ""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._hash = hashlib.new(algorithm or "sha256")
        self._size = 0

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

    def discard(self) -> None:
        """Close; remove the file unless it became a blob."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def _name(expected: Descriptor | None) -> str:
    return expected.digest if expected else ""


def _host_error(error: OSError) -> HostError:
    return HostError(f"cannot store a blob: {error.strerror}", errno=error.errno or 0)
