"""Containers: create, find, rename, remove, update, and their files."""

import logging
import posixpath
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from stackctl.contracts.container import ContainerRecord, ContainerSpec, Status
from stackctl.contracts.state import ImageConfig, ImageRecord, VolumeRecord
from stackctl.contracts.storage import Change, Furnishing
from stackctl.engine import lifecycle, merge, restart
from stackctl.engine.book import Book
from stackctl.engine.containerfiles import ContainerFiles
from stackctl.engine.events import Events
from stackctl.engine.filters import PruneFilter
from stackctl.engine.image_values import check_platform, platform_of
from stackctl.engine.images import Images
from stackctl.engine.mounts import Mounts, source_of
from stackctl.engine.names import check_container_name, generated_name, new_id
from stackctl.engine.network_checks import network_mode
from stackctl.engine.networks import Networks
from stackctl.engine.removal import Remover
from stackctl.engine.requests import Claim, Created, Update, unclaimed
from stackctl.engine.running import RunningContainers, publish_event
from stackctl.engine.sandbox import Sandboxes, bindings, legacy_links
from stackctl.engine.world import World
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError, StackctlError
from stackctl.oci.platform import parse_platform

log = logging.getLogger(__name__)
# How often a container is killed before its removal is given up: it may be starting just then.
_ATTEMPTS = 3
# What programs tell by that they run in a container.
_MARK = ".dockerenv"
# What a container finds there without asking; Docker keeps these out of its changes as well.
_ENGINE_PLACES = frozenset(
    {f"/{_MARK}", "/dev", "/dev/console", "/dev/pts", "/dev/shm", "/proc", "/sys"}
    | {"/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf"}
)


