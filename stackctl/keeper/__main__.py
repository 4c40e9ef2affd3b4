"""The keeper's program: it leaves its caller, listens on the control socket and serves until told to stop.

Run as a file (`python -I -S …/keeper/__main__.py`), so that neither site-packages nor the environment are looked at:
that saves half of the start and of the memory.
"""

import os
import sys

if not __package__:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import resource
import signal
import socket

from stackctl.host import cgroup
from stackctl.keeper.control import Control
from stackctl.keeper.loop import Loop

_USAGE = "usage: python -m stackctl.keeper --socket PATH\n"


def main(arguments: list[str]) -> int:
    """Start; returns 0 in the caller's process as soon as the control socket answers."""
    if len(arguments) != 2 or arguments[0] != "--socket":
        sys.stderr.write(_USAGE)
        return 2
    path = arguments[1]
    try:
        listener = _listen(path)
    except OSError as error:
        sys.stderr.write(f"keeper: listening on {path}: {error.strerror}\n")
        return 1
    if os.fork():
        os._exit(0)
    _leave_caller(listener.fileno())
    loop = Loop()
    Control(loop, listener)
    try:
        loop.run()
    finally:
        _unlink_own(path, listener)
    return 0


def _listen(path: str) -> socket.socket:
    """Take the path over; a socket file there that nobody serves is from a keeper that was killed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f"{path}.{os.getpid()}"
    listener.bind(temporary)
    os.chmod(temporary, 0o600)
    listener.listen(16)
    listener.setblocking(False)
    os.rename(temporary, path)
    return listener


def _leave_caller(kept: int) -> None:
    """Survive the caller's session, terminal and control group."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.closerange(3, kept)
    os.closerange(kept + 1, 65536)
    cgroup.leave()


def _unlink_own(path: str, listener: socket.socket) -> None:
    listener.close()
    try:
        os.unlink(path)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
