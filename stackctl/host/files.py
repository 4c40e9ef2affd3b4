"""Files: atomic writes, locks, paths resolved inside a root, whole trees removed by directory descriptor.

Whatever reaches into a tree that somebody else filled goes through ``open_in_root`` (openat2 with RESOLVE_IN_ROOT,
openat2(2)) or through descriptors of directories: the kernel then resolves the path, and no symlink leads out.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from stackctl.errors import ConflictError, HostError

_SYS_OPENAT2 = 437
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_O_LARGEFILE_MASK = 0o7777

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_in_root(
    root_fd: int, path: str | bytes, flags: int, mode: int = 0, *, same_mount: bool = False
) -> int:
    """Open a path as if ``root_fd`` were "/": "..", absolute names and symlinks stay inside.

    With ``same_mount`` no mount point is crossed. Raises OSError as open(2) does, EXDEV where one would be.
    """
    raw = os.fsencode(path)
    resolve = _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS
    how = _OpenHow(
        flags | os.O_CLOEXEC,
        mode & _O_LARGEFILE_MASK,
        resolve | _RESOLVE_NO_XDEV if same_mount else resolve,
    )
    code = errno.EAGAIN
    for _ in range(32):
        fd = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root_fd),
            ctypes.c_char_p(raw or b"."),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        # EAGAIN: something was renamed while ".." was resolved; the kernel asks to try again.
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code), os.fsdecode(raw))


def sync_filesystem(fd: int) -> None:
    """Flush the file system that holds the descriptor (syncfs(2))."""
    if _libc.syncfs(ctypes.c_int(fd)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def atomic_write(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file's content in one step; a reader sees the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte, however often write(2) stops short."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def lock_exclusively(path: Path) -> int:
    """Take the lock file and return its descriptor; closing it gives the lock back.

    Raises ConflictError when another process holds it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise ConflictError(
            f"{path} is locked by another process", hint="another engine uses this directory"
        ) from error
    return fd


@contextlib.contextmanager
def directory_fd(path: Path | str | bytes, *, dir_fd: int | None = None) -> Iterator[int]:
    """Give a descriptor of a directory; the last component is no symlink. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a file or a whole directory without following symlinks; success when it is not there.

    Raises HostError naming what could not be removed.
    """
    try:
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(
            f"cannot remove {path}: {error.strerror}", errno=error.errno or 0
        ) from error


def tree_usage(path: Path) -> int:
    """Return the bytes of the files and symlinks below, hard links counted once, as Docker counts them (directory.Size).

    What vanishes meanwhile is not counted.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    stack: list[str] = [os.fspath(path)]
    while stack:
        try:
            scan = os.scandir(stack.pop())
        except (FileNotFoundError, NotADirectoryError):
            continue
        with scan:
            for entry in scan:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(info.st_mode):
                    stack.append(entry.path)
                elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                    if info.st_nlink > 1:
                        if (info.st_dev, info.st_ino) in seen:
                            continue
                        seen.add((info.st_dev, info.st_ino))
                    total += info.st_size
    return total
