"""ContentStore, LayerStore, VolumeStore and RootTree: bytes at rest.

A *blob* is bytes named by their digest. A *layer* is a blob unpacked once into a directory named by its chain ID. A
*snapshot* is a writable overlay on layers, named by a key (a container's ID, a build step).
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from stackctl.frozen import frozen
from stackctl.oci.descriptor import Descriptor


@frozen
class TarLimits:
    """How far a tar may unfold, whoever sent it: bytes of plain data and entries."""

    size: int = 128 << 30
    entries: int = 3_000_000


@frozen
class PackedLayer:
    """A layer made from a snapshot: the tar's digest is both diff ID and blob digest (kept uncompressed)."""

    chain_id: str
    diff_id: str
    blob: Descriptor
    size: int


@frozen
class Change:
    """One difference between a snapshot and its layers: kind 0 modified, 1 added, 2 deleted (Docker's numbers)."""

    path: str
    kind: int


@frozen
class PathStat:
    """What is at a path inside a root: ``mode`` is st_mode, ``mtime`` seconds, ``link_target`` "" unless a symlink."""

    name: str
    size: int
    mode: int
    mtime: float
    link_target: str = ""


@frozen
class Furnishing:
    """A bind mount in a snapshot's root: ``source`` on the host, ``target`` an absolute path in the root."""

    source: str
    target: str
    read_only: bool = False


@frozen
class SyncResult:
    """What a batch of file changes did; ``failures`` are (path, why) of what could not be done, the rest was."""

    written: int = 0
    deleted: int = 0
    size: int = 0
    failures: tuple[tuple[str, str], ...] = ()


class ContentStore(Protocol):
    """Blobs by digest, in an OCI image layout. Nothing unverified is ever visible."""

    async def ingest(
        self,
        chunks: AsyncIterator[bytes],
        expected: Descriptor | None = None,
        *,
        resume: bool = False,
    ) -> Descriptor:
        """Store a stream; verified against ``expected`` (digest, size) while streaming, visible only when whole.

        Raises InvalidInputError when it does not match. Storing what is there already is success. With ``resume``
        the chunks go on where ``partial`` says, and what came is kept when they break off; one at a time per blob.
        """

    def partial(self, expected: Descriptor) -> int:
        """Return how many of a blob's first bytes an ingest with ``resume`` left; 0 for none."""

    async def drop_partials(self, kept: Collection[str] = ()) -> int:
        """Remove what broken downloads left, but for the digests ``kept``; return the bytes."""

    async def put(self, data: bytes, media_type: str) -> Descriptor:
        """Store bytes."""

    async def ingest_tar(self, chunks: AsyncIterator[bytes]) -> Descriptor:
        """Store the plain bytes of a tar that may be compressed; the digest is therefore the layer's diff ID.

        Raises InvalidInputError when it is no tar.
        """

    async def ingest_archive(self, chunks: AsyncIterator[bytes]) -> Mapping[str, Descriptor]:
        """Store every file of a tar (which may be compressed) as a blob; return them by clean path, links resolved.

        The media type is what the first bytes say: a layer's (plain, gzip, zstd) or "application/octet-stream".
        Raises InvalidInputError when it is no tar.
        """

    def archive(self, files: Sequence[tuple[str, str | bytes]], mtime: int) -> AsyncIterator[bytes]:
        """Yield a tar of (path, digest of a blob or the bytes themselves), in the given order; ``mtime`` in seconds."""

    async def compress(self, digest: str) -> Descriptor:
        """Store the gzip form of a blob (always the same bytes for the same blob) and return it."""

    async def read(self, digest: str) -> bytes:
        """Return a small blob whole; raises NotFoundError."""

    def path(self, digest: str) -> Path:
        """Return where the blob is; raises NotFoundError when it is not."""

    def has(self, digest: str) -> bool:
        """Tell whether the blob is there."""

    async def delete(self, digest: str) -> None:
        """Remove it; success when it is not there."""

    async def digests(self) -> Sequence[str]:
        """Return every blob's digest."""


