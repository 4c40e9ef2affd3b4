"""Further processes in a container: ``runc exec --detach``, the process then being this daemon's child.

A detached exec costs no runtime process for as long as it runs and hands our own pipes to the program. When the
runtime leaves, the process comes to us, its subreaper, and we learn its exit code as any parent does.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import resource
import secrets
import socket
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stackctl.adapters.runtime.attach import PipeStreams
from stackctl.adapters.runtime.conmon import runtime_words
from stackctl.adapters.runtime.failures import start_error
from stackctl.contracts.runtime import ExecProcess
from stackctl.errors import DeadlineError, StackctlError
from stackctl.frozen import frozen
from stackctl.host import pidfd, process
from stackctl.values import Json, JsonObject

_LINGER = 2.0
_TERMINAL_WAIT = 10.0
_STAGE = "runc:["  # how runc calls its process before it becomes the program
_burials: set["asyncio.Task[int | None]"] = set()


@frozen
class ExecPlace:
    """Which container, by which runtime, and where the exec's own files go ."""

    container_id: str
    runtime: Sequence[str]
    directory: Path


class RunningExec:
    """A running exec and its streams."""

    def __init__(self, pid: int, streams: PipeStreams) -> None:
        self.pid = pid
        self._started = pidfd.start_time(pid)
        self._streams = streams
        self._done = asyncio.create_task(self._finish(), name=f"exec {pid}")

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        return self._streams.output()

    async def write(self, data: bytes) -> None:
        await self._streams.write(data)

    async def close_input(self) -> None:
        await self._streams.close_input()

    async def close(self) -> None:
        await self._streams.close()

    async def wait(self) -> int:
        return await asyncio.shield(self._done)

    async def kill(self, signal: int) -> None:
        if self._started and not self._done.done():
            pidfd.send_signal(self.pid, self._started, signal)

    async def resize(self, height: int, width: int) -> None:
        terminal = self._streams.terminal
        if terminal >= 0:
            # The kernel tells the foreground process group with SIGWINCH.
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def _finish(self) -> int:
        code = await pidfd.wait_child(self.pid)
        # Something it left behind may hold its output for ever: as Docker, it gets two seconds.
        asyncio.get_running_loop().call_later(_LINGER, self._streams.end_output)
        return 255 if code is None else code


def process_tree(wanted: ExecProcess) -> JsonObject:
    """Return OCI ``process`` for an exec: inheritable and ambient capabilities stay empty (CVE-2022-24769)."""
    capabilities: list[Json] = list(wanted.capabilities)
    tree: JsonObject = {
        "terminal": wanted.tty,
        "args": list(wanted.args),
        "env": list(wanted.env),
        "cwd": wanted.cwd or "/",
        "noNewPrivileges": wanted.no_new_privileges,
        "rlimits": [
            {"type": kind, "soft": soft, "hard": hard} for kind, soft, hard in wanted.rlimits
        ],
        "user": {
            "uid": wanted.uid,
            "gid": wanted.gid,
            "additionalGids": list(wanted.additional_gids),
        },
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
    }
    height, width = wanted.console_size
    if wanted.tty and height and width:
        tree["consoleSize"] = {"height": height, "width": width}
    return tree


async def start_exec(place: ExecPlace, wanted: ExecProcess) -> RunningExec:
    """Start a further process; raises StartError with 126 or 127 when it cannot be."""
    name = secrets.token_hex(4)
    spec = place.directory / f"{name}.json"
    pid_file = place.directory / f"{name}.pid"
    log = place.directory / f"{name}.log"
    spec.write_text(json.dumps(process_tree(wanted)))
    argv = [*place.runtime, "--log", str(log), "--log-format", "json", "exec", "--detach"]
    argv += ["--process", str(spec), "--pid-file", str(pid_file)]
    try:
        if wanted.tty:
            streams = await _start_tty(place, argv, name, log)
        else:
            streams = await _start_pipes(place, argv, log, open_stdin=wanted.open_stdin)
        pid = int(pid_file.read_text())
        if is_contested(wanted):
            _limit_files(pid, wanted)
        return RunningExec(pid, streams)
    except StackctlError:
        _bury_strays()
        raise
    finally:
        for path in (spec, pid_file, log):
            path.unlink(missing_ok=True)


