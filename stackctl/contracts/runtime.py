"""Runtime: processes in containers, and what holds them.

``create`` makes the container with its first process waiting, its streams held by a monitor (conmon) that outlives
the daemon; ``start`` lets it go. Every call that undoes may be repeated.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from pathlib import Path
from typing import Protocol

from stackctl.contracts.container import LogConfig
from stackctl.frozen import frozen
from stackctl.oci.runtime import RuntimeSpec


@frozen
class Launch:
    """What the runtime needs to know before a container's specification: how its streams are held."""

    id: str
    log_path: Path
    log_config: LogConfig = LogConfig()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    runtime: str = ""


@frozen
class Running:
    """The processes of a created container; start times are field 22 of /proc/PID/stat."""

    pid: int
    pid_start: int
    monitor_pid: int
    monitor_start: int


@frozen
class Exit:
    """How a container ended: code 0-255 (128+signal for a signal), ``at`` in wall-clock seconds."""

    code: int
    at: float
    oom_killed: bool = False


@frozen
class ExecShape:
    """What is known of a further process before the rest: its terminal, its input and its limits."""

    tty: bool = False
    open_stdin: bool = False
    rlimits: tuple[tuple[str, int, int], ...] = ()


@frozen
class ExecProcess:
    """A further process: resolved as the container's own process is (OCI runtime specification, process).

    ``rlimits`` are (type such as "RLIMIT_NOFILE", soft, hard).
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    privileged: bool = False
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    console_size: tuple[int, int] = (0, 0)
    rlimits: tuple[tuple[str, int, int], ...] = ()

    @property
    def shape(self) -> ExecShape:
        return ExecShape(tty=self.tty, open_stdin=self.open_stdin, rlimits=self.rlimits)


@frozen
class Usage:
    """Resource use of a running container; bytes, nanoseconds, counts. ``raw`` is free for cgroup details."""

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_per_cpu: tuple[int, ...] = ()
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_time: int = 0
    memory_usage: int = 0
    memory_max_usage: int = 0
    memory_limit: int = 0
    memory_failcnt: int = 0
    memory_stats: Mapping[str, int] = field(default_factory=dict)
    pids: int = 0
    pids_limit: int = 0
    block_bytes: Sequence[tuple[int, int, str, int]] = ()


class Streams(Protocol):
    """The standard streams of a container or exec, joined. Output: (1 stdout | 2 stderr, bytes); tty output is 1."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield output until every writer closed it. One iterator at a time."""

    async def write(self, data: bytes) -> None:
        """Write to standard input; writing after the process ended is success."""

    async def close_input(self) -> None:
        """Let the process see end of file on standard input; may be repeated."""

    async def close(self) -> None:
        """Leave: the process goes on. May be repeated."""


class ExecSession(Streams, Protocol):
    """A running exec."""

    pid: int

    async def wait(self) -> int:
        """Return the exit code (128+signal for a signal; 126/127 when it could not be started)."""

    async def kill(self, signal: int) -> None:
        """Send a signal to the exec's process; success when it is gone."""

    async def resize(self, height: int, width: int) -> None:
        """Set the size of its terminal, in characters."""


class PreparedExec(Protocol):
    """A further process that is about to be started. Until then it costs a process of the runtime that waits."""

    async def start(self, wanted: ExecProcess) -> ExecSession:
        """Start it, once; ``wanted`` has the shape that was prepared.

        Raises StartError (126/127) when it cannot be, ConflictError when the container does not run.
        """

    def drop(self) -> None:
        """It will not be started: nothing of it stays. Without effect after ``start``; may be repeated."""


@frozen
class LogPart:
    """Which lines of a log, and what each begins with: its time where they are ``stamped``, and the ``details``.

    ``tail`` is -1 for all; ``since`` and ``until`` are nanoseconds since the epoch, both inclusive, 0 for no limit.
    """

    since: int = 0
    until: int = 0
    tail: int = -1
    stamped: bool = False
    details: bytes = b""


WHOLE_LOG = LogPart()


