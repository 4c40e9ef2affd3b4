"""Processes by pidfd: know them for certain, signal them, wait for them in the event loop."""

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path

from stackctl.errors import HostError
from stackctl.host.procstat import start_time, state_and_start

__all__ = [
    "become_subreaper",
    "open_pidfd",
    "readable",
    "send_signal",
    "start_time",
    "wait_child",
    "wait_gone",
]

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def open_pidfd(pid: int, started: int = 0) -> int | None:
    """Return a pidfd; None when the process is gone or, with ``started``, is another one by now."""
    if pid <= 0:
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Looked at after opening: the descriptor cannot change its process any more.
    if started and state_and_start(pid)[1] != started:
        os.close(descriptor)
        return None
    return descriptor


def send_signal(pid: int, started: int, number: int) -> bool:
    """Signal that very process; False when it is gone. ``started`` 0 trusts the pid."""
    descriptor = open_pidfd(pid, started)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    except OSError as error:
        text = f"cannot send signal {number} to process {pid}: {error.strerror}"
        raise HostError(text, errno=error.errno or 0) from error
    finally:
        os.close(descriptor)
    return True


async def wait_gone(pid: int, started: int = 0, *, reap: bool = False) -> None:
    """Return when that process has ended (a zombie has); at once when it is gone already.

    With ``reap`` it is taken off the process table too, where it is this process's child.
    """
    descriptor = open_pidfd(pid, started)
    if descriptor is None:
        return
    try:
        await readable(descriptor)
        if reap:
            with contextlib.suppress(ChildProcessError):
                _reap(descriptor)
    finally:
        os.close(descriptor)


async def readable(descriptor: int) -> None:
    """Return when the descriptor can be read (a pidfd: when its process has ended)."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, tell)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def wait_child(pid: int) -> int | None:
    """Wait for a child (or an orphan that came to this subreaper) and reap it.

    Returns its exit code as Docker counts it, 128+N for signal N; None when it is not a child of this process.
    """
    descriptor = open_pidfd(pid)
    if descriptor is None:
        return None
    try:
        done = _reap(descriptor)
        if done is None:
            await readable(descriptor)
            done = _reap(descriptor)
    except ChildProcessError:
        return None
    finally:
        os.close(descriptor)
    if done is None:
        return None
    return done.si_status if done.si_code == os.CLD_EXITED else 128 + done.si_status


def children_called(prefix: str) -> list[int]:
    """Return the pids of this process's children, dead ones not yet reaped included, whose name begins so."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in path.read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if Path(f"/proc/{word}/comm").read_text().startswith(prefix):
                        found.append(int(word))
    return found


def _reap(descriptor: int) -> os.waitid_result | None:
    return os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)


def become_subreaper() -> None:
    """Make orphans below this process its own children (prctl(2), PR_SET_CHILD_SUBREAPER), so that it can wait for them."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise HostError(f"cannot become a subreaper: {os.strerror(number)}", errno=number)
