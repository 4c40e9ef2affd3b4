"""What a daemon does at its start: adopt what outlived the one before, finish what it left half done."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from stackctl.contracts.container import ContainerRecord, Status
from stackctl.contracts.runtime import Exit, Running
from stackctl.engine import lifecycle, restart
from stackctl.engine.book import Book
from stackctl.engine.containerfiles import ContainerFiles
from stackctl.engine.launch import Launcher
from stackctl.engine.removal import Remover
from stackctl.engine.running import RunningContainers
from stackctl.engine.sandbox import Sandboxes
from stackctl.engine.tasks import Tasks
from stackctl.engine.world import World
from stackctl.errors import StackctlError

log = logging.getLogger(__name__)

LOST_EXIT_CODE = 255
_BOOT_SETTING = "boot_id"


@dataclass(slots=True)
class Recovery:
    """Brings records and reality together."""

    world: World
    book: Book
    files: ContainerFiles
    launcher: Launcher
    sandboxes: Sandboxes
    running: RunningContainers
    remover: Remover
    tasks: Tasks

    async def run(self) -> None:
        """Adopt, finish and clean up; start what restart policies want, in the background."""
        state, boot_id = self.world.state, self.world.host.boot_id
        same_boot = state.setting(_BOOT_SETTING) == boot_id
        state.save_setting(_BOOT_SETTING, boot_id)
        known = set(await self.world.runtime.known())
        half_made = known | set(await self.world.network.sandboxes())
        adopted: list[ContainerRecord] = []
        to_restart: list[str] = []
        for record in self.book.containers():
            try:
                fate = await self._settle(record, half_made, same_boot=same_boot)
            except StackctlError as error:
                log.warning("could not recover container %s: %s", record.id[:12], error)
                continue
            if fate == "adopt":
                adopted.append(record)
            elif fate == "restart":
                to_restart.append(record.id)
        await self._remove_strays(known)
        await self.sandboxes.restore(adopted)
        for record in adopted:
            await self._adopt(record)
        for container_id in to_restart:
            record = self.book.container(container_id)
            if record.status is not Status.RESTARTING:
                record = self.book.save(replace(record, status=Status.RESTARTING))
            self.running.restart_later(record, 0.0)

    async def _settle(
        self, record: ContainerRecord, half_made: set[str], *, same_boot: bool
    ) -> str:
        """Return "adopt", "restart" or ""; what ended is recorded and cleaned."""
        if record.status in lifecycle.LIVE:
            if same_boot and await self._is_alive(record):
                return "adopt"
            recorded = await self.world.runtime.exit_of(record.id) if same_boot else None
            result = recorded or Exit(code=LOST_EXIT_CODE, at=self.world.clock.now())
            return await self._ended_meanwhile(record, result)
        if record.status in (Status.REMOVING, Status.DEAD):
            async with self.book.live(record.id).lock:
                await self.remover.remove_locked(record, volumes=record.spec.auto_remove)
            return ""
        if record.status is Status.RESTARTING:
            await self.launcher.clean(record)
            return "restart"
        if record.id in half_made or not same_boot:
            # A start that its daemon did not live to see done: nobody was told that it runs.
            await self.launcher.clean(record)
        else:
            await self.world.layers.unmount(record.id)
        if record.status is Status.EXITED and record.started_at:
            if record.spec.auto_remove:
                async with self.book.live(record.id).lock:
                    await self.remover.remove_locked(record, volumes=True)
                return ""
            return "restart" if self._wants_start(record) else ""
        return ""

    async def _is_alive(self, record: ContainerRecord) -> bool:
        return await self.world.runtime.is_alive(record.id, running_of(record))

    async def _ended_meanwhile(self, record: ContainerRecord, result: Exit) -> str:
        ended = self.book.save(
            replace(
                record,
                status=Status.EXITED,
                exit_code=result.code,
                oom_killed=result.oom_killed,
                # A short program may end before its start was noted.
                finished_at=max(result.at, record.started_at),
                pid=0,
                ports=(),
            )
        )
        await self.launcher.clean(record)
        self.running.event("die", ended, exitCode=str(result.code))
        if record.spec.auto_remove:
            async with self.book.live(record.id).lock:
                await self.remover.remove_locked(ended, volumes=True)
            return ""
        return "restart" if self._wants_start(ended) else ""

    @staticmethod
    def _wants_start(record: ContainerRecord) -> bool:
        return restart.after_daemon_start(
            record.spec.restart_policy,
            exit_code=record.exit_code,
            manually_stopped=record.manually_stopped,
            restart_count=record.restart_count,
        )

    async def _adopt(self, record: ContainerRecord) -> None:
        live = self.book.live(record.id)
        if record.status is Status.PAUSED:
            live.resumed.clear()
        self.running.watch_running(record, running_of(record))

    async def _remove_strays(self, known: set[str]) -> None:
        """Remove what no record names: containers, snapshots, namespaces, directories."""
        records = {record.id: record for record in self.book.containers()}
        live = {key for key, record in records.items() if record.status in lifecycle.LIVE}
        for container_id in known - records.keys():
            await self._try("runtime container", container_id, self.world.runtime.delete)
        for key in await self.world.layers.snapshots():
            owner = key.partition("-image")[0]
            if owner not in records or (key != owner and owner not in live):
                await self._try("snapshot", key, self.world.layers.discard)
        for container_id in await self.world.network.sandboxes():
            if container_id not in live:
                await self._try(
                    "network namespace", container_id, self.world.network.remove_sandbox
                )
        for container_id in self.files.known():
            if container_id not in records:
                self.files.remove(container_id)

    async def _try(self, what: str, key: str, remove: Callable[[str], Awaitable[None]]) -> None:
        try:
            await remove(key)
        except StackctlError as error:
            log.warning("could not remove stray %s %s: %s", what, key[:12], error)


def running_of(record: ContainerRecord) -> Running:
    """Return the processes that a record names."""
    return Running(
        pid=record.pid,
        pid_start=record.pid_start,
        monitor_pid=record.monitor_pid,
        monitor_start=record.monitor_start,
    )
