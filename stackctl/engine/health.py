"""Health checks by Docker's rules.

The first probe that counts comes one interval after the start, the next ones an interval after the end of the one
before; failures within the start period do not count while the container is still starting; any success makes it
healthy. Beyond Docker's rules the container is looked at *early*, a few times before the first probe that counts, at
a tenth of that time and then after twice as long each: who gets ready fast is healthy fast, and a failure means
nothing.
"""

import asyncio
import logging
from dataclasses import dataclass, replace

from stackctl.contracts.container import ContainerRecord, Health, Healthcheck, ProbeResult, Status
from stackctl.contracts.runtime import ExecSession
from stackctl.engine.book import Book
from stackctl.engine.events import Events
from stackctl.engine.execs import ProcessMaker, publish_exec
from stackctl.engine.names import new_id
from stackctl.engine.requests import ExecRequest
from stackctl.engine.world import World
from stackctl.errors import StackctlError, StartError

log = logging.getLogger(__name__)

INTERVAL = 30.0
TIMEOUT = 30.0
START_INTERVAL = 5.0
RETRIES = 3
OUTPUT_LIMIT = 4096
KEPT = 5
EARLY = (0.1, 0.2, 0.4)  # parts of the time before the first probe that counts
_KILL = 9
_DRAIN = 5.0


def is_checked(check: Healthcheck | None) -> bool:
    """Tell whether there is anything to probe."""
    return check is not None and bool(check.test) and check.test[0] != "NONE"


def initial_health(record: ContainerRecord) -> Health | None:
    """Return the health of a container that starts, None without a check."""
    return Health() if is_checked(record.healthcheck) else None


def wait_before(check: Healthcheck, health: Health, *, ran_for: float) -> float:
    """Return the seconds until the next probe."""
    interval = check.interval or INTERVAL
    if health.status == "starting" and ran_for < check.start_period:
        return check.start_interval or START_INTERVAL
    return interval


def judge(check: Healthcheck, health: Health, result: ProbeResult, *, started_at: float) -> Health:
    """Return the health after a probe."""
    kept = (*health.log, result)[-KEPT:]
    if result.exit_code == 0:
        return Health(status="healthy", failing_streak=0, log=kept)
    if health.status == "starting" and result.start - started_at < check.start_period:
        return replace(health, log=kept)
    streak = health.failing_streak + 1
    status = "unhealthy" if streak >= (check.retries or RETRIES) else health.status
    return Health(status=status, failing_streak=streak, log=kept)


def command_of(check: Healthcheck, shell: tuple[str, ...]) -> tuple[str, ...]:
    """Return the program of a probe."""
    kind, *words = check.test
    if kind == "CMD-SHELL":
        return (*(shell or ("/bin/sh", "-c")), *words)
    return tuple(words) if kind == "CMD" else check.test


@dataclass(slots=True)
class HealthMonitor:
    """Probes running containers; one task a container."""

    world: World
    book: Book
    events: Events
    processes: ProcessMaker

    async def run(self, container_id: str) -> None:
        """Probe until the container ends (the task is cancelled then)."""
        await self._look_early(container_id)
        while True:
            record = self.book.find(container_id)
            if record is None or record.health is None or record.healthcheck is None:
                return
            now = self.world.clock.now()
            pause = wait_before(record.healthcheck, record.health, ran_for=now - record.started_at)
            if not record.health.log:
                # The time of the early looks is part of it.
                pause = min(pause, max(0.0, record.started_at + pause - now))
            await self.world.clock.sleep(pause)
            await self.book.live(container_id).resumed.wait()
            record = self.book.find(container_id)
            if record is None or record.status is not Status.RUNNING:
                return
            await self.probe(record)

    async def _look_early(self, container_id: str) -> None:
        """Look whether a container that has just started is healthy already; end when it is."""
        record = self.book.find(container_id)
        if record is None or record.health is None or record.healthcheck is None:
            return
        ran_for = self.world.clock.now() - record.started_at
        pause = wait_before(record.healthcheck, record.health, ran_for=ran_for)
        if record.health.status != "starting" or record.health.log or ran_for > pause:
            return  # a container of a daemon before this one
        for part in EARLY:
            await self.world.clock.sleep(part * pause)
            record = self.book.find(container_id)
            if record is None or record.health is None or record.status is not Status.RUNNING:
                return
            if await self.probe(record, early=True):
                return

    async def probe(self, record: ContainerRecord, *, early: bool = False) -> bool:
        """Run one probe, record what it means and tell whether it succeeded; an ``early`` failure means nothing."""
        check = record.healthcheck
        if check is None:
            return False
        result = await self._run_probe(record, check)
        succeeded = result.exit_code == 0
        now = self.book.find(record.id)
        if now is None or now.health is None or now.status is not Status.RUNNING:
            return False
        if early and not succeeded:
            return False
        health = judge(check, now.health, result, started_at=now.started_at)
        changed = health.status != now.health.status
        now = self.book.save(replace(now, health=health))
        if changed:
            self.events.publish(
                "container",
                f"health_status: {health.status}",
                now.id,
                {**now.labels, "image": now.spec.image, "name": now.name},
            )
        return succeeded

    async def _run_probe(self, record: ContainerRecord, check: Healthcheck) -> ProbeResult:
        start = self.world.clock.now()
        timeout = check.timeout or TIMEOUT
        output = bytearray()
        code = -1
        exec_id, cmd = new_id(), command_of(check, record.spec.shell)
        session: ExecSession | None = None
        try:
            request = ExecRequest(cmd=cmd)
            shape = self.processes.shape(record, request)
            process = await self.processes.make(record, request, shape)
            publish_exec(self.events, "exec_create", record, exec_id, cmd, probe=True)
            publish_exec(self.events, "exec_start", record, exec_id, cmd, probe=True)
            session = await self.world.runtime.execute(record.id, process)
            code = await asyncio.wait_for(_finish(session, output), timeout)
            publish_exec(self.events, "exec_die", record, exec_id, code=code, probe=True)
            text = output.decode(errors="replace")
        except TimeoutError:
            text = f"Health check exceeded timeout ({_duration(timeout)})"
            if output:
                text += f": {output.decode(errors='replace')}"
            if session is not None:
                await session.kill(_KILL)
                ended = 128 + _KILL
                publish_exec(self.events, "exec_die", record, exec_id, code=ended, probe=True)
        except StartError as error:
            code, text = error.exit_code, error.message
        except StackctlError as error:
            text = error.message
        finally:
            if session is not None:
                await session.close()
        return ProbeResult(
            start=start, end=self.world.clock.now(), exit_code=code, output=text[:OUTPUT_LIMIT]
        )


async def _finish(session: ExecSession, output: bytearray) -> int:
    reading = asyncio.ensure_future(_collect(session, output))
    try:
        code = await session.wait()
        # A child that keeps the pipe open must not keep the probe open.
        await asyncio.wait({reading}, timeout=_DRAIN)
    finally:
        reading.cancel()
    return code


async def _collect(session: ExecSession, output: bytearray) -> None:
    async for _, data in session.output():
        if len(output) < OUTPUT_LIMIT:
            output += data[: OUTPUT_LIMIT - len(output)]


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
