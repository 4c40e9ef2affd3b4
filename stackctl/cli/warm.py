"""The warm process of ``launch``: everything imported, one fork a command, gone when it is not needed.

It has one thread and never runs a command itself, so a fork of it is as clean as a program just started.
"""

import contextlib
import fcntl
import gc
import importlib
import io
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from stackctl.cli import launch, main

_IDLE_SECONDS = 600.0
_MOST = 8 << 20  # bytes of arguments and environment
_PEER = struct.Struct("iII")
# What commands import when they run; those that start threads or read files on import are none of them.
_AHEAD = (
    "stackctl.cli.joining",
    "stackctl.cli.render.plan",
    "stackctl.cli.render.progress",
    "stackctl.cli.render.errors",
    "stackctl.cli.logview",
    "stackctl.cli.attached",
    "stackctl.cli.trace",
    "stackctl.client.engine",
    "stackctl.client.endpoints",
    "stackctl.orchestrator.apply.executor",
    "stackctl.orchestrator.apply.lock",
    "stackctl.orchestrator.planning.destroy",
    "stackctl.orchestrator.planning.lifecycle",
    "stackctl.orchestrator.stackfile.load",
    "stackctl.orchestrator.stackfile.dump",
)


def serve() -> None:
    """Serve this user's commands until none came for a while, or the code changed."""
    place = Path(launch.folder())
    own = launch.stamp()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = place.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077:
        return  # somebody else made it, or others may come in
    os.umask(0o077)
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another one was started meanwhile, or is just ending
    listener = _listen(place / "socket")
    for module in main.COMMANDS.values():
        importlib.import_module(f"stackctl.cli.commands.{module}")
    for name in _AHEAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    with listener:
        while select.select([listener], [], [], _patience())[0]:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError, ValueError):
                if not _take(connection, own, (listener.fileno(), lock)):
                    break


def _patience() -> float:
    """Return how many seconds to stay without a command: STACKCTL_WARM where it is a number above 1."""
    text = os.environ.get("STACKCTL_WARM", "")
    return float(text) if text.isdigit() and int(text) > 1 else _IDLE_SECONDS


def _listen(path: Path) -> socket.socket:
    """Take the path over: whoever listened there before was killed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    draft = path.with_name(f"socket.{os.getpid()}")
    listener.bind(str(draft))
    listener.listen(64)
    draft.rename(path)
    return listener


def _take(connection: socket.socket, own: str, held: Sequence[int]) -> bool:
    """Take one command and run it in a fork; False when this process is out of date."""
    _, uid, _ = _PEER.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    )
    if uid != os.getuid():
        return True
    connection.settimeout(5)
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    try:
        fields = _fields(connection, int.from_bytes(head, "little"))
        if len(files) != 3 or not fields:
            return True
        if fields[0] != own:
            return launch.stamp() == own
        connection.settimeout(None)
        if os.fork() == 0:
            for number in held:
                os.close(number)  # or the next one could not take over while this command runs
            _run(connection, fields[1:], files)
        return True
    finally:
        for number in files:
            os.close(number)


def _fields(connection: socket.socket, length: int) -> list[str]:
    data = b""
    while len(data) < length <= _MOST:
        piece = connection.recv(length - len(data))
        if not piece:
            break
        data += piece
    return os.fsdecode(data).split("\0") if len(data) == length else []


def _run(connection: socket.socket, fields: Sequence[str], files: Sequence[int]) -> NoReturn:
    """Be the command: in the fork, with the caller's files, directory and environment."""
    code = 1
    try:
        cwd, mask, count, *rest = fields
        for number, source in enumerate(files):
            os.dup2(source, number)
        _streams()
        os.umask(int(mask))
        os.chdir(cwd)
        argv, environ = rest[: int(count)], rest[int(count) :]
        os.environ.clear()
        os.environ.update(entry.partition("=")[::2] for entry in environ)
        sys.argv[1:] = argv
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _end_with(connection)
        connection.sendall(os.getpid().to_bytes(4, "little"))
        code = main.run(argv)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException as error:  # noqa: BLE001 - the end of the process: its code is all that is left to say
        with contextlib.suppress(OSError):
            os.write(2, f"stackctl: {type(error).__name__}: {error}\n".encode())
    try:
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        connection.sendall(bytes([code & 0xFF]))
    finally:
        os._exit(code & 0xFF)


def _streams() -> None:
    """Open the standard streams anew, as the interpreter does for the files they are now."""
    given = io.FileIO(0, "rb", closefd=False)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(given), "utf-8", "surrogateescape")
    for name, number in (("stdout", 1), ("stderr", 2)):
        live = os.isatty(number) or number == 2
        file = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
        errors = "backslashreplace" if number == 2 else "surrogateescape"
        setattr(sys, name, io.TextIOWrapper(file, "utf-8", errors, line_buffering=live))


def _end_with(connection: socket.socket) -> None:
    """End as if terminated when whoever asked for the command is gone."""

    def look(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGIO, look)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    serve()