def is_contested(wanted: ExecProcess) -> bool:
    """Tell whether two in the runtime set the soft limit of open files, the last one winning.

    runc 1.1 sets it from outside, after the move into the container's cgroups, while Go's start in the new process
    raises it to the hard one. A slow move lets the right one win, so moves for such a process are not to be made quick.
    """
    return any(kind == "RLIMIT_NOFILE" and soft != hard for kind, soft, hard in wanted.rlimits)


def _limit_files(pid: int, wanted: ExecProcess) -> None:
    """Set the soft limit where the wrong one has won all the same."""
    for kind, soft, hard in wanted.rlimits:
        if kind == "RLIMIT_NOFILE":
            with contextlib.suppress(OSError, ValueError):  # it has ended, or lowered its own
                if resource.prlimit(pid, resource.RLIMIT_NOFILE) == (hard, hard):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def _bury_strays() -> None:
    """Reap what a runtime that failed left to us: its own first process in a container that was just ending.

    Nobody else waits for it, and while it is not reaped the kernel does not let the container's first process go.
    """
    for pid in pidfd.children_called(_STAGE):
        task = asyncio.create_task(pidfd.wait_child(pid), name=f"stray {pid}")
        _burials.add(task)
        task.add_done_callback(_burials.discard)


async def _start_pipes(
    place: ExecPlace, argv: list[str], log: Path, *, open_stdin: bool
) -> PipeStreams:
    ours: list[int] = []
    theirs: list[int] = []
    stdin = process.DEVNULL
    if open_stdin:
        stdin, write_end = os.pipe2(os.O_CLOEXEC)
        theirs.append(stdin)
        ours.append(write_end)
    for _ in range(2):
        read_end, their_end = os.pipe2(os.O_CLOEXEC)
        ours.append(read_end)
        theirs.append(their_end)
    started = False
    try:
        try:
            runtime = await process.spawn(
                [*argv, place.container_id],
                stdin=stdin,
                stdout=theirs[-2],
                stderr=theirs[-1],
                env={"GOMAXPROCS": "2"},
            )
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        code = await runtime.wait()
        if code != 0:
            said = _drain(ours[-1])
            raise start_error(runtime_words(said, log), verb="exec")
        streams = PipeStreams(stdin=ours[0] if open_stdin else -1, stdout=ours[-2], stderr=ours[-1])
        started = True
        return streams
    finally:
        if not started:
            for descriptor in ours:
                os.close(descriptor)


async def _start_tty(place: ExecPlace, argv: list[str], name: str, log: Path) -> PipeStreams:
    address = place.directory / f"{name}.tty"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    directory = os.open(place.directory, os.O_PATH | os.O_CLOEXEC)
    # A socket's address has 107 bytes; the run root may have more.
    short = f"/proc/{os.getpid()}/fd/{directory}/{address.name}"
    try:
        listener.bind(short)
        listener.listen(1)
        with log.with_suffix(".err").open("wb") as stderr:
            runtime = await process.spawn(
                [*argv, "--tty", "--console-socket", short, place.container_id],
                stderr=stderr.fileno(),
                env={"GOMAXPROCS": "2"},
            )
            receiving = asyncio.create_task(_receive_terminal(listener))
            try:
                code = await runtime.wait()
                if code != 0:
                    said = Path(stderr.name).read_text(errors="replace")
                    raise start_error(runtime_words(said, log), verb="exec")
                async with asyncio.timeout(_TERMINAL_WAIT):
                    terminal = await receiving
            except TimeoutError as error:
                raise DeadlineError("the runtime did not hand over the terminal") from error
            finally:
                receiving.cancel()
        return PipeStreams(terminal=terminal)
    finally:
        listener.close()
        os.close(directory)
        address.unlink(missing_ok=True)
        log.with_suffix(".err").unlink(missing_ok=True)


async def _receive_terminal(listener: socket.socket) -> int:
    """Take the terminal's master that the runtime sends (SCM_RIGHTS)."""
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    with connection:
        await pidfd.readable(connection.fileno())
        _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    terminal = descriptors[0]
    os.set_inheritable(terminal, False)
    # What programs write with \n reaches the client as \r\n, as from any terminal.
    settings = termios.tcgetattr(terminal)
    settings[1] |= termios.ONLCR
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
    return terminal


def _drain(descriptor: int) -> str:
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 65536):
            data += chunk
    return data.decode(errors="replace")
