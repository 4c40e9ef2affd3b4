"""RootTree by openat2: files of a root that its container may be changing at this moment.

Nothing resolves a path twice: what is looked at, read or written is what one openat2 with RESOLVE_IN_ROOT opened, so
exchanging a component for a symlink in between gains nothing (CVE-2018-15664). Decompression happens here, with modules
loaded before, never with programs or libraries of the root (CVE-2019-14271).
"""

import asyncio
import errno
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stackctl.adapters.storage.bridge import into_thread, out_of_thread
from stackctl.adapters.storage.layers import batched
from stackctl.adapters.storage.tarreader import Readable, TarStream, decompressed
from stackctl.adapters.storage.tarwriter import TreePacker, end
from stackctl.adapters.storage.treesync import TreeSync
from stackctl.adapters.storage.treewriter import TreeWriter
from stackctl.contracts.storage import PathStat, SyncResult, TarLimits
from stackctl.errors import HostError, InvalidInputError, NotFoundError, StackctlError
from stackctl.host.files import open_in_root

_LOOK = os.O_PATH | os.O_NOFOLLOW
_FOLLOW = os.O_PATH
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_MAX_LINKS = 40


class OpenAtRootTree:
    """Files inside roots; keeps nothing between calls."""

    def __init__(self, *, limits: TarLimits | None = None) -> None:
        self._limits = limits or TarLimits()

    async def stat(self, root: Path, path: str, *, follow: bool = False) -> PathStat:
        return await asyncio.to_thread(_stat, root, path, follow=follow)

    async def pack(self, root: Path, path: str) -> AsyncIterator[bytes]:
        await asyncio.to_thread(_check, root, path)
        async for chunk in out_of_thread(lambda: batched(_pack(root, path), 1 << 18)):
            yield chunk

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
        del copy_uid_gid  # the caller knows whose the container is, and says so by ``owner``

        def work(raw: Readable) -> None:
            with _root(root) as root_fd:
                _check_directory(root_fd, path)
                writer = TreeWriter(
                    root_fd,
                    base=os.fsencode(path),
                    no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
                    owner=owner,
                )
                try:
                    unpack_stream(raw, writer, self._limits)
                finally:
                    writer.close()

        await into_thread(chunks, work)

    async def sync(self, root: Path, chunks: AsyncIterator[bytes]) -> SyncResult:
        def work(raw: Readable) -> SyncResult:
            with _root(root) as root_fd:
                return TreeSync(root_fd).apply(raw)

        return await into_thread(chunks, work)

    async def read(self, root: Path, path: str, *, limit: int) -> bytes:
        return await asyncio.to_thread(_read, root, path, limit)


def unpack_stream(raw: Readable, writer: TreeWriter, limits: TarLimits | None = None) -> None:
    """Apply a whole tar, compressed or not. Raises InvalidInputError, HostError for the kernel's refusal."""
    limits = limits or TarLimits()
    stream = TarStream(decompressed(raw), max_bytes=limits.size, max_entries=limits.entries)
    for entry in stream:
        try:
            writer.apply(entry, stream)
        except OSError as error:
            name = entry.name[:200].decode(errors="replace")
            raise HostError(
                f'cannot write "{name}": {error.strerror}', errno=error.errno or 0
            ) from error
    writer.finish()
    stream.drain()


@contextmanager
def _root(root: Path) -> Iterator[int]:
    try:
        fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"cannot open the root {root}: {error.strerror}", errno=error.errno or 0
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _open(root_fd: int, path: str, flags: int) -> int:
    try:
        return open_in_root(root_fd, path or "/", flags)
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: str, error: OSError) -> StackctlError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return NotFoundError(f"Could not find the file {path[:200]} in container")
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInputError(f"the path {path[:80]}… is too long")
    return HostError(f"cannot open {path}: {error.strerror}", errno=error.errno or 0)


def _check_directory(root_fd: int, path: str) -> None:
    fd = _open(root_fd, path, _FOLLOW)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidInputError("extraction point is not a directory")
    finally:
        os.close(fd)


def _check(root: Path, path: str) -> None:
    with _root(root) as root_fd:
        os.close(_open(root_fd, path, _LOOK))


def _stat(root: Path, path: str, *, follow: bool) -> PathStat:
    with _root(root) as root_fd:
        fd = _open(root_fd, path, _FOLLOW if follow else _LOOK)
        try:
            info = os.fstat(fd)
            target = ""
            if stat.S_ISLNK(info.st_mode):
                target = _resolved(root_fd, path, os.readlink(b"", dir_fd=fd))
        finally:
            os.close(fd)
    return PathStat(
        name=posixpath.basename(posixpath.normpath(path)) or "/",
        size=info.st_size,
        mode=info.st_mode,
        mtime=info.st_mtime,
        link_target=target,
    )


def _resolved(root_fd: int, path: str, link: bytes) -> str:
    """Return where a symlink leads as a path inside the root, as far as it can be followed."""
    at = _joined(path, link)
    for _ in range(_MAX_LINKS):
        try:
            fd = open_in_root(root_fd, at, _LOOK)
        except OSError:
            return at
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return at
            at = _joined(at, os.readlink(b"", dir_fd=fd))
        finally:
            os.close(fd)
    return at


def _joined(path: str, link: bytes) -> str:
    where = posixpath.join("/", posixpath.dirname(path.rstrip("/")), os.fsdecode(link))
    return posixpath.normpath(where).replace("//", "/")


def _pack(root: Path, path: str) -> Iterator[bytes]:
    with _root(root) as root_fd:
        packer = TreePacker(hollow=_kernel_devices(root_fd))
        follow = path.endswith(("/", "/.")) or path in ("", ".")
        fd = _open(root_fd, path, _FOLLOW if follow else _LOOK)
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                yield from _pack_directory(packer, root_fd, path)
            else:
                # The parent is opened by itself, so the entry is looked up by name in it, never by the whole path.
                clean = path.rstrip("/")
                parent, name = posixpath.split(clean)
                parent_fd = _open(root_fd, parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    yield from packer.entry(parent_fd, os.fsencode(name), os.fsencode(name))
                finally:
                    os.close(parent_fd)
        finally:
            os.close(fd)
    yield end()


def _kernel_devices(root_fd: int) -> frozenset[int]:
    """Return the devices of what the kernel shows in a running container's root: no files of anybody."""
    own = os.fstat(root_fd).st_dev
    found = set()
    for name in ("proc", "sys", "dev"):
        with suppress(OSError):
            found.add(os.stat(name, dir_fd=root_fd, follow_symlinks=False).st_dev)
    return frozenset(found - {own})


def _pack_directory(packer: TreePacker, root_fd: int, path: str) -> Iterator[bytes]:
    directory_fd = _open(root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if path == "":
            yield from packer.tree(directory_fd)
            return
        if path.endswith("/.") or path == ".":
            name = b"."
        else:
            name = os.fsencode(posixpath.basename(path.rstrip("/")))
        yield from packer.directory(directory_fd, name)
    finally:
        os.close(directory_fd)


def _read(root: Path, path: str, limit: int) -> bytes:
    with _root(root) as root_fd:
        fd = _open(root_fd, path, _READ)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotFoundError(f"{path} is not a regular file")
            parts = []
            while limit > 0 and (data := os.read(fd, min(limit, 1 << 20))):
                parts.append(data)
                limit -= len(data)
            return b"".join(parts)
        except OSError as error:
            raise HostError(
                f"cannot read {path}: {error.strerror}", errno=error.errno or 0
            ) from error
        finally:
            os.close(fd)
