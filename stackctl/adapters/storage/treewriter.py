"""Apply tar entries below a directory, never outside it.

Every parent is reached by descriptors, one component at a time, without following a symlink; where a component *is* a
symlink, the kernel resolves the whole parent inside the root (openat2, RESOLVE_IN_ROOT). Files are made with
O_EXCL | O_NOFOLLOW after whatever was in their place is removed. As a layer (``whiteouts``), the marks of OCI
layer.md become overlayfs's: a character device 0:0, trusted.overlay.opaque.
"""

import contextlib
import errno
import os
import shutil
import stat
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from stackctl.adapters.storage.tarreader import (
    BLOCKDEV,
    CHAR,
    DIRECTORY,
    FIFO,
    TarEntry,
    TarStream,
)
from stackctl.errors import InvalidInputError
from stackctl.host.files import open_in_root, write_all

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_OPEN = 64
_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
OPAQUE_XATTR = b"trusted.overlay.opaque"
# Marks of overlayfs are ours to make; a layer that brings them could point at other layers.
_FORBIDDEN_XATTRS = (b"trusted.overlay.", b"user.overlay.", b"trusted.")
_SOFT_ERRORS = (errno.ENOTSUP, errno.EPERM, errno.ENOSYS, errno.EACCES)


class TreeWriter:
    """Writes entries below ``root_fd`` (kept by the caller), under ``base`` (a path inside it, b"" for the root).

    ``size`` counts the bytes of regular files and symlinks. ``finish`` sets the modes and times of directories, which writing
    into them would change.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        base: bytes = b"",
        whiteouts: bool = False,
        owner: tuple[int, int] | None = None,
        no_overwrite_dir_non_dir: bool = False,
    ) -> None:
        self._root = root_fd
        self._base = base.strip(b"/")
        self._whiteouts = whiteouts
        self._owner = owner
        self._owners = os.geteuid() == 0
        self._keep_kinds = no_overwrite_dir_non_dir
        self._own = (os.geteuid(), os.getegid())
        self._fds: OrderedDict[bytes, int] = OrderedDict()
        self._directories: dict[bytes, TarEntry] = {}
        self.size = 0
        base_fd = open_in_root(root_fd, self._base, os.O_RDONLY | os.O_DIRECTORY)
        self._top = base_fd

    def close(self) -> None:
        """Close every descriptor; may be called twice."""
        self._forget()
        if self._top >= 0:
            os.close(self._top)
            self._top = -1

    def apply(self, entry: TarEntry, data: TarStream) -> None:
        """Write one entry. Raises InvalidInputError for what would leave the root, OSError for the kernel's refusal."""
        path = clean_name(entry.name)
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if not path:
            if entry.kind == DIRECTORY:
                self._directories[b""] = entry
            return
        parent, _, name = path.rpartition(b"/")
        if self._whiteouts and name.startswith(_WHITEOUT):
            self._whiteout(parent, name)
            return
        parent_fd = self._directory(parent)
        if entry.kind == DIRECTORY:
            self._make_directory(parent_fd, name, path)
            self._directories[path] = entry
        else:
            self._make_other(parent_fd, name, path, entry, data)

    def finish(self) -> None:
        """Give directories their owners, modes and times, deepest first."""
        for path in sorted(self._directories, key=lambda item: item.count(b"/"), reverse=True):
            entry = self._directories[path]
            try:
                fd = os.dup(self._top) if not path else self._open_below(path)
            except OSError:
                continue  # replaced by a later entry
            try:
                self._set_metadata(fd, entry)
            finally:
                os.close(fd)
        self._directories.clear()

    def _open_below(self, path: bytes) -> int:
        parent, _, name = path.rpartition(b"/")
        return os.open(name, _DIR_FLAGS, dir_fd=self._directory(parent, create=False))

    def _directory(self, path: bytes, *, create: bool = True) -> int:
        """Return a descriptor of a directory below the top, made where it is missing; it stays owned by the cache."""
        if not path:
            return self._top
        fd = self._fds.get(path)
        if fd is not None:
            self._fds.move_to_end(path)
            return fd
        parent, _, name = path.rpartition(b"/")
        parent_fd = self._directory(parent, create=create)
        try:
            fd = os.open(name, _DIR_FLAGS, dir_fd=parent_fd)
        except FileNotFoundError:
            if not create:
                raise
            fd = self._new_directory(parent_fd, name)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            fd = self._through_link(parent_fd, name, path)
        self._remember(path, fd)
        return fd

    def _new_directory(self, parent_fd: int, name: bytes) -> int:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, _DIR_FLAGS, dir_fd=parent_fd)
        os.fchmod(fd, 0o755)
        return fd

    def _through_link(self, parent_fd: int, name: bytes, path: bytes) -> int:
        info = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if self._is_whiteout(info):
            os.unlink(name, dir_fd=parent_fd)
            fd = self._new_directory(parent_fd, name)
            os.setxattr(fd, OPAQUE_XATTR, b"y")
            return fd
        if stat.S_ISLNK(info.st_mode):
            with contextlib.suppress(OSError):
                where = b"/".join(part for part in (self._base, path) if part)
                return open_in_root(self._root, where, os.O_RDONLY | os.O_DIRECTORY)
        raise InvalidInputError(
            f'"{_show(path)}" is not a directory, and an entry of the tar is to be below it'
        )

    def _remember(self, path: bytes, fd: int) -> None:
        self._fds[path] = fd
        if len(self._fds) > _KEPT_OPEN:
            # Never the one just opened nor its parents: they were used last.
            _, old = self._fds.popitem(last=False)
            os.close(old)

    def _forget(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def _make_directory(self, parent_fd: int, name: bytes, path: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            return
        except FileExistsError:
            info = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            return
        if self._keep_kinds:
            raise InvalidInputError(
                f'cannot overwrite non-directory "{_show(path)}" with directory "{_show(path)}"'
            )
        os.unlink(name, dir_fd=parent_fd)
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        if self._is_whiteout(info):
            # The path below was deleted and made anew: what is below must not show through.
            os.setxattr(_by_fd(parent_fd, name), OPAQUE_XATTR, b"y", follow_symlinks=False)

    def _is_whiteout(self, info: os.stat_result) -> bool:
        return self._whiteouts and stat.S_ISCHR(info.st_mode) and info.st_rdev == 0

    def _clear(self, parent_fd: int, name: bytes, path: bytes) -> None:
        """Remove what is in an entry's place."""
        try:
            os.unlink(name, dir_fd=parent_fd)
            self._forget_below(path)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            if self._keep_kinds:
                raise InvalidInputError(
                    f'cannot overwrite directory "{_show(path)}" with non-directory "{_show(path)}"'
                ) from None
            self._forget_below(path)
            shutil.rmtree(name, dir_fd=parent_fd)

    def _forget_below(self, path: bytes) -> None:
        prefix = path + b"/"
        for known in [item for item in self._fds if item == path or item.startswith(prefix)]:
            os.close(self._fds.pop(known))
        for known in [
            item for item in self._directories if item == path or item.startswith(prefix)
        ]:
            del self._directories[known]

    def _make_other(
        self, parent_fd: int, name: bytes, path: bytes, entry: TarEntry, data: TarStream
    ) -> None:
        match entry.kind:
            case b"1":
                self._make_hardlink(parent_fd, name, path, entry)
            case b"2":
                self._retry(
                    lambda: os.symlink(entry.link, name, dir_fd=parent_fd), parent_fd, name, path
                )
                self.size += len(entry.link)
                self._set_link_metadata(parent_fd, name, entry)
            case b"3" | b"4" | b"6":
                kind = {CHAR: stat.S_IFCHR, BLOCKDEV: stat.S_IFBLK, FIFO: stat.S_IFIFO}[entry.kind]
                device = os.makedev(entry.major, entry.minor) if entry.kind != FIFO else 0
                self._retry(
                    lambda: os.mknod(name, kind | 0o600, device, dir_fd=parent_fd),
                    parent_fd,
                    name,
                    path,
                )
                self._set_node_metadata(parent_fd, name, entry)
            case _:
                self._make_file(parent_fd, name, path, entry, data)

    def _retry(self, make: Callable[[], None], parent_fd: int, name: bytes, path: bytes) -> None:
        try:
            make()
        except FileExistsError:
            self._clear(parent_fd, name, path)
            make()

    def _make_file(
        self, parent_fd: int, name: bytes, path: bytes, entry: TarEntry, data: TarStream
    ) -> None:
        try:
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent_fd)
        except FileExistsError:
            self._clear(parent_fd, name, path)
            fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent_fd)
        try:
            if entry.sparse is not None:
                self._write_sparse(fd, entry, data)
            else:
                while chunk := data.read():
                    if os.write(fd, chunk) != len(chunk):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.size += entry.real_size
            self._set_metadata(fd, entry)
        finally:
            os.close(fd)

    def _write_sparse(self, fd: int, entry: TarEntry, data: TarStream) -> None:
        for offset, length in entry.sparse or ():
            os.lseek(fd, offset, os.SEEK_SET)
            left = length
            while left:
                chunk = data.read(left)
                write_all(fd, chunk)
                left -= len(chunk)
        os.ftruncate(fd, entry.real_size)

    def _make_hardlink(self, parent_fd: int, name: bytes, path: bytes, entry: TarEntry) -> None:
        target = clean_name(entry.link)
        if target == path:
            return
        target_parent, _, target_name = target.rpartition(b"/")
        try:
            source_fd = os.dup(self._directory(target_parent, create=False))
        except FileNotFoundError:
            raise _no_target(entry) from None
        # Looking up the target may have closed the descriptor the caller gave.
        parent_fd = self._directory(path.rpartition(b"/")[0])
        try:
            try:
                os.link(
                    target_name,
                    name,
                    src_dir_fd=source_fd,
                    dst_dir_fd=parent_fd,
                    follow_symlinks=False,
                )
            except FileExistsError:
                self._clear(parent_fd, name, path)
                os.link(
                    target_name,
                    name,
                    src_dir_fd=source_fd,
                    dst_dir_fd=parent_fd,
                    follow_symlinks=False,
                )
        except (FileNotFoundError, PermissionError) as error:
            raise _no_target(entry) from error
        finally:
            os.close(source_fd)

    def _set_metadata(self, fd: int, entry: TarEntry) -> None:
        # chown clears set-user-ID and file capabilities, so it comes first; times come last.
        # A file just made has our own ids; a directory may have been there.
        if self._owners and (entry.kind == DIRECTORY or (entry.uid, entry.gid) != self._own):
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for key, value in entry.xattrs.items():
            _set_xattr(fd, key, value)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _set_link_metadata(self, parent_fd: int, name: bytes, entry: TarEntry) -> None:
        if self._owners and (entry.uid, entry.gid) != self._own:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent_fd, follow_symlinks=False)

    def _set_node_metadata(self, parent_fd: int, name: bytes, entry: TarEntry) -> None:
        # O_PATH, so that opening a device or FIFO neither waits nor wakes a driver.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            where = Path(f"/proc/self/fd/{fd}")
            if self._owners:
                os.chown(where, entry.uid, entry.gid)
            where.chmod(entry.mode)
            os.utime(where, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        parent_fd = self._directory(parent)
        if name == _OPAQUE:
            os.setxattr(parent_fd, OPAQUE_XATTR, b"y")
            return
        if name.startswith(_META):
            return  # marks of aufs, of no meaning elsewhere
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise InvalidInputError(f'"{_show(name)}" is not a possible whiteout')
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent_fd)
        except FileExistsError:
            # A whiteout hides what is in lower layers only, never what its own layer brings (OCI layer.md).
            info = os.stat(hidden, dir_fd=parent_fd, follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                os.setxattr(_by_fd(parent_fd, hidden), OPAQUE_XATTR, b"y", follow_symlinks=False)


def clean_name(name: bytes) -> bytes:
    """Return a path below the root: no leading "/", no "." and ".." parts.

    Raises InvalidInputError where ".." leads out.
    """
    if b"/" not in name and name not in (b"", b".", b".."):
        return name
    if len(name) > 4096:
        raise InvalidInputError(f'the name "{_show(name)}…" is too long')
    if b"//" not in name and b"/." not in name and name[:1] not in (b"/", b"."):
        return name.rstrip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise InvalidInputError(f'"{_show(name)}" leads out of the root')
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _set_xattr(fd: int, key: bytes, value: bytes) -> None:
    if key.startswith(_FORBIDDEN_XATTRS):
        return
    try:
        os.setxattr(fd, key, value)
    except OSError as error:
        # As tar does: a file system or a kernel that cannot keep an attribute is no reason to lose the file.
        if error.errno not in _SOFT_ERRORS:
            raise


def _by_fd(parent_fd: int, name: bytes) -> bytes:
    return b"/proc/self/fd/%d/%s" % (parent_fd, name)


def _no_target(entry: TarEntry) -> InvalidInputError:
    return InvalidInputError(
        f'the hard link "{_show(entry.name)}" leads to "{_show(entry.link)}", which is not there'
    )


def _show(name: bytes) -> str:
    return name[:200].decode(errors="replace")
