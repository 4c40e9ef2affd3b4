"""Processes added to a running container."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.runtime import ExecProcess, ExecSession, ExecShape, PreparedExec
from stackctl.engine import lifecycle
from stackctl.engine.book import Book
from stackctl.engine.events import Events
from stackctl.engine.launch import Launcher
from stackctl.engine.names import new_id
from stackctl.engine.requests import ExecRecord, ExecRequest
from stackctl.engine.runtime_spec import check_working_dir, exec_environment
from stackctl.engine.security import parse_security_opt, pick_capabilities, rlimit_values
from stackctl.engine.tasks import Tasks
from stackctl.engine.world import World
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError, StartError

_KEPT_AFTER_END = 1000
_READY_FOR = 0.1  # seconds from create in which clients start what they mean to start at once


@dataclass(slots=True)
class ProcessMaker:
    """Turns a request into a process as the container's own would be."""

    world: World
    book: Book
    launcher: Launcher

    def shape(self, record: ContainerRecord, request: ExecRequest) -> ExecShape:
        """Return what is known of the process before the rest is looked up."""
        return ExecShape(
            tty=request.tty,
            open_stdin=request.attach_stdin,
            rlimits=rlimit_values(record.spec.ulimits, self.launcher.most_rlimits()),
        )

    async def make(
        self, record: ContainerRecord, request: ExecRequest, shape: ExecShape
    ) -> ExecProcess:
        """Return the process of that shape; raises InvalidInputError for an unknown user or a bad directory."""
        live = self.book.live(record.id)
        if request.user or live.user is None:
            root = await self.world.layers.mount(record.id)
            user = await self.launcher.user_in(root, record, request.user or record.user)
            if not request.user:
                live.user = user
        else:
            user = live.user
        spec = record.spec
        privileged = request.privileged or spec.privileged
        options = parse_security_opt(spec.security_opt)
        capabilities = pick_capabilities(
            add=spec.cap_add,
            drop=spec.cap_drop,
            privileged=privileged,
            available=self.world.host.capabilities,
        )
        return ExecProcess(
            args=request.cmd,
            env=exec_environment(record, user, request.env, tty=request.tty),
            cwd=check_working_dir(request.working_dir or record.working_dir),
            uid=user.uid,
            gid=user.gid,
            additional_gids=user.groups,
            tty=shape.tty,
            open_stdin=shape.open_stdin,
            privileged=request.privileged,
            capabilities=capabilities,
            no_new_privileges=options.no_new_privileges,
            console_size=request.console_size,
            rlimits=shape.rlimits,
        )


@dataclass(slots=True)
class _Early:
    """An exec that waits for its start, and of which run of the container it was made."""

    process: ExecProcess
    run: tuple[int, int]
    prepared: PreparedExec
    expiry: asyncio.TimerHandle


