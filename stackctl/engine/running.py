"""Start, stop, kill, pause, wait: what moves a container through its states.

A container's lock is held while its state changes and never while waiting for it to end: the task that watches it
needs the lock to record the end.
"""

import asyncio
import logging
import signal as signals
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from stackctl.contracts.container import ContainerRecord, Status
from stackctl.contracts.runtime import Exit, Running, Streams, Usage
from stackctl.engine import lifecycle, restart
from stackctl.engine.attach import Attached
from stackctl.engine.book import Book, Live
from stackctl.engine.events import Events
from stackctl.engine.health import HealthMonitor, initial_health
from stackctl.engine.launch import Launched, Launcher
from stackctl.engine.lifecycle import Step, following
from stackctl.engine.logforward import FORWARDED, forward
from stackctl.engine.logoptions import rotate_until, rotation
from stackctl.engine.mounts import mount_attributes
from stackctl.engine.process_table import network_counters, process_table
from stackctl.engine.removal import Remover
from stackctl.engine.requests import NetworkCounters
from stackctl.engine.signals import signal_number
from stackctl.engine.tasks import Tasks
from stackctl.engine.world import World
from stackctl.errors import (
    ConflictError,
    HostError,
    InvalidInputError,
    NotFoundError,
    NotModifiedError,
    StackctlError,
    StartError,
)

log = logging.getLogger(__name__)

STOP_TIMEOUT = 10
KILL_WAIT = 10.0
CONDITIONS = ("", "not-running", "next-exit", "removed")


