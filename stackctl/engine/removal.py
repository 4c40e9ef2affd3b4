"""Removing a container and what belongs to it alone."""

import asyncio
import logging
from dataclasses import dataclass, replace

from stackctl.contracts.container import ContainerRecord, Status
from stackctl.contracts.runtime import Exit
from stackctl.engine.book import Book
from stackctl.engine.containerfiles import ContainerFiles
from stackctl.engine.events import Events
from stackctl.engine.launch import Launcher
from stackctl.engine.lifecycle import Step, following
from stackctl.engine.networks import Networks
from stackctl.engine.volumes import Volumes
from stackctl.engine.world import World
from stackctl.errors import ConflictError, NotFoundError, StackctlError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Remover:
    """Removes containers that have no process."""

    world: World
    book: Book
    events: Events
    networks: Networks
    volumes: Volumes
    launcher: Launcher
    files: ContainerFiles

    async def remove_locked(
        self, record: ContainerRecord, *, volumes: bool, cleaned: bool = False
    ) -> None:
        """Remove a stopped container; the lock is held. Raises what a store raises; it is "dead" then.

        ``cleaned`` says that what its last run left is known to be gone.
        """
        live = self.book.live(record.id)
        if live.removing:
            return
        live.removing = True
        record = self.book.save(replace(record, status=following(record, Step.REMOVE)))
        try:
            if not cleaned:
                await self.launcher.clean(record)
            await self.world.layers.discard(record.id)
            await asyncio.to_thread(self.files.remove, record.id)
        except BaseException:
            live.removing = False
            self.book.save(replace(record, status=Status.DEAD))
            raise
        self.networks.release(record.endpoints.values())
        self.book.forget(record)
        if volumes:
            await self._remove_volumes(record)
        self.events.publish(
            "container",
            "destroy",
            record.id,
            {**record.labels, "image": record.spec.image, "name": record.name},
        )
        gone = Exit(code=record.exit_code, at=record.finished_at, oom_killed=record.oom_killed)
        for attached in live.pending:
            attached.give_up()
        live.pending.clear()
        live.tell_stopped(gone)
        live.tell_removed(gone)
        self.book.drop_live(record.id)

    async def _remove_volumes(self, record: ContainerRecord) -> None:
        for mount in record.mounts:
            if mount.type != "volume" or not mount.anonymous:
                continue
            try:
                await self.volumes.remove(mount.name)
            except (ConflictError, NotFoundError):
                continue  # another container took it over, or it is gone
            except StackctlError as error:
                log.warning("could not remove volume %s: %s", mount.name, error)