Create = Callable[[RuntimeSpec], Awaitable[Running]]
"""Makes the container of a specification, its first process waiting for ``start``; once.

Raises StartError (126, 127, 128 as Docker reports them) with the runtime's own words when the program is missing or may
not be run; then nothing of it stays.
"""


class Runtime(Protocol):
    """Containers as processes. ``id`` is the container's 64-digit ID everywhere."""

    def creating(self, launch: Launch) -> AbstractAsyncContextManager[Create]:
        """Begin to make a container: what does not need its specification goes on while that is being made.

        Leaving without a call of ``Create``, or with an error, leaves nothing behind.
        """

    async def start(self, container_id: str) -> None:
        """Let the first process run; raises StartError as ``Create`` does (runc reports a missing program here)."""

    async def wait(self, container_id: str, running: Running) -> Exit:
        """Return when the container has ended, also for one that a former daemon created.

        Never polls: a pidfd of the monitor. A monitor that was killed gives code 255 unless the runtime knows better;
        the container's processes are killed then.
        """

    async def is_alive(self, container_id: str, running: Running) -> bool:
        """Tell whether that very process still is (pid and start time match)."""

    async def exit_of(self, container_id: str) -> Exit | None:
        """Return the recorded end of a container whose monitor is gone; None when none was recorded."""

    async def kill(self, container_id: str, signal: int) -> None:
        """Send a signal to the first process; raises ConflictError when it does not run."""

    async def pause(self, container_id: str) -> None:
        """Freeze every process of it; raises ConflictError when it does not run."""

    async def resume(self, container_id: str) -> None:
        """Thaw it; success when it is not frozen."""

    async def delete(self, container_id: str) -> None:
        """Kill what is left and remove cgroup, bundle, sockets; success when it is gone. The log stays."""

    async def attach(self, container_id: str) -> Streams:
        """Join the streams of a created or running container (before ``start`` to lose nothing)."""

    async def resize(self, container_id: str, height: int, width: int) -> None:
        """Set the size of the container's terminal, in characters."""

    def prepare_exec(self, container_id: str, shape: ExecShape) -> PreparedExec:
        """Begin to start a further process: what needs not wait for the start itself goes on beside other work."""

    async def execute(self, container_id: str, process: ExecProcess) -> ExecSession:
        """Prepare a further process and start it; raises as ``PreparedExec.start``."""

    async def update(self, container_id: str, resources: Mapping[str, object]) -> None:
        """Change cgroup limits; ``resources`` is OCI linux.resources. Raises ConflictError when it does not run."""

    async def usage(self, container_id: str) -> Usage:
        """Return resource use now."""

    async def processes(self, container_id: str) -> Sequence[int]:
        """Return the host pids of all its processes."""

    async def known(self) -> Sequence[str]:
        """Return the IDs of every container the runtime holds anything of (for recovery)."""

    def read_log(
        self, log_path: Path, part: LogPart = WHOLE_LOG
    ) -> Iterator[list[tuple[int, list[bytes]]]]:
        """Yield the lines of a log, rotated parts included: lists of (1|2, texts that follow one another).

        A text is a line with its newline, a piece of a very long one, or, of very many, several lines.
        """
        ...

    def follow_log(
        self, log_path: Path, part: LogPart = WHOLE_LOG, *, ended: "Ended"
    ) -> AsyncIterator[list[tuple[int, list[bytes]]]]:
        """As ``read_log``, then go on as lines come until ``ended`` says so and the rest is read; loses no line."""
        ...

    def follow_log_entries(
        self, log_path: Path, *, since: int = 0, ended: "Ended"
    ) -> AsyncIterator[list[tuple[int, int, bytes, bool]]]:
        """As ``follow_log``, line by line: (1|2, nanoseconds since the epoch, text, whether it is a whole line)."""
        ...

    async def reopen_log(
        self, container_id: str, log_path: Path, *, compress: bool = False
    ) -> None:
        """Rotate: move the file aside as LOG.1 and let the monitor write a new one.

        With ``compress`` the part that was moved aside is compressed. Followers read every line, kept or not.
        """


class Ended(Protocol):
    """Tells a follower that no more output can come."""

    def is_set(self) -> bool:
        """Tell whether the container has ended."""

    async def wait(self) -> object:
        """Return when it has."""