class RunningContainers:
    """The service that runs containers."""

    def __init__(
        self,
        world: World,
        book: Book,
        events: Events,
        launcher: Launcher,
        health: HealthMonitor,
        remover: Remover,
        tasks: Tasks,
    ) -> None:
        self.world = world
        self.book = book
        self.events = events
        self._launcher = launcher
        self._health = health
        self._remover = remover
        self._tasks = tasks
        # More in flight only wait for each other: a start is 35 ms of CPU.
        self._starting = asyncio.Semaphore(max(2, 2 * world.host.cpus))

    # Start

    async def start(self, ref: str, *, aside: bool = False) -> None:
        """Start a container, ``aside`` with neither its published ports nor its aliases (see ``engine.relief``).

        Raises NotModifiedError when it runs, ConflictError, StartError (its exit code is in the record then), and
        what its networks and mounts raise. After a failure nothing of it is left mounted or connected.
        """
        record = self.book.container(ref)
        live = self.book.live(record.id)
        async with live.lock:
            record = self.book.container(record.id)
            following(record, Step.START)
            live.cancel_restart()
            live.last_delay = 0.0
            record = replace(record, restart_count=0, manually_stopped=False, aside=aside)
            await self._start_locked(record, live)

    async def _start_locked(self, record: ContainerRecord, live: Live) -> None:
        launched: Launched | None = None
        try:
            async with self._starting, AsyncExitStack() as undo:
                launched = await self._launcher.launch(record, undo)
                self._announce_mounts(record)
                self._launcher.sandboxes.announce(launched.record, "connect")
                for attached in tuple(live.pending):
                    await attached.join()
                # Before it is let go: it may have ended when the call returns.
                started_at = self.world.clock.now()
                await self.world.runtime.start(record.id)
                record = replace(
                    launched.record,
                    status=Status.RUNNING,
                    error="",
                    exit_code=0,
                    oom_killed=False,
                    started_at=started_at,
                    health=initial_health(launched.record),
                )
                self.book.save(record)
                undo.pop_all()
        except Exception as error:
            if launched is None and isinstance(error, StartError):
                self._announce_mounts(record)
            self._announce_end(record)
            await self._start_failed(record, live, error)
            raise
        finally:
            self._launcher.sandboxes.opened(record.id)
        live.pending.clear()
        live.ended.clear()
        live.resumed.set()
        live.user = launched.user
        self.event("start", record)
        self.watch_running(record, launched.running)

    async def _start_failed(self, record: ContainerRecord, live: Live, error: Exception) -> None:
        code = error.exit_code if isinstance(error, StartError) else 128
        message = error.message if isinstance(error, StackctlError) else str(error)
        after = Status.CREATED if record.status is Status.CREATED else Status.EXITED
        record = replace(
            record, status=after, error=message, exit_code=code, pid=0, ports=(), health=None
        )
        self.book.save(record)
        for attached in live.pending:
            attached.give_up()
        live.pending.clear()
        live.tell_stopped(Exit(code=code, at=self.world.clock.now()))
        if record.spec.auto_remove:
            await self._remover.remove_locked(record, volumes=True)

    def watch_running(self, record: ContainerRecord, running: Running) -> None:
        """Watch a running container's end and its health; for started and adopted ones alike."""
        live = self.book.live(record.id)
        live.ended.clear()
        live.watch = self._tasks.spawn(self._watch(record.id, running), f"watch {record.id[:12]}")
        if record.health is not None:
            live.health = self._tasks.spawn(self._health.run(record.id), f"health {record.id[:12]}")
        if record.spec.log_config.type != "none" and rotation(record.spec.log_config)[0]:
            watch = live.watch
            rotating = rotate_until(
                record, self.world.runtime, self.world.clock,
                over=lambda: live.ended.is_set() or live.watch is not watch,
            )  # fmt: skip
            self._tasks.spawn(rotating, f"log rotation {record.id[:12]}")
        if record.spec.log_config.type in FORWARDED and self.world.log_sinks is not None:
            forwarding = forward(
                record, self.world.runtime, self.world.log_sinks,
                ended=live.ended, hostname=self.world.host.hostname,
            )  # fmt: skip
            self._tasks.spawn(forwarding, f"log forwarding {record.id[:12]}")

    async def _watch(self, container_id: str, running: Running) -> None:
        result = await self.world.runtime.wait(container_id, running)
        live = self.book.live(container_id)
        async with live.lock:
            record = self.book.find(container_id)
            if record is None or record.status not in lifecycle.LIVE:
                return
            await self.ended(record, result)

    # The end

    async def ended(self, record: ContainerRecord, result: Exit) -> ContainerRecord:
        """Record the end of a container, clean up, and do what its policy says; the lock is held."""
        live = self.book.live(record.id)
        live.cancel_health()
        live.execs.clear()
        ran_for = max(0.0, result.at - record.started_at)
        decision = restart.after_exit(
            record.spec.restart_policy,
            exit_code=result.code,
            manually_stopped=record.manually_stopped,
            restart_count=record.restart_count,
            ran_for=ran_for,
            last_delay=live.last_delay,
        )
        live.cleaning = True
        try:
            # First the record: the runtime forgets the exit code when it is cleaned.
            was = record
            record = self.book.save(
                replace(
                    record,
                    status=following(record, Step.EXIT),
                    exit_code=result.code,
                    oom_killed=result.oom_killed,
                    # A short program may end before its start was noted.
                    finished_at=max(result.at, record.started_at),
                    pid=0,
                    ports=(),
                )
            )
            if result.oom_killed:
                self.event("oom", record)
            cleaned = await self.clean(was)
        finally:
            live.cleaning = False
        live.ended.set()
        self.event("die", record, exitCode=str(result.code), execDuration=str(int(ran_for)))
        if decision.restart:
            record = self.book.save(replace(record, status=following(record, Step.AWAIT_RESTART)))
            self.restart_later(record, decision.delay)
            # Who waits for the end is told of this one, also when another start follows.
            live.tell_stopped(result)
            return record
        live.tell_stopped(result)
        if record.spec.auto_remove:
            await self._remover.remove_locked(record, volumes=True, cleaned=cleaned)
        return record

    async def clean(self, record: ContainerRecord) -> bool:
        """Remove what a run of the container left; what cannot be removed is logged and left to the next start.

        Return whether all of it is gone.
        """
        cleaned = True
        try:
            await self._launcher.clean(record)
        except StackctlError as error:
            cleaned = False
            log.warning("could not clean up after container %s: %s", record.id[:12], error)
        self._announce_end(record)
        return cleaned

    def _announce_mounts(self, record: ContainerRecord) -> None:
        for mount in record.mounts:
            if mount.type == "volume":
                attributes = mount_attributes(mount, record.id)
                self.events.publish("volume", "mount", mount.name, attributes)

    def _announce_end(self, record: ContainerRecord) -> None:
        self._launcher.sandboxes.announce(record, "disconnect")
        for mount in record.mounts:
            if mount.type == "volume":
                attributes = {"container": record.id, "driver": mount.driver or "local"}
                self.events.publish("volume", "unmount", mount.name, attributes)

    def restart_later(self, record: ContainerRecord, delay: float) -> None:
        """Start the container again after that many seconds, as its policy wants."""
        live = self.book.live(record.id)
        live.last_delay = delay
        live.restart = self._tasks.spawn(
            self._restart_after(record.id, delay), f"restart {record.id[:12]}"
        )

    async def _restart_after(self, container_id: str, delay: float) -> None:
        await self.world.clock.sleep(delay)
        live = self.book.live(container_id)
        async with live.lock:
            record = self.book.find(container_id)
            if record is None or record.status is not Status.RESTARTING:
                return
            record = replace(record, restart_count=record.restart_count + 1)
            try:
                await self._start_locked(record, live)
            except Exception as error:  # noqa: BLE001 - the policy's owner is not here to be told
                log.warning("could not restart container %s: %s", container_id[:12], error)
            live.restart = None

    # Stop

    async def stop(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop a container: its signal, ``timeout`` seconds (-1 for ever), then SIGKILL.

        Raises NotModifiedError when it does not run, InvalidInputError for an unknown signal.
        """
        record = self.book.container(ref)
        number = signal_number(signal or record.stop_signal or "TERM")
        record, waiter = await self._prepare_stop(record.id)
        if waiter is None:
            self.event("stop", record)
            return
        if timeout is None:
            timeout = record.spec.stop_timeout
        seconds = STOP_TIMEOUT if timeout is None else timeout
        if record.status is Status.PAUSED:
            await self._quietly(self.world.runtime.resume(record.id))
        await self._signal(record, number)
        if not await self._within(waiter, None if seconds < 0 else float(seconds)):
            await self._signal(record, signals.SIGKILL)
            if not await self._within(waiter, KILL_WAIT):
                raise HostError(
                    f"cannot stop container: {record.id}: tried to kill container, but did not "
                    "receive an exit event",
                    hint="A process of it hangs in the kernel; see its state in /proc.",
                )
        self.event("stop", record)

    async def give_up(self, container_id: str) -> None:
        """End a restart that waits, as the container is to go."""
        await self._prepare_stop(container_id)

    async def _prepare_stop(
        self, container_id: str
    ) -> tuple[ContainerRecord, "asyncio.Future[Exit] | None"]:
        """Mark it as stopped by hand and end a restart that waits; the future tells of the end of its process."""
        live = self.book.live(container_id)
        async with live.lock:
            record = self.book.container(container_id)
            if record.status is Status.RESTARTING:
                live.cancel_restart()
                status = following(record, Step.GIVE_UP)
                record = self.book.save(replace(record, status=status, manually_stopped=True))
                live.tell_stopped(Exit(code=record.exit_code, at=record.finished_at))
                if record.spec.auto_remove:
                    await self._remover.remove_locked(record, volumes=True)
                return record, None
            if record.status not in lifecycle.LIVE:
                raise NotModifiedError(f"Container {record.id} is already stopped")
            record = self.book.save(replace(record, manually_stopped=True))
            return record, self._future(live.stops)

    async def _signal(self, record: ContainerRecord, number: int) -> None:
        # A container that ended meanwhile is what we want.
        with suppress(ConflictError, NotFoundError):
            await self.world.runtime.kill(record.id, number)
            self.event("kill", record, signal=str(number))

    async def _within(self, waiter: "asyncio.Future[Exit]", seconds: float | None) -> bool:
        if seconds is None:
            await asyncio.shield(waiter)
            return True
        sleeping = asyncio.ensure_future(self.world.clock.sleep(seconds))
        both: set[asyncio.Future[Any]] = {waiter, sleeping}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
        return waiter.done()

    async def kill(self, ref: str, signal: str = "KILL") -> None:
        """Send a signal; for SIGKILL, return when the container has ended. Raises ConflictError when not running."""
        record = self.book.container(ref)
        try:
            number = signal_number(signal or "KILL")
        except InvalidInputError as error:
            raise InvalidInputError(f"cannot kill container: {ref}: {error.message}") from error
        live = self.book.live(record.id)
        async with live.lock:
            record = self.book.container(record.id)
            if record.status is Status.RESTARTING:
                raise ConflictError(
                    f"cannot kill container: {ref}: container {record.id} is restarting"
                )
            if record.status not in lifecycle.LIVE:
                raise ConflictError(
                    f"cannot kill container: {ref}: container {record.id} is not running"
                )
            ends_it = number in (
                int(signals.SIGKILL), signal_number(record.stop_signal or "TERM")
            )  # fmt: skip
            if ends_it:
                record = self.book.save(replace(record, manually_stopped=True))
            waiter = self._future(live.stops)
        if ends_it and record.status is Status.PAUSED:
            await self._quietly(self.world.runtime.resume(record.id))
        try:
            await self.world.runtime.kill(record.id, number)
        except ConflictError as error:
            raise ConflictError(
                f"cannot kill container: {ref}: container {record.id} is not running"
            ) from error
        self.event("kill", record, signal=str(number))
        if number == signals.SIGKILL:
            await self._within(waiter, KILL_WAIT)

    async def restart(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop, if it runs, and start again."""
        record = self.book.container(ref)
        with suppress(NotModifiedError):
            await self.stop(record.id, timeout=timeout, signal=signal)
        await self.start(record.id)
        self.event("restart", self.book.container(record.id))

    # Pause

    async def pause(self, ref: str) -> None:
        """Freeze; raises ConflictError unless it runs."""
        record = self.book.container(ref)
        live = self.book.live(record.id)
        async with live.lock:
            record = self.book.container(record.id)
            after = following(record, Step.PAUSE)
            await self.world.runtime.pause(record.id)
            live.resumed.clear()
            record = self.book.save(replace(record, status=after))
        self.event("pause", record)

    async def unpause(self, ref: str) -> None:
        """Thaw; raises ConflictError unless it is paused."""
        record = self.book.container(ref)
        live = self.book.live(record.id)
        async with live.lock:
            record = self.book.container(record.id)
            after = following(record, Step.UNPAUSE)
            await self.world.runtime.resume(record.id)
            live.resumed.set()
            record = self.book.save(replace(record, status=after))
        self.event("unpause", record)

    # Wait

    def watch(self, ref: str, condition: str = "not-running") -> "asyncio.Future[Exit]":
        """Return a future of the container's end; it listens from this call on.

        Conditions are "not-running", "next-exit" and "removed". Raises NotFoundError, InvalidInputError.
        """
        if condition not in CONDITIONS:
            raise InvalidInputError(f'invalid condition: "{condition}"')
        record = self.book.container(ref)
        live = self.book.live(record.id)
        if condition == "removed":
            return self._future(live.removals)
        # One whose networks and ports are still being given back is not done with.
        over = record.status not in lifecycle.BUSY and not live.cleaning
        if condition != "next-exit" and over:
            future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
            future.set_result(
                Exit(code=record.exit_code, at=record.finished_at, oom_killed=record.oom_killed)
            )
            return future
        return self._future(live.stops)

    async def wait(self, ref: str, condition: str = "not-running") -> Exit:
        """Return when the condition holds."""
        return await self.watch(ref, condition)

    @staticmethod
    def _future(among: list["asyncio.Future[Exit]"]) -> "asyncio.Future[Exit]":
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        among.append(future)
        # A client that goes away cancels; nobody has to be told then.
        future.add_done_callback(lambda item: among.remove(item) if item in among else None)
        return future

    # Streams, processes, figures

    async def attach(
        self,
        ref: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        stream: bool = True,
    ) -> Streams:
        """Join a container's streams, running or not yet started. Raises ConflictError when paused or restarting."""
        record = self.book.container(ref)
        if record.status is Status.PAUSED:
            raise ConflictError(
                f"container {record.id} is paused, unpause the container before attach"
            )
        if record.status is Status.RESTARTING:
            raise ConflictError(
                f"container {record.id} is restarting, wait until the container is running"
            )
        live = self.book.live(record.id)

        def left(one: Attached) -> None:
            # A client that leaves before the start must not be kept until then.
            if one in live.pending:
                live.pending.remove(one)

        attached = Attached(
            lambda: self.world.runtime.attach(record.id),
            stdin=stdin and record.spec.open_stdin,
            stdout=stdout,
            stderr=stderr,
            stream=stream,
            history=(lambda: self._history(record)) if logs else None,
            left=left,
        )
        if record.status is Status.RUNNING:
            if stream:
                await attached.join()
        elif record.status in (Status.CREATED, Status.EXITED) and stream:
            live.pending.append(attached)
        else:
            attached.give_up()
        self.event("attach", record)
        return attached

    async def _history(self, record: ContainerRecord) -> AsyncIterator[tuple[int, bytes]]:
        path = Path(record.log_path)
        if path.exists():
            for batch in self.world.runtime.read_log(path):
                for number, texts in batch:
                    yield number, b"".join(texts)
                await asyncio.sleep(0)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the size of the container's terminal; raises ConflictError when it does not run."""
        record = self.book.container(ref)
        if record.status not in lifecycle.LIVE:
            raise ConflictError(f"container {record.id} is not running")
        await self.world.runtime.resize(record.id, height, width)
        self.event("resize", record, height=str(height), width=str(width))

    async def top(
        self, ref: str, ps_args: str = ""
    ) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Return the titles and rows of the container's processes; raises ConflictError when it does not run."""
        record = self.book.container(ref)
        if record.status is Status.RESTARTING:
            raise ConflictError(
                f"container {record.id} is restarting, wait until the container is running"
            )
        if record.status not in lifecycle.LIVE:
            raise ConflictError(f"container {record.id} is not running")
        pids = await self.world.runtime.processes(record.id)
        self.event("top", record)
        return await asyncio.to_thread(process_table, pids, ps_args, self.world.clock.now())

    async def usage(self, ref: str) -> Usage:
        """Return resource use now; raises ConflictError when it does not run."""
        record = self.book.container(ref)
        if record.status not in lifecycle.LIVE:
            raise ConflictError(f"container {record.id} is not running")
        return await self.world.runtime.usage(record.id)

    async def network_counters(self, ref: str) -> dict[str, NetworkCounters]:
        """Return what went through each interface of the container (not for the host's network)."""
        record = self.book.container(ref)
        is_host = record.spec.network_mode == "host"
        if record.status not in lifecycle.LIVE or is_host:
            return {}
        return network_counters(record.pid)

    # Helpers

    def event(self, action: str, record: ContainerRecord, **attributes: str) -> None:
        """Publish a container event with Docker's attributes: image, name, labels and the given ones."""
        publish_event(self.events, action, record, **attributes)

    async def _quietly(self, action: Coroutine[object, object, None]) -> None:
        try:
            await action
        except StackctlError as error:
            log.debug("ignored: %s", error)


def publish_event(events: Events, action: str, record: ContainerRecord, **attributes: str) -> None:
    """Publish a container event with Docker's attributes."""
    events.publish(
        "container",
        action,
        record.id,
        {**record.labels, "image": record.spec.image, "name": record.name, **attributes},
    )
