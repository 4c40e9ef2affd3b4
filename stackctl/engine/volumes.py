"""Named and anonymous volumes."""

import asyncio
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.state import VolumeRecord
from stackctl.engine.book import Book
from stackctl.engine.events import Events
from stackctl.engine.filters import PruneFilter
from stackctl.engine.names import check_volume_name, new_id
from stackctl.engine.requests import Claim, VolumeRequest, unclaimed
from stackctl.engine.world import World
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_OPTIONS = frozenset({"type", "o", "device", "size"})


@dataclass(slots=True)
class Volumes:
    """The volume service."""

    world: World
    book: Book
    events: Events
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def resolve(self, name: str) -> VolumeRecord:
        """Return the volume; raises NotFoundError."""
        return self.book.volume(name)

    def all(self) -> Sequence[VolumeRecord]:
        return self.book.volumes()

    async def create(
        self, request: VolumeRequest, *, anonymous: bool = False, claim: Claim = unclaimed
    ) -> VolumeRecord:
        """Make a volume, or return the one of that name; raises InvalidInputError, NotFoundError (driver), ConflictError.

        ``anonymous`` volumes go with the container that made them.
        """
        anonymous = anonymous or not request.name
        request = replace(request, name=request.name or new_id())
        try:
            return await self._create(request, anonymous=anonymous, claim=claim)
        except (InvalidInputError, NotFoundError) as error:
            words = f"create {request.name[:200]}: {error.message}"
            raise type(error)(words, hint=error.hint) from error

    async def _create(
        self, request: VolumeRequest, *, anonymous: bool, claim: Claim
    ) -> VolumeRecord:
        driver = request.driver or "local"
        if driver != "local":
            raise NotFoundError(
                f'error looking up volume plugin {driver}: plugin "{driver}" not found',
                hint="Only the local driver is offered; it mounts NFS and devices through its options.",
            )
        name = check_volume_name(request.name)
        unknown = sorted(set(request.options) - _OPTIONS)
        if unknown:
            raise InvalidInputError(f'invalid option: "{unknown[0]}"')
        async with self._lock:
            known = self.book.find_volume(name)
            if known is not None:
                return (
                    known  # whatever its options: as in Docker, only another driver is a conflict
                )
            mountpoint = await self.world.volumes.create(name, request.options)
            created = self.world.clock.now()
            try:
                claim(name, created)
            except BaseException:
                await self.world.volumes.remove(name)
                raise
            labels = dict(request.labels)
            if anonymous:
                labels.setdefault(ANONYMOUS_LABEL, "")
            record = self.book.save_volume(
                VolumeRecord(
                    name=name,
                    created=created,
                    driver=driver,
                    mountpoint=str(mountpoint),
                    labels=labels,
                    options=dict(request.options),
                    anonymous=anonymous,
                )
            )
        self.events.publish("volume", "create", name, {"driver": driver})
        return record

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume; raises NotFoundError (not with ``force``), ConflictError while a container has it."""
        record = self.book.find_volume(name)
        if record is None:
            if force:
                return
            raise NotFoundError(f"get {name}: no such volume")
        async with self._lock:
            users = self.users(name)
            if users:
                raise ConflictError(
                    f"remove {name}: volume is in use - [{', '.join(user.id for user in users)}]"
                )
            await self.world.volumes.remove(name)
            self.book.forget_volume(record)
        self.events.publish("volume", "destroy", name, {"driver": record.driver})

    def users(self, name: str) -> Sequence[ContainerRecord]:
        """Return the containers that mount the volume."""
        return [
            container
            for container in self.book.containers()
            if any(mount.type == "volume" and mount.name == name for mount in container.mounts)
        ]

    async def usage(self, name: str) -> int:
        """Return the bytes a volume holds; raises NotFoundError."""
        return await self.world.volumes.usage(self.resolve(name).name)

    async def prune(
        self, wanted: PruneFilter, *, everything: bool = False
    ) -> tuple[Sequence[str], int]:
        """Remove unused anonymous volumes, or all unused ones; return their names and the bytes freed."""
        removed: list[str] = []
        freed = 0
        for record in self.all():
            if not (everything or record.anonymous) or self.users(record.name):
                continue
            if not wanted.takes(record.labels, record.created):
                continue
            size = await self.world.volumes.usage(record.name)
            try:
                await self.remove(record.name)
            except (ConflictError, NotFoundError):
                continue  # taken, or gone, in the meantime
            removed.append(record.name)
            freed += size
        self.events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    def path_of(self, name: str, subpath: str) -> str:
        """Return a volume's directory, or a place in it, on the host; raises InvalidInputError."""
        base = self.resolve(name).mountpoint
        if not subpath:
            return base
        clean = posixpath.normpath(subpath)
        if clean.startswith(("/", "..")):
            raise InvalidInputError(
                f"invalid volume subpath {subpath!r}: must be a relative path within the volume"
            )
        return posixpath.join(base, clean)
