"""TreeSync: a batch of file changes applied to a container's root while the container uses it.

The batch is a stream of entries. Each is one line of JSON, ended by a newline, followed by ``size`` bytes where ``type``
is "file"::

    {"path": "/app/a.py", "type": "file", "size": 12, "mode": 420, "mtime": 1700000000000000000}
    {"path": "/app/link", "type": "symlink", "link": "a.py"}
    {"path": "/app/sub", "type": "directory", "mode": 493}
    {"path": "/app/old", "type": "deleted"}

Paths are resolved by the kernel with the container's root as "/" (openat2(2), RESOLVE_IN_ROOT), so no symlink leads
out, and nothing of the container is run: its image needs no ``tar`` and no ``rm``. A file is written beside its name
and renamed over it, so a reader sees the old bytes or the new ones. A file that is a mount point itself is written in
place: renaming over it would take the mount away. Mounts below a directory that is deleted are left alone.

What exists keeps its owner; what is new gets the owner of the directory it is in. Missing parents are made.
"""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stackctl.adapters.storage.lastlinks import LastLinks, last_links
from stackctl.adapters.storage.tarreader import Readable
from stackctl.contracts.storage import SyncResult
from stackctl.errors import HostError, InvalidInputError
from stackctl.frozen import frozen
from stackctl.host.files import open_in_root, write_all

_LOOK = os.O_PATH | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_LINE = 64 * 1024
_PIECE = 1 << 20
_OPEN_DIRECTORIES = 64
_MOST_FAILURES = 20
# These concern the whole batch: going on would only repeat them.
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


@frozen
class Entry:
    """One change. ``mode`` are permission bits, None to leave them; ``mtime`` nanoseconds, 0 for now."""

    path: str
    type: str
    size: int = 0
    mode: int | None = None
    mtime: int = 0
    link: str = ""


class Batch:
    """Reads entries off a stream; a file's bytes must be taken (``pieces``) or they are passed over."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._held = b""
        self._left = 0

    def __iter__(self) -> Iterator[Entry]:
        while True:
            for _ in self.pieces():
                pass
            line = self._line()
            if not line:
                return
            entry = _parse(line)
            self._left = entry.size
            yield entry

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the file whose entry came last."""
        while self._left:
            data = self._held or self._raw.read(_PIECE)
            if not data:
                raise InvalidInputError("the batch ends in the middle of a file")
            piece, self._held = data[: self._left], data[self._left :]
            self._left -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > _LONGEST_LINE:
                raise InvalidInputError("an entry of the batch is too long")
            data = self._raw.read(_PIECE)
            if not data:
                if self._held:
                    raise InvalidInputError("the batch ends in the middle of an entry")
                return b""
            self._held += data
        line, self._held = self._held[: end + 1], self._held[end + 1 :]
        return line


def _parse(line: bytes) -> Entry:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"an entry of the batch is no JSON: {error}") from error
    match value:
        case {"path": str(path), "type": "file" | "symlink" | "directory" | "deleted" as kind}:
            pass
        case _:
            raise InvalidInputError("an entry of the batch has no path or an unknown type")
    clean = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if clean == "/" or "\0" in clean or ".." in clean.split("/"):
        raise InvalidInputError(f'"{path[:200]}" is no path to change')
    size, mode = value.get("size", 0), value.get("mode")
    mtime, link = value.get("mtime", 0), value.get("link", "")
    if not (
        isinstance(size, int)
        and size >= 0
        and isinstance(mtime, int)
        and abs(mtime) < 1 << 63
        and isinstance(link, str)
        and (mode is None or isinstance(mode, int))
    ):
        raise InvalidInputError(f'the entry of "{path[:200]}" is not well formed')
    if kind == "symlink" and (not link or "\0" in link):
        raise InvalidInputError(f'the symlink "{path[:200]}" leads nowhere')
    return Entry(
        path=clean,
        type=kind,
        size=size if kind == "file" else 0,
        mode=None if mode is None else mode & 0o7777,
        mtime=mtime,
        link=link,
    )


