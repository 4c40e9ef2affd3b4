"""Network namespaces: made, entered by a throwaway thread, kept by a bind mount, removed.

A thread that has changed its namespace never runs anything else: each call here starts one and joins it.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from stackctl.errors import HostError

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_SIOCGSKNS = 0x894C
_libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def make_netns(path: str, inside: Callable[[], None] | None = None) -> None:
    """Make a network namespace and keep it at ``path``; ``inside`` runs in it before it is seen there.

    Raises HostError; nothing is left behind then.
    """
    with open(path, "w", encoding="ascii"):
        pass

    def unshared() -> None:
        _checked(_libc.unshare(_CLONE_NEWNET), "making a network namespace")
        if inside:
            inside()
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        _mount(source, path, _MS_BIND)

    try:
        _in_thread(unshared)
    except BaseException:
        remove_netns(path)
        raise


def in_netns(path: str, function: Callable[[], T]) -> T:
    """Return what the function returns when it runs in the namespace at ``path``.

    Sockets that it opens stay in that namespace. Raises HostError when the namespace cannot be entered.
    """

    def entered() -> T:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(
                f"opening namespace {path}: {error.strerror}", errno=error.errno or 0
            ) from error
        try:
            _checked(_libc.setns(descriptor, _CLONE_NEWNET), f"entering namespace {path}")
        finally:
            os.close(descriptor)
        return function()

    return _in_thread(entered)


def remove_netns(path: str) -> None:
    """Let the namespace go: unmount and unlink; gone already is success."""
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def is_netns(path: str) -> bool:
    """Tell whether a namespace is kept there (and not merely the file it is mounted on)."""
    try:
        return os.stat(path).st_dev != os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return False


def prepare_directory(path: str) -> None:
    """Make the directory and a shared mount of its own over it.

    Shared, so that an unmount in it reaches every mount namespace that was copied meanwhile; a copy that stayed
    would keep the network namespace alive (ip-netns(8) does the same).
    """
    os.makedirs(path, mode=0o711, exist_ok=True)
    if not _is_mount(path):
        _mount(path, path, _MS_BIND)
        _mount("none", path, _MS_SHARED | _MS_REC)


def release_directory(path: str) -> None:
    """Undo ``prepare_directory``."""
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:
        pass
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _is_mount(path: str) -> bool:
    real = os.path.realpath(path)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return any(line.split(" ", 5)[4] == real for line in file)


def _mount(source: str, target: str, flags: int) -> None:
    done = _libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None)
    _checked(done, f"mounting {source} on {target}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        hint = "this needs root (CAP_SYS_ADMIN)" if number == errno.EPERM else ""
        raise HostError(f"{what}: {os.strerror(number)}", errno=number, hint=hint)


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failures.append(error)

    thread = threading.Thread(target=body, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def netns_inode(path: str) -> int:
    """Return the identity of the namespace kept at the path, 0 when there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def netns_of_socket(descriptor: int) -> int:
    """Return the identity of the network namespace a socket is in, 0 where the kernel does not tell.

    SIOCGSKNS, Linux 4.10, <linux/sockios.h>.
    """
    try:
        namespace = fcntl.ioctl(descriptor, _SIOCGSKNS)
    except OSError:
        return 0
    try:
        return os.fstat(namespace).st_ino
    finally:
        os.close(namespace)
