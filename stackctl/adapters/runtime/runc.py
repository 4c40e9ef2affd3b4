"""Runtime by runc (or another OCI runtime with its command line), under conmon."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TypeVar

from stackctl.adapters.runtime import attach, conmon, logfile, loglines, logparts
from stackctl.adapters.runtime.bundle import Bundles, Note
from stackctl.adapters.runtime.cgroups import CgroupFacts, Cgroups, own_facts
from stackctl.adapters.runtime.execs import (
    ExecPlace,
    PreparedExec,
    RunningExec,
    is_contested,
    start_exec,
)
from stackctl.adapters.runtime.failures import start_error
from stackctl.adapters.runtime.moves import Moves
from stackctl.adapters.runtime.seccomp import SeccompProfiles
from stackctl.contracts.runtime import (
    WHOLE_LOG,
    Create,
    Ended,
    ExecProcess,
    ExecSession,
    ExecShape,
    Exit,
    Launch,
    LogPart,
    Running,
    Streams,
    Usage,
)
from stackctl.errors import ConflictError, HostError, InvalidInputError, StackctlError
from stackctl.frozen import frozen
from stackctl.host import mounts, pidfd, process
from stackctl.oci.runtime import RuntimeSpec
from stackctl.values import Json, JsonObject

_ENVIRONMENT = {"GOMAXPROCS": "2"}
_LAST_MONITOR = 0.5  # seconds
_LET_GO = 1.0
_LOOKS = 200
_LOGLESS = frozenset({"none"})


@frozen
class RuntimeSettings:
    """Where things are. ``runtimes`` are further OCI runtimes by the name ``HostConfig.Runtime`` gives them."""

    run_root: Path
    cgroup_parent: str
    runc: str = "runc"
    conmon: str = "conmon"
    runtimes: Mapping[str, str] = field(default_factory=dict)
    cgroups: CgroupFacts | None = None
    concurrency: int = 0


class ConmonRuntime:
    """The Runtime contract. One instance a daemon; what it needs to know later is on disk, beside each bundle."""

    def __init__(
        self, settings: RuntimeSettings, *, seccomp: SeccompProfiles | None = None
    ) -> None:
        self._settings = settings
        run = settings.run_root
        self._root = run / "runtime"
        self._scratch = run / "x"
        # What a killed daemon left of an exec it was starting: one daemon at a time has this directory.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._memory: int | None = None
        self._bundles = Bundles(run / "bundles", run / "exits")
        self._cgroups = Cgroups(settings.cgroups or own_facts(), settings.cgroup_parent)
        self._moves = Moves(self._cgroups.staying)
        self._conmon = conmon.Conmon(
            program=_program(settings.conmon),
            runtime_root=self._root,
            exits=run / "exits",
            terminals=run / "t",
        )
        self.seccomp = seccomp or SeccompProfiles()
        self._limit = asyncio.Semaphore(settings.concurrency or 2 * (os.cpu_count() or 1))
        self._exec_limit = asyncio.Semaphore(4 * (os.cpu_count() or 1))
        self._parked: dict[str, list[socket.socket]] = {}
        self._prepared = False

    def prepare(self) -> None:
        """Make the directories and become the parent of execs and monitors; done by the first call that needs it."""
        if self._prepared:
            return
        self._bundles.prepare()
        # The runtime has its pid files written to the disk before it goes on, where they are on one.
        self._memory = mounts.memory_directory()
        self._scratch = (
            self._settings.run_root / "x"
            if self._memory is None
            else Path(f"/proc/{os.getpid()}/fd/{self._memory}")
        )
        for path in (self._root, self._scratch, self._conmon.terminals):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        pidfd.become_subreaper()
        self._prepared = True

    def leave_cgroups(self) -> None:
        """Take the daemon itself out of its starter's cgroups, among the monitors.

        The end of a login, a CI job or a unit kills its cgroup; containers must not go with it. What the daemon starts
        starts outside then, and need not be moved.
        """
        self._cgroups.leave(os.getpid())

    def close(self) -> None:
        """Engine stop: leave containers running, remove the cgroup parent when nothing but the daemon is in it."""
        self._moves.close()
        if self._memory is not None:
            os.close(self._memory)
        self._memory, self._prepared = None, False
        deadline = time.monotonic() + _LAST_MONITOR
        while not self._cgroups.give_back(os.getpid()) and not self._bundles.all():
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)  # a keeper that was told to end is just ending

    @contextlib.asynccontextmanager
    async def creating(self, launch: Launch) -> AsyncIterator[Create]:
        self.prepare()
        note = Note(
            runtime=self._runtime(launch.runtime),
            tty=launch.tty,
            open_stdin=launch.open_stdin,
            stdin_once=launch.stdin_once,
            log_path="" if launch.log_config.type in _LOGLESS else str(launch.log_path),
            log_files=_log_files(launch),
        )
        made = False

        async def create(spec: RuntimeSpec) -> Running:
            nonlocal made
            running = await self._create(launch.id, note, monitor, spec)
            made = True
            return running

        async with self._limit:
            bundle = self._bundles.make(launch.id)
            try:
                with self._moves.expected():
                    async with self._conmon.waiting(
                        launch.id, bundle, note, scratch=self._scratch, leave=self._leave
                    ) as monitor:
                        yield create
            except conmon.RuntimeFailedError as error:
                raise start_error(error.message) from error
            finally:
                if not made:
                    with contextlib.suppress(StackctlError):
                        await asyncio.shield(self.delete(launch.id))

    async def _create(
        self, container_id: str, note: Note, monitor: conmon.Waiting, spec: RuntimeSpec
    ) -> Running:
        note = replace(note, cgroup=_cgroups_path(spec.tree))
        self._bundles.fill(container_id, self._config(spec), note)
        # To its end even when the caller is cancelled: what is half made cannot be undone.
        return await _uninterrupted(self._monitored(container_id, monitor))

    async def _monitored(self, container_id: str, monitor: conmon.Waiting) -> Running:
        started = await monitor.create()
        running = Running(
            pid=started.pid,
            pid_start=pidfd.start_time(started.pid),
            monitor_pid=started.monitor_pid,
            monitor_start=pidfd.start_time(started.monitor_pid),
        )
        self._bundles.write_running(container_id, running)
        return running

    async def _leave(self, pid: int) -> None:
        # The kernel takes its time to move a process; it need not when the daemon has moved itself.
        if self._cgroups.inherited():
            await asyncio.to_thread(self._cgroups.leave, pid)

    async def start(self, container_id: str) -> None:
        if self._is_runc(container_id) and await self._let_go(container_id):
            return
        async with self._limit:
            argv = [*self._runc(container_id), "start", container_id]
            done = await process.run(argv, check=False, env=_ENVIRONMENT)
        if done.code != 0:
            log = conmon.log_text(self._bundles.path(container_id))
            words = conmon.runtime_words(done.stderr.decode(errors="replace"), log)
            raise start_error(words, verb="start")

    def _is_runc(self, container_id: str) -> bool:
        note = self._bundles.note(container_id)
        return note is not None and Path(note.runtime).name == "runc"

    async def _let_go(self, container_id: str) -> bool:
        """Do what ``runc start`` does, without a process of 7 ms: read the FIFO that the waiting process writes to.

        False when it does not write; ``runc start`` then says why.
        """
        fifo = self._root / container_id / "exec.fifo"
        try:
            descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            async with asyncio.timeout(_LET_GO):
                await pidfd.readable(descriptor)
            gone = os.read(descriptor, 1) != b""
        except TimeoutError:
            return False
        finally:
            os.close(descriptor)
        if gone:
            fifo.unlink(missing_ok=True)  # to runc, a container with it was not started yet
            await self._replaced(container_id)
        return gone

    async def _replaced(self, container_id: str) -> None:
        """Wait the moment until the program has taken runc's place: runc ends itself at a SIGTERM, programs may not."""
        running = self._bundles.running(container_id)
        name = Path(f"/proc/{running.pid if running is not None else 0}/comm")
        with contextlib.suppress(OSError):
            for _ in range(_LOOKS):
                if not name.read_bytes().startswith(b"runc:["):
                    return
                await asyncio.sleep(0.0005)

    async def wait(self, container_id: str, running: Running) -> Exit:
        await pidfd.wait_gone(running.monitor_pid, running.monitor_start, reap=True)
        code = 255
        if not self._bundles.exit_file(container_id).exists():
            code = await self._end_orphan(container_id, running)
        # Nothing of a container outlives its first process, not even with the host's pid namespace.
        await self._kill_rest(container_id)
        self._unpark(container_id)
        recorded = await self.exit_of(container_id)
        if recorded is not None:
            return recorded
        self._record(container_id, code)
        return await self.exit_of(container_id) or Exit(code=code, at=0.0)

    async def is_alive(self, container_id: str, running: Running) -> bool:
        del container_id  # the process alone tells
        return running.pid > 0 and pidfd.start_time(running.pid) == running.pid_start != 0

    async def exit_of(self, container_id: str) -> Exit | None:
        path = self._bundles.exit_file(container_id)
        try:
            text = path.read_text()
            at = path.stat().st_mtime
        except FileNotFoundError:
            return None
        code = int(text) if text.strip().lstrip("-").isdigit() else 255
        oom = (self._bundles.path(container_id) / "oom").exists()
        return Exit(
            code=code & 0xFF,
            at=at,
            oom_killed=oom or self._cgroups.oom_kills(self._group(container_id)) > 0,
        )

    async def kill(self, container_id: str, signal: int) -> None:
        running = self._running(container_id)
        if not pidfd.send_signal(running.pid, running.pid_start, signal):
            raise ConflictError(f"container {container_id} is not running")
        if signal == _SIGKILL:
            # A frozen process is not ended by a signal before it thaws.
            self._cgroups.thaw(self._group(container_id))

    async def pause(self, container_id: str) -> None:
        await self._manage(container_id, "pause")

    async def resume(self, container_id: str) -> None:
        self._running(container_id)
        self._cgroups.thaw(self._group(container_id))

    async def delete(self, container_id: str) -> None:
        running = self._bundles.running(container_id)
        self._unpark(container_id)
        self._cgroups.thaw(self._group(container_id))
        # What runc itself would remove, its cgroups and its state, is removed below.
        if (self._root / container_id).exists() and not self._is_runc(container_id):
            argv = [*self._runc(container_id), "delete", "--force", container_id]
            await process.run(argv, check=False, env=_ENVIRONMENT)
        await self._kill_rest(container_id)
        if running is not None:
            await self._end_monitor(running)
        if not self._cgroups.remove(self._group(container_id)):
            await self._wait_empty(container_id)
        shutil.rmtree(self._root / container_id, ignore_errors=True)
        self._bundles.remove(container_id)

    async def attach(self, container_id: str) -> Streams:
        note = self._note(container_id)
        if not (note.open_stdin and note.stdin_once):
            return await attach.connect(self._bundles.path(container_id))
        parked = self._parked.setdefault(container_id, [])
        return await attach.connect(self._bundles.path(container_id), park=parked.append)

    async def resize(self, container_id: str, height: int, width: int) -> None:
        if self._note(container_id).tty:
            await conmon.resize(self._bundles.path(container_id), height, width)

    def prepare_exec(self, container_id: str, shape: ExecShape) -> PreparedExec:
        self.prepare()
        given: asyncio.Future[ExecProcess] = asyncio.get_running_loop().create_future()
        starting = asyncio.create_task(self._exec(container_id, shape, given))
        return PreparedExec(given, starting)

    async def execute(self, container_id: str, process: ExecProcess) -> ExecSession:
        return await self.prepare_exec(container_id, process.shape).start(process)

    async def _exec(
        self, container_id: str, shape: ExecShape, given: "asyncio.Future[ExecProcess]"
    ) -> RunningExec:
        if not await self.is_alive(container_id, self._running(container_id)):
            raise ConflictError(f"container {container_id} is not running")
        runtime = self._runc(container_id)
        place = ExecPlace(container_id=container_id, runtime=runtime, directory=self._scratch)
        async with self._exec_limit:
            moving = contextlib.nullcontext() if is_contested(shape) else self._moves.expected()
            return await start_exec(place, shape, given, moving=moving)

    async def update(self, container_id: str, resources: Mapping[str, object]) -> None:
        stdin = json.dumps(resources).encode()
        await self._manage(container_id, "update", "--resources", "-", stdin=stdin)

    async def _manage(self, container_id: str, *words: str, stdin: bytes = b"") -> None:
        """Have the runtime do something with a container; raises ConflictError when that has ended by now."""
        running = self._running(container_id)
        argv = [*self._runc(container_id), *words, container_id]
        try:
            await process.run(argv, stdin=stdin, env=_ENVIRONMENT)
        except HostError as error:
            if await self.is_alive(container_id, running):
                raise
            raise ConflictError(f"container {container_id} is not running") from error

    async def usage(self, container_id: str) -> Usage:
        return self._cgroups.usage(self._group(container_id))

    async def processes(self, container_id: str) -> Sequence[int]:
        return self._cgroups.processes(self._group(container_id))

    async def known(self) -> Sequence[str]:
        found = self._bundles.all()
        if self._root.is_dir():
            found |= {path.name for path in self._root.iterdir() if len(path.name) == 64}
        return sorted(found)

    def read_log(self, log_path: Path, part: LogPart = WHOLE_LOG) -> Iterator[list[loglines.Run]]:
        return logfile.read_runs(log_path, part)

    def follow_log(
        self, log_path: Path, part: LogPart = WHOLE_LOG, *, ended: Ended
    ) -> AsyncIterator[list[loglines.Run]]:
        return logfile.follow_runs(log_path, part, ended=ended)

    def follow_log_entries(
        self, log_path: Path, *, since: int = 0, ended: Ended
    ) -> AsyncIterator[list[loglines.Entry]]:
        return logfile.follow_entries(log_path, since=since, ended=ended)

    async def reopen_log(
        self, container_id: str, log_path: Path, *, compress: bool = False
    ) -> None:
        keep = self._note(container_id).log_files - 1
        bundle = self._bundles.path(container_id)
        try:
            await logparts.rotate(
                log_path, reopen=lambda: conmon.reopen(bundle), keep=keep, compress=compress
            )
        except HostError as error:
            if not conmon.listens(bundle):  # it was told, and ended before it read that
                raise ConflictError(f"container {container_id} is not running") from error
            raise

    def _config(self, spec: RuntimeSpec) -> JsonObject:
        linux = spec.tree.get("linux")
        wanted = self.seccomp.profile(spec.seccomp, _capabilities(spec.tree))
        if wanted is None or not isinstance(linux, dict):
            return spec.tree
        return {**spec.tree, "linux": {**linux, "seccomp": wanted}}

    def _runtime(self, name: str) -> str:
        if name in ("", "runc", "io.containerd.runc.v2"):
            return _program(self._settings.runc)
        if name not in self._settings.runtimes:
            raise InvalidInputError(
                f"unknown or invalid runtime name: {name}",
                hint=f"HostConfig.Runtime may be {', '.join(['runc', *self._settings.runtimes])}.",
            )
        return _program(self._settings.runtimes[name])

    def _runc(self, container_id: str) -> list[str]:
        note = self._bundles.note(container_id)
        program = note.runtime if note is not None else self._runtime("")
        return [program, "--root", str(self._root)]

    def _group(self, container_id: str) -> str:
        note = self._bundles.note(container_id)
        if note is not None and note.cgroup.endswith(f"/{container_id}"):
            return note.cgroup
        return f"/{self._settings.cgroup_parent.strip('/')}/{container_id}"

    def _note(self, container_id: str) -> Note:
        note = self._bundles.note(container_id)
        if note is None:
            raise ConflictError(f"container {container_id} is not running")
        return note

    def _running(self, container_id: str) -> Running:
        running = self._bundles.running(container_id)
        if running is None:
            raise ConflictError(f"container {container_id} is not running")
        return running

    def _record(self, container_id: str, code: int) -> None:
        # The monitor could not: a later daemon shall still find how it ended.
        with contextlib.suppress(OSError):
            self._bundles.exit_file(container_id).write_text(str(code))

    async def _end_orphan(self, container_id: str, running: Running) -> int:
        """End a container whose monitor died without a word; the code is 137 when it was we who ended it."""
        self._cgroups.thaw(self._group(container_id))
        killed = pidfd.send_signal(running.pid, running.pid_start, _SIGKILL)
        await self._kill_rest(container_id)
        code = await pidfd.wait_child(running.pid) if killed else None
        if code is None:
            await pidfd.wait_gone(running.pid, running.pid_start, reap=True)
        return 137 if killed else 255

    async def _kill_rest(self, container_id: str) -> None:
        """Kill what is left in the container; orphans that came to this subreaper are reaped."""
        left = self._cgroups.processes(self._group(container_id))
        if not left:
            return
        gone = [asyncio.create_task(pidfd.wait_gone(pid, reap=True)) for pid in left]
        # Each holds its pidfd before anything is killed: a pid cannot change hands meanwhile.
        await asyncio.sleep(0)
        self._cgroups.kill(self._group(container_id))
        _, waiting = await asyncio.wait(gone, timeout=2.0)
        for task in waiting:
            task.cancel()

    async def _end_monitor(self, running: Running) -> None:
        pid, started = running.monitor_pid, running.monitor_start
        try:
            async with asyncio.timeout(2.0):
                await pidfd.wait_gone(pid, started, reap=True)
        except TimeoutError:
            pidfd.send_signal(pid, started, _SIGKILL)
            await pidfd.wait_gone(pid, started, reap=True)

    async def _wait_empty(self, container_id: str) -> None:
        # A killed process leaves its cgroup a moment after it is gone from view; v1 tells nobody when.
        for pause in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            await asyncio.sleep(pause)
            await self._kill_rest(container_id)
            if self._cgroups.remove(self._group(container_id)):
                return
        raise HostError(
            f"the cgroups of container {container_id} are not empty",
            hint="A process in it cannot be killed, perhaps as it waits for a device.",
        )

    def _unpark(self, container_id: str) -> None:
        for connection in self._parked.pop(container_id, ()):
            connection.close()


_SIGKILL = signal.SIGKILL
_T = TypeVar("_T")


async def _uninterrupted(work: Coroutine[None, None, _T]) -> _T:
    """Await work to its end; a cancellation is raised after it."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()
        raise


def _log_files(launch: Launch) -> int:
    default = "5" if launch.log_config.type == "local" else "1"
    text = launch.log_config.config.get("max-file", "") or default
    if not text.isdigit() or int(text) < 1:
        raise InvalidInputError(
            f"invalid value for max-file: {text!r}", hint="HostConfig.LogConfig: a number from 1."
        )
    return int(text)


def _cgroups_path(tree: JsonObject) -> str:
    path = _member(_member(tree, "linux"), "cgroupsPath")
    return path if isinstance(path, str) else ""


def _member(value: Json, name: str) -> Json:
    return value.get(name) if isinstance(value, dict) else None


def _capabilities(tree: JsonObject) -> frozenset[str]:
    bounding = _member(_member(_member(tree, "process"), "capabilities"), "bounding")
    return frozenset(str(name) for name in bounding) if isinstance(bounding, list) else frozenset()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise HostError(
            f"{name} is not installed", hint=f"Install it: apt install {Path(name).name}."
        )
    return found