@dataclass(slots=True)
class TreeSync:
    """Applies one batch under an open root; keeps directories open meanwhile."""

    root_fd: int
    _open: dict[str, int] = field(default_factory=dict)
    _written: int = 0
    _deleted: int = 0
    _size: int = 0
    _failures: list[tuple[str, str]] = field(default_factory=list)
    _links: LastLinks = field(default_factory=LastLinks)

    def apply(self, raw: Readable) -> SyncResult:
        """Apply all of a stream; raises InvalidInputError, and HostError for what ends the batch."""
        mine, root = Path("/").stat(), os.fstat(self.root_fd)
        if (mine.st_dev, mine.st_ino) == (root.st_dev, root.st_ino):
            # The container's process is gone and its pid means another one by now.
            raise HostError("the container's root is gone", errno=errno.ESRCH)
        batch = Batch(raw)
        try:
            with last_links() as self._links:
                for entry in batch:
                    try:
                        self._one(entry, batch)
                    except OSError as error:
                        self._fail(entry, error)
        finally:
            self._forget()
        return SyncResult(
            written=self._written,
            deleted=self._deleted,
            size=self._size,
            failures=tuple(self._failures),
        )

    def _fail(self, entry: Entry, error: OSError) -> None:
        why = error.strerror or str(error)
        if error.errno in _HOPELESS:
            raise HostError(f"cannot write {entry.path}: {why}", errno=error.errno or 0) from error
        if len(self._failures) < _MOST_FAILURES:
            self._failures.append((entry.path, why))

    def _one(self, entry: Entry, batch: Batch) -> None:
        parent, _, name = entry.path.rpartition("/")
        if entry.type == "deleted":
            self._forget()
            self._delete(parent, name)
            return
        parent_fd = self._directory(parent)
        if entry.type == "file":
            self._file(parent_fd, name, entry, batch)
        elif entry.type == "symlink":
            self._symlink(parent_fd, name, entry)
            self._forget()
        else:
            self._make_directory(parent, parent_fd, name, entry)
        self._written += 1

    # Directories

    def _directory(self, path: str) -> int:
        """Return an open directory, made with its parents where it is missing."""
        fd = self._open.get(path)
        if fd is not None:
            return fd
        try:
            fd = open_in_root(self.root_fd, path or "/", _DIRECTORY)
        except FileNotFoundError:
            above, _, name = path.rpartition("/")
            above_fd = self._directory(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=above_fd)
                owner = os.fstat(above_fd)
                os.chown(name, owner.st_uid, owner.st_gid, dir_fd=above_fd, follow_symlinks=False)
            fd = open_in_root(self.root_fd, path, _DIRECTORY)
        if len(self._open) >= _OPEN_DIRECTORIES:
            self._forget(keep=path.rpartition("/")[0])
        self._open[path] = fd
        return fd

    def _forget(self, *, keep: str | None = None) -> None:
        """Close the directories: what they are called may have changed."""
        for path, fd in list(self._open.items()):
            if path != keep:
                os.close(fd)
                del self._open[path]

    def _make_directory(self, parent: str, parent_fd: int, name: str, entry: Entry) -> None:
        del parent
        found = _found(parent_fd, name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            if stat.S_ISLNK(found.st_mode) and self._leads_to_directory(entry.path):
                return  # a symlink to a directory serves as one, as it does for tar
            os.unlink(name, dir_fd=parent_fd)
            found = None
        if found is None:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
            owner = os.fstat(parent_fd)
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=parent_fd, follow_symlinks=False)
        if entry.mode is not None:
            fd = open_in_root(parent_fd, name, _DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fchmod(fd, entry.mode)
            finally:
                os.close(fd)

    def _leads_to_directory(self, path: str) -> bool:
        try:
            os.close(open_in_root(self.root_fd, path, _DIRECTORY))
        except OSError:
            return False
        return True

    # Files

    def _file(self, parent_fd: int, name: str, entry: Entry, batch: Batch) -> None:
        try:
            old = _hold(parent_fd, name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._in_place(entry, batch)
            return
        if old is None:
            self._replace(parent_fd, name, entry, batch, None)
            return
        try:
            self._replace(parent_fd, name, entry, batch, os.fstat(old))
        finally:
            self._links.take(old)

    def _replace(
        self,
        parent_fd: int,
        name: str,
        entry: Entry,
        batch: Batch,
        found: os.stat_result | None,
    ) -> None:
        if found is not None and stat.S_ISDIR(found.st_mode):
            self._forget()
            raise IsADirectoryError(errno.EISDIR, "a directory is in its place")
        owner = found or os.fstat(parent_fd)
        temporary = f".stackctl-{os.urandom(6).hex()}"
        fd = os.open(temporary, _NEW, 0o600, dir_fd=parent_fd)
        try:
            try:
                for piece in batch.pieces():
                    write_all(fd, piece)
                if owner.st_uid or owner.st_gid:
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                mode = stat.S_IMODE(found.st_mode) if found is not None else 0o644
                os.fchmod(fd, mode if entry.mode is None else entry.mode)
                if entry.mtime:
                    os.utime(fd, ns=(entry.mtime, entry.mtime))
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent_fd)
            raise
        self._size += entry.size

    def _in_place(self, entry: Entry, batch: Batch) -> None:
        """Write a mounted file: its inode has to stay."""
        fd = open_in_root(self.root_fd, entry.path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            for piece in batch.pieces():
                write_all(fd, piece)
            if entry.mode is not None:
                os.fchmod(fd, entry.mode)
        finally:
            os.close(fd)
        self._size += entry.size

    def _symlink(self, parent_fd: int, name: str, entry: Entry) -> None:
        found = _found(parent_fd, name)
        if found is not None and stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=parent_fd)
        temporary = f".stackctl-{os.urandom(6).hex()}"
        os.symlink(entry.link, temporary, dir_fd=parent_fd)
        try:
            owner = os.fstat(parent_fd)
            os.chown(temporary, owner.st_uid, owner.st_gid, dir_fd=parent_fd, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent_fd)
            raise

    # Deleting

    def _delete(self, parent: str, name: str) -> None:
        try:
            parent_fd = open_in_root(self.root_fd, parent or "/", _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            if _remove(parent_fd, name, self._links):
                self._deleted += 1
        finally:
            os.close(parent_fd)


def _hold(parent_fd: int, name: str) -> int | None:
    """Return a descriptor of what is under the name, None for nothing; raises OSError with EXDEV for a mount point."""
    try:
        return open_in_root(parent_fd, name, _LOOK, same_mount=True)
    except FileNotFoundError:
        return None


def _found(parent_fd: int, name: str) -> os.stat_result | None:
    """Return what is under the name, as ``_hold``."""
    fd = _hold(parent_fd, name)
    if fd is None:
        return None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _remove(parent_fd: int, name: str, links: LastLinks) -> bool:
    """Remove a name and all below it, mounts excepted; False when it is not there.

    Through /proc/PID/root the kernel would let a mount point of the container be removed, and unmount it: so each
    name is looked at first, without crossing a mount.
    """
    held = _hold(parent_fd, name)
    if held is None:
        return False
    try:
        if not stat.S_ISDIR(os.fstat(held).st_mode):
            os.unlink(name, dir_fd=parent_fd)
            return True
    finally:
        links.take(held)
    fd = open_in_root(parent_fd, name, _DIRECTORY | os.O_NOFOLLOW, same_mount=True)
    kept: OSError | None = None
    try:
        for child in os.listdir(fd):  # noqa: PTH208 - by descriptor
            try:
                _remove(fd, child, links)
            except OSError as error:
                kept = error
    finally:
        os.close(fd)
    if kept is not None:
        if kept.errno == errno.EXDEV:
            raise OSError(errno.EBUSY, "something is mounted in it")
        raise kept
    os.rmdir(name, dir_fd=parent_fd)
    return True
