"""Mounts: overlay, bind, tmpfs, unmount and the mount table; nothing here starts a process.

Overlays use the mount API of fsopen(2): one ``lowerdir+`` a layer, so that the length of a mount's options does not
bound the number of layers. Where the kernel is older, mount(2) is called with names relative to a directory of short
links, in a thread with a working directory of its own.
"""

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from stackctl.errors import HostError
from stackctl.frozen import frozen

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CLOEXEC = 1
_CLONE_FS = 0x200
_AT_FDCWD = -100
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NOSUID = 2
_MOUNT_ATTR_NODEV = 4

_libc = ctypes.CDLL(None, use_errno=True)
_no_new_api = threading.Event()


@frozen
class MountEntry:
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""

    mount_id: int
    parent_id: int
    root: str
    target: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    type: str
    source: str


@frozen
class Overlay:
    """An overlay to mount: ``lowers`` topmost first; ``upper`` and ``work`` None for a read-only one.

    ``links`` is a directory that holds a short link to every lower's directory, by ``short_names``; the fallback
    needs it.
    """

    lowers: Sequence[Path]
    upper: Path | None = None
    work: Path | None = None
    links: Path | None = None
    short_names: Sequence[str] = ()
    volatile: bool = False


def mount(source: str, target: Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system. Raises HostError."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    if result != 0:
        raise _failure(f"mount {kind or source} on {target}")


def bind(source: Path, target: Path, *, read_only: bool = False, recursive: bool = True) -> None:
    """Bind a file or directory; private, so that nothing mounted on one side shows on the other. Raises HostError."""
    recurse = MS_REC if recursive else 0
    mount(str(source), target, flags=MS_BIND | recurse)
    try:
        mount("", target, flags=MS_PRIVATE | recurse)
        if read_only:
            mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    except HostError:
        unmount(target)
        raise


def tmpfs(target: Path, options: str = "", flags: int = MS_NOSUID | MS_NODEV) -> None:
    """Mount a tmpfs ("size=…,mode=…"). Raises HostError."""
    mount("tmpfs", target, "tmpfs", flags, options)


def memory_directory() -> int | None:
    """Return a descriptor of a new, empty directory in memory that is mounted nowhere; None where the kernel has none.

    Other programs reach it below /proc/PID/fd of whoever holds it, and it goes with the last descriptor.
    """
    with contextlib.suppress(OSError):
        settings = ((b"size", b"16m"), (b"mode", b"0700"))
        return _mounted(b"tmpfs", settings, _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV)
    return None


def overlay(target: Path, layers: Overlay) -> None:
    """Mount an overlay. Raises HostError."""
    if not _no_new_api.is_set():
        try:
            _overlay_by_context(target, layers)
            return
        except OSError as error:
            # ENOSYS: no such call; EINVAL: no "lowerdir+" before Linux 6.8. Anything else is the mount's own fault.
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
                raise HostError(
                    f"cannot mount an overlay on {target}: {error.strerror}", errno=error.errno or 0
                ) from error
            fell_back = error.errno == errno.ENOSYS
        if fell_back:
            _no_new_api.set()
    _overlay_by_options(target, layers)


def unmount(target: Path, *, detach: bool = True) -> None:
    """Unmount; success when nothing is mounted there. Raises HostError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0)
    if _libc.umount2(os.fsencode(target), ctypes.c_int(flags)) == 0:
        return
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise _failure(f"unmount {target}")


def is_mounted(target: Path) -> bool:
    """Tell whether something is mounted exactly there, a bind of the same file system too, by the mount table."""
    wanted = str(target.resolve())
    return any(entry.target == wanted for entry in mount_table())


def is_mount_point(target: Path) -> bool:
    """Tell whether another file system is mounted exactly there, at the price of two system calls."""
    try:
        here = target.lstat()
        above = target.parent.lstat()
    except FileNotFoundError:
        return False
    return here.st_dev != above.st_dev


def mount_table(pid: int | str = "self") -> list[MountEntry]:
    """Return a process's mounts, in the kernel's order. Raises HostError."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()
    except OSError as error:
        raise HostError(f"cannot read the mounts of {pid}: {error.strerror}") from error
    return [_entry(os.fsdecode(line)) for line in lines]


def _entry(line: str) -> MountEntry:
    left, _, right = line.partition(" - ")
    fields = left.split(" ")
    kind, source = right.split(" ")[:2]
    return MountEntry(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        root=_unescape(fields[3]),
        target=_unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        propagation=tuple(fields[6:]),
        type=kind,
        source=_unescape(source),
    )


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    for code, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, character)
    return text


def _overlay_by_context(target: Path, layers: Overlay) -> None:
    settings: list[tuple[bytes, bytes | None]] = [(b"source", b"overlay")]
    settings += [(b"lowerdir+", os.fsencode(lower)) for lower in layers.lowers]
    if layers.upper is not None and layers.work is not None:
        settings.append((b"upperdir", os.fsencode(layers.upper)))
        settings.append((b"workdir", os.fsencode(layers.work)))
    settings += [(key.encode(), value.encode()) for key, value in _switches()]
    if layers.volatile:
        settings.append((b"volatile", None))
    mounted = _mounted(b"overlay", settings, _MOUNT_ATTR_RDONLY if layers.upper is None else 0)
    try:
        _syscall(
            _SYS_MOVE_MOUNT, mounted, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
        )
    finally:
        os.close(mounted)


def _overlay_by_options(target: Path, layers: Overlay) -> None:
    use_links = layers.links is not None and len(layers.short_names) == len(layers.lowers)
    names = list(layers.short_names) if use_links else [str(path) for path in layers.lowers]
    options = [f"lowerdir={':'.join(names)}"]
    if layers.upper is not None and layers.work is not None:
        options += [f"upperdir={layers.upper}", f"workdir={layers.work}"]
    options += [f"{key}={value}" for key, value in _switches()]
    if layers.volatile:
        options.append("volatile")
    flags = MS_RDONLY if layers.upper is None else 0
    failures: list[HostError] = []

    def work() -> None:
        # A thread may leave the process's shared working directory; nobody else sees the change.
        try:
            if use_links and layers.links is not None:
                if _libc.unshare(ctypes.c_int(_CLONE_FS)) != 0:
                    raise _failure("give a thread its own working directory")
                os.chdir(layers.links)
            mount("overlay", target, "overlay", flags, ",".join(options))
        except HostError as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _switches() -> list[tuple[str, str]]:
    """Features that would leave marks in upper which a layer's tar cannot say are turned off, where the kernel has them."""
    wanted = (("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"))
    known = Path("/sys/module/overlay/parameters")
    return [(key, value) for key, value in wanted if (known / key).exists()]


def _mounted(kind: bytes, settings: Iterable[tuple[bytes, bytes | None]], attributes: int) -> int:
    """Return a descriptor of a file system that is mounted nowhere yet; a setting without a value is a flag."""
    context = _syscall(_SYS_FSOPEN, kind, _CLOEXEC)
    try:
        for key, value in settings:
            action = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            _syscall(_SYS_FSCONFIG, context, action, key, value, 0)
        _syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_SYS_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    converted = [
        ctypes.c_char_p(item) if isinstance(item, bytes | None) else ctypes.c_long(item)
        for item in arguments
    ]
    result = int(_libc.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _failure(action: str) -> HostError:
    code = ctypes.get_errno()
    hint = "mounting needs root" if code == errno.EPERM else ""
    return HostError(f"cannot {action}: {os.strerror(code)}", errno=code, hint=hint)