@dataclass(slots=True)
class Execs:
    """The exec service. Records stay readable until their container ends or goes, as in Docker.

    Clients start an exec right after they created it. So its runtime is started with the create, and waits a moment.
    """

    world: World
    book: Book
    events: Events
    processes: ProcessMaker
    tasks: Tasks
    _records: dict[str, ExecRecord] = field(default_factory=dict)
    _sessions: dict[str, ExecSession] = field(default_factory=dict)
    _early: dict[str, _Early] = field(default_factory=dict)

    async def create(self, ref: str, request: ExecRequest) -> str:
        """Prepare an exec and return its ID; raises ConflictError unless the container runs, InvalidInputError."""
        record = self.book.container(ref)
        lifecycle.require_running(record)
        if not request.cmd:
            raise InvalidInputError("No exec command specified")
        shape = self.processes.shape(record, request)
        prepared = self.world.runtime.prepare_exec(record.id, shape)
        try:
            await asyncio.sleep(0)  # the runtime is started before the rest is looked up
            process = await self.processes.make(record, request, shape)
        except BaseException:
            prepared.drop()
            raise
        exec_id = new_id()
        self._records[exec_id] = ExecRecord(id=exec_id, container_id=record.id, request=request)
        self.book.live(record.id).execs.add(exec_id)
        self._early[exec_id] = _Early(
            process=process,
            run=(record.pid, record.pid_start),
            prepared=prepared,
            expiry=asyncio.get_running_loop().call_later(_READY_FOR, self._drop, exec_id),
        )
        publish_exec(self.events, "exec_create", record, exec_id, request.cmd)
        self._forget_old()
        return exec_id

    def _drop(self, exec_id: str) -> None:
        early = self._early.pop(exec_id, None)
        if early is not None:
            early.expiry.cancel()
            early.prepared.drop()

    def close(self) -> None:
        """Start nothing more that was not started yet."""
        for exec_id in tuple(self._early):
            self._drop(exec_id)

    def ids(self, container_id: str) -> Sequence[str]:
        """Return the IDs of the container's execs that run."""
        return tuple(
            item.id
            for item in self._records.values()
            if item.container_id == container_id and item.running
        )

    def inspect(self, exec_id: str) -> ExecRecord:
        """Return the exec; raises NotFoundError."""
        record = self._records.get(exec_id)
        if record is None or self.book.find(record.container_id) is None:
            raise NotFoundError(f"No such exec instance: {exec_id}")
        return record

    async def start(
        self,
        exec_id: str,
        *,
        detach: bool = False,
        tty: bool | None = None,
        console_size: tuple[int, int] = (0, 0),
    ) -> ExecSession | None:
        """Start it; return its streams, None when detached.

        Raises ConflictError when it was started or the container does not run, StartError (126, 127).
        """
        found = self.inspect(exec_id)
        if found.started:
            if found.running:
                raise ConflictError(f"exec instance {exec_id} is already running")
            raise ConflictError(f"exec command {exec_id} has already run")
        container = self.book.container(found.container_id)
        lifecycle.require_running(container)
        request = found.request
        if tty is not None and tty != request.tty and not detach:
            request = replace(request, tty=tty)
        if console_size != (0, 0):
            request = replace(request, console_size=console_size)
        self._records[exec_id] = replace(found, started=True, running=True)
        publish_exec(self.events, "exec_start", container, exec_id, request.cmd)
        try:
            session = await self._execute(exec_id, container, request)
        except BaseException as error:
            code = error.exit_code if isinstance(error, StartError) else 126
            self._records[exec_id] = replace(self._records[exec_id], running=False, exit_code=code)
            raise
        self._records[exec_id] = replace(self._records[exec_id], pid=session.pid)
        self._sessions[exec_id] = session
        tracked = _Tracked(session)
        self.tasks.spawn(
            self._wait(exec_id, container.id, tracked, drain=detach), f"exec {exec_id[:12]}"
        )
        return None if detach else tracked

    async def _execute(
        self, exec_id: str, container: ContainerRecord, request: ExecRequest
    ) -> ExecSession:
        early = self._early.pop(exec_id, None)
        if early is not None:
            early.expiry.cancel()
            run = (container.pid, container.pid_start)
            if (early.run, early.process.tty) == (run, request.tty):
                process = replace(early.process, console_size=request.console_size)
                return await early.prepared.start(process)
            early.prepared.drop()
        shape = self.processes.shape(container, request)
        process = await self.processes.make(container, request, shape)
        return await self.world.runtime.execute(container.id, process)

    async def _wait(
        self, exec_id: str, container_id: str, session: "_Tracked", *, drain: bool
    ) -> None:
        draining: asyncio.Task[None] | None = None
        if drain:
            draining = asyncio.create_task(_drain(session))
        code = 255
        try:
            code = await session.inner.wait()
        finally:
            self._sessions.pop(exec_id, None)
            self._records[exec_id] = replace(
                self._records[exec_id], running=False, exit_code=code, pid=0
            )
            session.set_exit(code)
        container = self.book.find(container_id)
        if container is not None:
            publish_exec(self.events, "exec_die", container, exec_id, code=code)
        if draining is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(draining, 5)
            await session.close()

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of its terminal; raises NotFoundError, ConflictError when it does not run."""
        self.inspect(exec_id)
        session = self._sessions.get(exec_id)
        if session is None:
            raise ConflictError(f"exec {exec_id} is not running")
        await session.resize(height, width)

    def _forget_old(self) -> None:
        """Keep memory bounded: the oldest ended execs go."""
        ended = [key for key, item in self._records.items() if item.started and not item.running]
        for key in ended[: max(0, len(ended) - _KEPT_AFTER_END)]:
            del self._records[key]
        gone = [
            key for key, item in self._records.items() if self.book.find(item.container_id) is None
        ]
        for key in gone:
            del self._records[key]


def publish_exec(
    events: Events,
    action: str,
    container: ContainerRecord,
    exec_id: str,
    cmd: Sequence[str] = (),
    *,
    code: int | None = None,
    probe: bool = False,
) -> None:
    """Tell of an exec, at its end with its exit code; after the program Docker writes a space in any case.

    ``probe`` says that it is a healthcheck's, of which there are many.
    """
    text = f"{action}: {cmd[0]} {' '.join(cmd[1:])}" if cmd else action
    named = {"image": container.spec.image, "name": container.name, "execID": exec_id}
    events.publish(
        "container",
        text,
        container.id,
        {**container.labels, **named, **({} if code is None else {"exitCode": str(code)})},
        frequent=probe,
    )


class _Tracked:
    """An exec's streams, whose end the service knows of before the client does."""

    def __init__(self, inner: ExecSession) -> None:
        self.inner = inner
        self.pid = inner.pid
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def set_exit(self, code: int) -> None:
        if not self._exit.done():
            self._exit.set_result(code)

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        return self._output()

    async def _output(self) -> AsyncIterator[tuple[int, bytes]]:
        async for item in self.inner.output():
            yield item
        # Clients ask for the exit code as soon as the output ends.
        if not self._exit.done():
            await asyncio.wait({self._exit}, timeout=2.0)

    async def write(self, data: bytes) -> None:
        await self.inner.write(data)

    async def close_input(self) -> None:
        await self.inner.close_input()

    async def close(self) -> None:
        await self.inner.close()

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def kill(self, signal: int) -> None:
        await self.inner.kill(signal)

    async def resize(self, height: int, width: int) -> None:
        await self.inner.resize(height, width)


async def _drain(session: "_Tracked") -> None:
    async for _ in session.inner.output():
        pass