@dataclass(slots=True)
class Containers:
    """The container service."""

    world: World
    book: Book
    events: Events
    images: Images
    mounts: Mounts
    networks: Networks
    sandboxes: Sandboxes
    running: RunningContainers
    remover: Remover
    files: ContainerFiles

    # Finding

    def resolve(self, ref: str) -> ContainerRecord:
        """Return the container of an ID, a name or a unique prefix of an ID; raises NotFoundError."""
        return self.book.container(ref)

    def all(self) -> Sequence[ContainerRecord]:
        return self.book.containers()

    # Create

    async def create(
        self,
        spec: ContainerSpec,
        *,
        name: str = "",
        platform: str = "",
        claim: Claim = unclaimed,
    ) -> Created:
        """Make a container of an image.

        Raises NotFoundError ("No such image: …", networks, volumes_from), ConflictError for a name that is taken,
        InvalidInputError, ForbiddenError for addresses.
        """
        merge.check(spec)
        restart.check(spec.restart_policy, auto_remove=spec.auto_remove)
        image = self.images.resolve(spec.image)
        host = self.images.parts.platform
        # An operating system alone leaves the architecture open.
        wanted = parse_platform(platform) if "/" in platform else None
        check_platform(image, spec.image, wanted)
        told = ""
        if not platform and not host.accepts(platform_of(image)):
            told = (
                f"The requested image's platform ({platform_of(image)}) does not match the detected host platform "
                f"({host}) and no specific platform was requested"
            )
        container_id = new_id()
        plain = check_container_name(name) if name else generated_name(self.book.names())
        self.book.reserve_name(plain, container_id)
        with self.images.held.hold(image.layers):
            async with AsyncExitStack() as undo:
                undo.callback(self.book.release_name, plain, container_id)
                record = await self._make(container_id, plain, spec, image, undo)
                claim(record.id, record.created)
                self.book.save(record)
                undo.pop_all()
        publish_event(self.events, "create", record)
        warnings = self._warnings(record)
        return Created(id=record.id, warnings=(*warnings, told) if told else warnings)

    async def _make(
        self,
        container_id: str,
        name: str,
        spec: ContainerSpec,
        image: ImageRecord,
        undo: AsyncExitStack,
    ) -> ContainerRecord:
        spec = self._with_known_containers(spec)
        merged = merge.merge(spec, image.config)
        record = ContainerRecord(
            id=container_id,
            name=name,
            created=self.world.clock.now(),
            spec=spec,
            image_id=image.id,
            layers=image.layers,
            path=merged.path,
            args=merged.args,
            env=merged.env,
            working_dir=merged.working_dir,
            user=merged.user,
            labels=merged.labels,
            exposed_ports=merged.exposed_ports,
            entrypoint=merged.entrypoint,
            cmd=merged.cmd,
            stop_signal=merged.stop_signal,
            healthcheck=merged.healthcheck,
            hostname=self._hostname(spec, container_id),
            log_path=str(self.files.log_path(container_id)),
        )
        try:
            legacy_links(record, self.book)
        except NotFoundError as error:
            raise InvalidInputError(error.message) from error
        made: list[VolumeRecord] = []
        undo.push_async_callback(self._drop_volumes, made)
        mounts = await self.mounts.resolve(spec, image, made)
        endpoints = self.networks.plan(record)
        undo.callback(self.networks.release, tuple(endpoints.values()))
        record = replace(record, mounts=mounts, endpoints=endpoints)
        undo.callback(self.files.remove, container_id)
        self.files.make(container_id)
        undo.push_async_callback(self.world.layers.discard, container_id)
        # What goes with its container needs no flush to the disk, which unmounting would wait for.
        await self.world.layers.prepare(
            container_id, image.layers, volatile=spec.auto_remove, files=(_MARK,)
        )
        return record

    async def _drop_volumes(self, made: Sequence[VolumeRecord]) -> None:
        for volume in made:
            with suppress(StackctlError):
                await self.mounts.volumes.remove(volume.name)

    def _with_known_containers(self, spec: ContainerSpec) -> ContainerSpec:
        """Replace names in container:NAME modes by IDs, so that a rename does not break them."""

        def known(mode: str, *, required: bool = False) -> str:
            if not mode.startswith("container:"):
                return mode
            name = mode.partition(":")[2]
            other = self.book.find(name)
            if other is None and required:
                raise InvalidInputError(f"No such container: {name[:80]}")
            return f"container:{other.id}" if other is not None else mode

        spec = replace(
            spec,
            network_mode=known(spec.network_mode),
            ipc_mode=known(spec.ipc_mode, required=True),
            pid_mode=known(spec.pid_mode, required=True),
        )
        mode = network_mode(spec.network_mode)
        network = None if mode.startswith("container:") else self.book.find_network(mode)
        if network is not None and mode != network.name:
            spec = replace(spec, network_mode=network.name)
        return spec

    def _hostname(self, spec: ContainerSpec, container_id: str) -> str:
        if spec.hostname:
            return spec.hostname
        if spec.network_mode == "host" or spec.uts_mode == "host":
            return self.world.host.hostname
        if spec.network_mode.startswith("container:"):
            other = self.book.find(spec.network_mode.partition(":")[2])
            if other is not None:
                return other.hostname
        return container_id[:12]

    def _warnings(self, record: ContainerRecord) -> tuple[str, ...]:
        warnings: list[str] = []
        if record.spec.network_mode == "host" and bindings(record):
            warnings.append("Published ports are discarded when using host network mode")
        if record.spec.oom_kill_disable and not record.spec.memory:
            warnings.append(
                "OOM killer is disabled for the container, but no memory limit is set, this can "
                "result in the system running out of resources."
            )
        return tuple(warnings)

    # Change

    async def rename(self, ref: str, new: str) -> None:
        """Give a container another name; raises ConflictError when it is taken, InvalidInputError."""
        record = self.book.container(ref)
        if not new:
            raise InvalidInputError("Neither old nor new names may be empty")
        plain = check_container_name(new)
        async with self.book.live(record.id).lock:
            record = self.book.container(record.id)
            if plain == record.name:
                raise InvalidInputError(
                    "Renaming a container with the same name as its current name"
                )
            self.book.reserve_name(plain, record.id)
            old = record.name
            try:
                renamed = self.networks.renamed(replace(record, name=plain))
                if record.status in lifecycle.LIVE:
                    await self.sandboxes.renamed(renamed)
                self.book.save(renamed)
            except BaseException:
                self.book.release_name(plain, record.id)
                raise
            self.book.release_name(old, record.id)
        publish_event(self.events, "rename", renamed, oldName=f"/{old}")

    async def remove(
        self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Remove a container; with ``force`` one that runs is killed, with ``volumes`` its anonymous volumes go too.

        ``link`` removes the link "container/alias" instead. Raises NotFoundError, ConflictError.
        """
        if link:
            await self._remove_link(ref)
            return
        record = self.book.container(ref)
        live = self.book.live(record.id)
        if live.removing:
            raise ConflictError(f"removal of container {ref} is already in progress")
        # Once more: a start that was under way when it should have been killed is done by the time of the lock.
        for attempt in range(_ATTEMPTS):
            if record.status in lifecycle.BUSY:
                if not force:
                    raise lifecycle.still_up(record)
                await self._kill(record)
            async with live.lock:
                found = self.book.find(record.id)
                if found is None or found.id != record.id:
                    return  # auto-remove was faster
                if found.status not in lifecycle.BUSY:
                    await self.remover.remove_locked(found, volumes=volumes)
                    return
                if not force or attempt == _ATTEMPTS - 1:
                    raise lifecycle.still_up(found)
                record = found

    async def _kill(self, record: ContainerRecord) -> None:
        with suppress(ConflictError, NotFoundError, StackctlError):
            if record.status is Status.RESTARTING:
                await self.running.give_up(record.id)
                return
            await self.running.kill(record.id, "KILL")

    async def _remove_link(self, ref: str) -> None:
        owner, _, alias = ref.removeprefix("/").rpartition("/")
        if not owner:
            raise InvalidInputError(f"conflict: cannot remove the default link name {ref}")
        record = self.book.container(owner)
        async with self.book.live(record.id).lock:
            record = self.book.container(record.id)
            kept = tuple(item for item in record.spec.links if _alias_of(item) != alias)
            if kept == record.spec.links:
                raise NotFoundError(f"No such container: {ref}")
            self.book.save(replace(record, spec=replace(record.spec, links=kept)))

    async def update(self, ref: str, change: Update) -> tuple[str, ...]:
        """Change limits and restart policy, on a running container at once; return warnings."""
        record = self.book.container(ref)
        async with self.book.live(record.id).lock:
            record = self.book.container(record.id)
            if record.status in (Status.REMOVING, Status.DEAD):
                raise ConflictError(
                    f"Cannot update container {record.id}: container is marked for removal and "
                    'cannot be "update"'
                )
            spec = _updated(record.spec, change)
            restart.check(spec.restart_policy, auto_remove=spec.auto_remove)
            merge.check(spec)
            resources = _resources(spec, change)
            if record.status in lifecycle.LIVE and resources:
                await self.world.runtime.update(record.id, resources)
            record = self.book.save(replace(record, spec=spec))
        publish_event(self.events, "update", record)
        return ()

    # Files

    @asynccontextmanager
    async def root(self, ref: str) -> AsyncIterator[Path]:
        """Give the container's root: what its processes see when it runs, else its files."""
        record = self.book.container(ref)
        if record.status in lifecycle.LIVE and record.pid:
            yield Path(f"/proc/{record.pid}/root")
            return
        async with self.book.live(record.id).lock:
            record = self.book.container(record.id)
            root = await self.world.layers.mount(record.id)
            items = [
                Furnishing(source=source, target=mount.target, read_only=mount.read_only)
                for mount in record.mounts
                if mount.type in ("bind", "volume") and (source := source_of(mount))
            ]
            try:
                if not items:
                    yield root
                    return
                async with self.world.layers.furnished(record.id, items) as view:
                    yield view
            finally:
                await self.world.layers.unmount(record.id)

    def tell(self, ref: str, action: str) -> None:
        """Tell of files that were taken out of a container ("archive-path") or put in ("extract-to-dir")."""
        publish_event(self.events, action, self.book.container(ref))

    async def changes(self, ref: str) -> Sequence[Change]:
        """Return what the container changed in its image's files."""
        record = self.book.container(ref)
        found = await self.world.layers.changes(record.id)
        hidden = _only_mounted(_ENGINE_PLACES, found)
        return [change for change in found if change.path not in hidden]

    async def export(self, ref: str) -> AsyncIterator[bytes]:
        """Yield a tar of the container's whole root, without what is mounted in it."""
        record = self.book.container(ref)
        live = record.status in lifecycle.LIVE
        root = await self.world.layers.mount(record.id)
        try:
            async for chunk in self.world.files.pack(root, ""):
                yield chunk
        finally:
            if not live and self.book.find(record.id) is not None:
                await self._unmount_stopped(record.id)
        publish_event(self.events, "export", record)

    async def _unmount_stopped(self, container_id: str) -> None:
        async with self.book.live(container_id).lock:
            record = self.book.find(container_id)
            if record is not None and record.status not in lifecycle.LIVE:
                await self.world.layers.unmount(container_id)

    async def size(self, ref: str) -> tuple[int, int]:
        """Return the bytes that the container itself holds, and those together with its image's."""
        record = self.book.container(ref)
        own = await self.world.layers.usage(record.id)
        image = self.images.get(record.image_id)
        return own, own + (image.size if image is not None else 0)

    def config_of(self, record: ContainerRecord) -> ImageConfig:
        """Return what the container runs with, as an image of it would say."""
        image = self.images.get(record.image_id)
        return merge.container_config(record, image.config if image else ImageConfig())

    async def commit(
        self,
        ref: str,
        *,
        reference: str = "",
        message: str = "",
        author: str = "",
        config: ImageConfig | None = None,
        pause: bool = True,
    ) -> str:
        """Make an image of a container; return its ID. A running one is paused meanwhile unless told otherwise.

        ``config`` goes over what it ran with, see ``config_of``.
        """
        record = self.book.container(ref)
        if record.status in (Status.REMOVING, Status.DEAD):
            raise ConflictError(f"You cannot commit container {record.id} which is being removed")
        paused = pause and record.status is Status.RUNNING
        if paused:
            try:
                await self.running.pause(record.id)
            except ConflictError:
                paused = False  # it ended meanwhile: then there is nothing to pause
        try:
            # What the engine mounts leaves its places behind, which are no change of anybody's.
            found = await self.world.layers.changes(record.id)
            image_id = await self.images.commit(
                record,
                without=_only_mounted(_ENGINE_PLACES, found),
                reference=reference,
                message=message,
                author=author,
                config=config,
            )
            publish_event(
                self.events, "commit", record, comment=message, imageID=image_id, imageRef=reference
            )
        finally:
            if paused:
                with suppress(ConflictError, NotFoundError):
                    await self.running.unpause(record.id)
        return image_id

    async def prune(self, wanted: PruneFilter) -> tuple[Sequence[str], int]:
        """Remove stopped containers; return their IDs and the bytes freed."""
        removed: list[str] = []
        freed = 0
        for record in self.all():
            if record.status not in (Status.CREATED, Status.EXITED, Status.DEAD):
                continue
            if not wanted.takes(record.labels, record.created):
                continue
            try:
                size = await self.world.layers.usage(record.id)
                await self.remove(record.id)
            except (ConflictError, NotFoundError):
                continue  # started, or gone, in the meantime
            removed.append(record.id)
            freed += size
        self.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return removed, freed


def _alias_of(link: str) -> str:
    name, _, alias = link.partition(":")
    return (alias or name).rpartition("/")[2]


_FIELDS = (
    "cpu_shares", "memory", "memory_swap", "memory_reservation", "nano_cpus", "cpu_period",
    "cpu_quota", "cpuset_cpus", "cpuset_mems", "blkio_weight", "pids_limit", "restart_policy",
)  # fmt: skip


def _updated(spec: ContainerSpec, change: Update) -> ContainerSpec:
    given = {name: getattr(change, name) for name in _FIELDS}
    changed = {name: value for name, value in given.items() if value is not None}
    updated = replace(spec, **changed)
    if (
        "memory" in changed
        and "memory_swap" not in changed
        and 0 < spec.memory_swap < updated.memory
    ):
        raise ConflictError(
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    return updated


def _resources(spec: ContainerSpec, change: Update) -> Mapping[str, object]:
    """Return the OCI linux.resources that changed."""
    cpu: dict[str, object] = {}
    memory: dict[str, object] = {}
    if change.cpu_shares is not None:
        cpu["shares"] = spec.cpu_shares
    if change.nano_cpus is not None and spec.nano_cpus:
        cpu |= {"period": 100_000, "quota": spec.nano_cpus * 100_000 // 1_000_000_000}
    if change.cpu_period is not None:
        cpu["period"] = spec.cpu_period
    if change.cpu_quota is not None:
        cpu["quota"] = spec.cpu_quota
    if change.cpuset_cpus is not None:
        cpu["cpus"] = spec.cpuset_cpus
    if change.cpuset_mems is not None:
        cpu["mems"] = spec.cpuset_mems
    if change.memory is not None:
        memory["limit"] = spec.memory or -1
    if change.memory_swap is not None:
        memory["swap"] = spec.memory_swap or -1
    if change.memory_reservation is not None:
        memory["reservation"] = spec.memory_reservation
    found: dict[str, object] = {}
    if cpu:
        found["cpu"] = cpu
    if memory:
        found["memory"] = memory
    if change.pids_limit is not None:
        found["pids"] = {"limit": spec.pids_limit or -1}
    if change.blkio_weight is not None:
        found["blockIO"] = {"weight": spec.blkio_weight}
    return cast(Mapping[str, object], found)


def _only_mounted(places: Collection[str], found: Sequence[Change]) -> frozenset[str]:
    """Return the paths of changes that only came of mounting: the places themselves, and directories made for them."""
    paths = {change.path for change in found}
    waiting = [path for path in places if path in paths]
    hidden = set(waiting)
    while waiting:
        # A directory counts as changed when something was made in it: not when that was a place to mount alone.
        parent = posixpath.dirname(waiting.pop())
        if parent in paths and parent not in hidden:
            below = [path for path in paths if posixpath.dirname(path) == parent]
            if all(path in hidden for path in below):
                hidden.add(parent)
                waiting.append(parent)
    return frozenset(hidden)
