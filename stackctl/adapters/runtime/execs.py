"""Further processes in a container: ``runc exec --detach``, the process then being this daemon's child.

A detached exec costs no runtime process for as long as it runs and hands our own pipes to the program. When the
runtime leaves, the process comes to us, its subreaper, and we learn its exit code as any parent does.

The runtime reads what to run from a pipe. So it can be started before that is to happen: it gets itself ready beside
other work, and waits, the container untouched.
"""

import asyncio
import contextlib
import fcntl
import io
import json
import os
import resource
import secrets
import signal
import socket
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from stackctl.adapters.runtime.attach import PipeStreams
from stackctl.adapters.runtime.conmon import runtime_words
from stackctl.adapters.runtime.failures import start_error
from stackctl.contracts.runtime import ExecProcess, ExecShape
from stackctl.errors import DeadlineError, StackctlError, StartError
from stackctl.frozen import frozen
from stackctl.host import pidfd, process
from stackctl.values import Json, JsonObject

_LINGER = 2.0
_TERMINAL_WAIT = 10.0
_STAGE = "runc:["  # how runc calls its process before it becomes the program
_PIPE = 65536  # what a pipe takes at once, pipe(7)
_SIGKILL = signal.SIGKILL
_background: set["asyncio.Task[object]"] = set()


@frozen
class ExecPlace:
    """Which container, by which runtime, and where the exec's own files go."""

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


class PreparedExec:
    """An exec whose runtime is being started, or waits to be told the process."""

    def __init__(
        self, given: "asyncio.Future[ExecProcess]", starting: "asyncio.Task[RunningExec]"
    ) -> None:
        self._given = given
        self._starting = starting
        starting.add_done_callback(_look_at)

    async def start(self, wanted: ExecProcess) -> RunningExec:
        self._given.set_result(wanted)
        try:
            return await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            self._starting.add_done_callback(_abandon)
            raise

    def drop(self) -> None:
        if not self._given.done():
            self._starting.cancel()


async def start_exec(
    place: ExecPlace,
    shape: ExecShape,
    given: Awaitable[ExecProcess],
    *,
    moving: AbstractContextManager[None],
) -> RunningExec:
    """Start the runtime, and the further process once it is ``given``; ``moving`` is entered while the runtime runs.

    Raises StartError with 126 or 127 when it cannot be. Cancelled before it is given, it leaves nothing.
    """
    pid_file = place.directory / f"{secrets.token_hex(4)}.pid"
    with _memory_file("log") as log:
        argv = [*place.runtime, "--log", f"/proc/self/fd/{log}", "--log-format", "json", "exec"]
        argv += ["--detach", "--pid-file", str(pid_file)]
        work = _Work(place=place, argv=argv, given=given, moving=moving, log=log)
        try:
            if shape.tty:
                streams = await _start_tty(work, pid_file.with_suffix(".tty"))
            else:
                streams = await _start_pipes(work, open_stdin=shape.open_stdin)
            pid = int(pid_file.read_bytes())
        except StackctlError:
            _bury_strays()
            raise
        finally:
            pid_file.unlink(missing_ok=True)
    if is_contested(shape):
        _limit_files(pid, shape)
    return RunningExec(pid, streams)


def is_contested(wanted: ExecShape) -> bool:
    """Tell whether two in the runtime set the soft limit of open files, the last one winning.

    runc 1.1 sets it from outside, after the move into the container's cgroups, while Go's start in the new process
    raises it to the hard one. A slow move lets the right one win, so moves for such a process are not to be made quick.
    """
    return any(kind == "RLIMIT_NOFILE" and soft != hard for kind, soft, hard in wanted.rlimits)


def _limit_files(pid: int, wanted: ExecShape) -> None:
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
        _in_background(pidfd.wait_child(pid), f"stray {pid}")


@frozen
class _Work:
    """A run of the runtime: all but what is to be executed, where its words go, and who will give the process."""

    place: ExecPlace
    argv: Sequence[str]
    given: Awaitable[ExecProcess]
    moving: AbstractContextManager[None]
    log: int

    async def run(
        self,
        *options: str,
        stdin: int = process.DEVNULL,
        stdout: int = process.DEVNULL,
        stderr: int = process.DEVNULL,
    ) -> bool:
        """Run it to its end, and tell whether it succeeded; it is killed when the process is not given."""
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        with os.fdopen(write_end, "wb", buffering=0) as telling:
            try:
                words = [*self.argv, *options, "--process", f"/proc/self/fd/{read_end}"]
                pid = process.start(
                    [*words, self.place.container_id],
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=(read_end, self.log),
                    env={"GOMAXPROCS": "2"},
                )
            finally:
                os.close(read_end)
            with self.moving:
                try:
                    tree = json.dumps(process_tree(await self.given)).encode()
                except asyncio.CancelledError:
                    pidfd.send_signal(pid, 0, _SIGKILL)
                    await pidfd.wait_child(pid)
                    raise
                if len(tree) <= _PIPE:
                    _write(telling, tree)
                else:
                    await asyncio.to_thread(_write, telling, tree)
                telling.close()
                return await pidfd.wait_child(pid) == 0

    def failed(self, said: str) -> StartError:
        return start_error(runtime_words(said, _text(self.log)), verb="exec")


def _write(pipe: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    # A runtime that has failed reads no more, and says why when it is waited for.
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[pipe.write(view) :]


async def _start_pipes(work: _Work, *, open_stdin: bool) -> PipeStreams:
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
            done = await work.run(stdin=stdin, stdout=theirs[-2], stderr=theirs[-1])
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        if not done:
            raise work.failed(_drain(ours[-1]))
        streams = PipeStreams(stdin=ours[0] if open_stdin else -1, stdout=ours[-2], stderr=ours[-1])
        started = True
        return streams
    finally:
        if not started:
            for descriptor in ours:
                os.close(descriptor)


async def _start_tty(work: _Work, address: Path) -> PipeStreams:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    directory = os.open(address.parent, os.O_PATH | os.O_CLOEXEC)
    # A socket's address has 107 bytes; the run root may have more.
    short = f"/proc/{os.getpid()}/fd/{directory}/{address.name}"
    try:
        listener.bind(short)
        listener.listen(1)
        with _memory_file("stderr") as stderr:
            receiving = asyncio.create_task(_receive_terminal(listener))
            try:
                if not await work.run("--tty", "--console-socket", short, stderr=stderr):
                    raise work.failed(_text(stderr))
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


@contextlib.contextmanager
def _memory_file(name: str) -> Iterator[int]:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _text(descriptor: int) -> str:
    """Return what was written to a memory file."""
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")


def _drain(descriptor: int) -> str:
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 65536):
            data += chunk
    return data.decode(errors="replace")


def _look_at(starting: "asyncio.Task[RunningExec]") -> None:
    """Take note of a failure that nobody may wait for."""
    if not starting.cancelled():
        starting.exception()


def _abandon(starting: "asyncio.Task[RunningExec]") -> None:
    """End an exec that began when nobody waited for it any more."""
    if starting.cancelled() or starting.exception() is not None:
        return
    session = starting.result()

    async def end() -> None:
        await session.kill(_SIGKILL)
        await session.wait()
        await session.close()

    _in_background(end(), f"abandoned exec {session.pid}")


def _in_background(work: Coroutine[object, object, object], name: str) -> None:
    task = asyncio.create_task(work, name=name)
    _background.add(task)
    task.add_done_callback(_background.discard)