class LayerStore(Protocol):
    """Layers by chain ID and snapshots by key."""

    def has(self, chain_id: str) -> bool:
        """Tell whether the layer is unpacked."""

    async def unpack(self, chain_id: str, blob: Path, media_type: str, diff_id: str) -> int:
        """Unpack a blob (tar, gzip, zstd) as the layer, verifying its diff ID; return its size in bytes.

        Atomic; idempotent; one at a time per chain ID. Never leaves its root. Raises InvalidInputError for a layer
        that tries, or whose diff ID differs.
        """

    async def size(self, chain_id: str) -> int:
        """Return the unpacked size in bytes."""

    async def remove(self, chain_id: str) -> None:
        """Remove a layer; success when it is gone. The caller knows that nothing uses it."""

    async def layers(self) -> Sequence[str]:
        """Return every chain ID."""

    async def prepare(
        self,
        key: str,
        layers: Sequence[str],
        *,
        volatile: bool = False,
        files: Sequence[str] = (),
    ) -> None:
        """Make a snapshot on layers (lowest first; none for an empty root); success when it is there already.

        It holds empty ``files`` (names in its root, mode 0755) from the start.
        A ``volatile`` one is never flushed to the disk, which makes unmounting it cheap: for what a crash of the
        machine makes worthless anyway, such as a build step. fsync inside it does nothing.
        """

    async def mount(self, key: str) -> Path:
        """Mount the snapshot and return its root; success when it is mounted."""

    async def unmount(self, key: str) -> None:
        """Unmount it; success when it is not mounted or not there."""

    async def discard(self, key: str) -> None:
        """Unmount and remove the snapshot; success when it is gone."""

    async def snapshots(self) -> Sequence[str]:
        """Return every key."""

    async def commit(
        self,
        key: str,
        parent: Sequence[str],
        *,
        consume: bool = False,
        without: Collection[str] = (),
    ) -> PackedLayer | None:
        """Freeze what the snapshot holds as a new layer on ``parent`` (chain IDs) and store its tar as a blob.

        None when nothing changed. The snapshot is still there afterwards; with ``consume`` its files become the
        layer's without a copy and it is discarded (when nothing changed it stays). Paths ``without``, absolute, are
        left out with all below them; not to be used with ``consume``.
        """

    async def changes(self, key: str) -> Sequence[Change]:
        """Return what the snapshot changed, by path."""

    async def usage(self, key: str) -> int:
        """Return the bytes the snapshot itself holds."""

    def places(self, layers: Sequence[str], key: str = "") -> Mapping[str, str]:
        """Return where a snapshot's parts are on the host, by Docker's names: UpperDir, WorkDir, MergedDir, LowerDir.

        Without a key those of the layers alone, of which the topmost is the UpperDir. Several lower ones are joined by
        ":", the topmost first.
        """

    def view(self, layers: Sequence[str]) -> AbstractAsyncContextManager[Path]:
        """Give a read-only root of the layers for the duration (for reading files out of an image)."""

    def furnished(self, key: str, items: Sequence[Furnishing]) -> AbstractAsyncContextManager[Path]:
        """Give the snapshot's root with the items mounted in it, for the duration, beside its own mount.

        For a snapshot that no container runs in. The snapshot must be mounted meanwhile.
        """


class VolumeStore(Protocol):
    """Local volumes as directories."""

    async def create(self, name: str, options: Mapping[str, str]) -> Path:
        """Make the volume's directory; success when it is there. ``options`` are the local driver's type, o, device."""

    async def copy_up(self, mountpoint: Path, source: Path) -> None:
        """Fill an *empty* volume from a directory of the image: owners, modes and xattrs kept; else do nothing."""

    async def remove(self, name: str) -> None:
        """Remove it and what it holds; success when it is gone."""

    async def usage(self, name: str) -> int:
        """Return the bytes it holds."""


class RootTree(Protocol):
    """Files inside a container's root, which the container may be changing: no path leaves the root."""

    async def stat(self, root: Path, path: str, *, follow: bool = False) -> PathStat:
        """Return what is at the path; raises NotFoundError."""

    def pack(self, root: Path, path: str) -> AsyncIterator[bytes]:
        """Yield a tar of the path, its base name as the top entry; raises NotFoundError.

        As Docker names them: entries of "/" start with "/", those of "/etc/." with "./"; "" is the whole root with
        bare names and without a top entry, as export wants it. A symlink at the path itself is not followed unless
        the path ends in "/" or "/.".
        """

    async def unpack(
        self,
        root: Path,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Unpack a tar (also gzip, bzip2, xz, zstd) into the directory at path.

        Owners are those of the tar; with ``copy_uid_gid`` everything gets ``owner`` (user ID, group ID), as Docker
        gives it to the user of a container that has one; without ``owner`` it changes nothing. ``owner`` alone is
        taken too.

        Raises NotFoundError for a missing directory, InvalidInputError when it is no directory or the tar is bad.
        """

    async def read(self, root: Path, path: str, *, limit: int) -> bytes:
        """Return a regular file's first ``limit`` bytes; raises NotFoundError."""

    async def sync(self, root: Path, chunks: AsyncIterator[bytes]) -> SyncResult:
        """Apply a batch of file changes to a root that is in use; see ``adapters.storage.treesync`` for its form.

        Raises InvalidInputError for a batch that is not well formed, HostError when the root is gone.
        """
