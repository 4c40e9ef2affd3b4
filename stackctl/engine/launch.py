"""One start of a container: root, mounts, sandbox, runtime specification and process, each with its undo."""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from stackctl.contracts.container import ContainerRecord, MountPoint
from stackctl.contracts.runtime import Launch, Running
from stackctl.engine import devices, hosts, lifecycle
from stackctl.engine.book import Book
from stackctl.engine.images import Images
from stackctl.engine.logoptions import check_start
from stackctl.engine.merge import merge_env
from stackctl.engine.networks import Networks
from stackctl.engine.runtime_spec import SpecInputs, runtime_spec
from stackctl.engine.sandbox import Sandbox, Sandboxes, legacy_links
from stackctl.engine.users import User, resolve_user
from stackctl.engine.volumes import Volumes
from stackctl.engine.world import World
from stackctl.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    StartError,
)
from stackctl.frozen import frozen

log = logging.getLogger(__name__)

T = TypeVar("T")

_PASSWD_LIMIT = 1 << 20
_LIMITS = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "stack": resource.RLIMIT_STACK,
    "fsize": resource.RLIMIT_FSIZE,
    "data": resource.RLIMIT_DATA,
    "as": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "rss": resource.RLIMIT_RSS,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "nice": resource.RLIMIT_NICE,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
}


@frozen
class Launched:
    """A created container, its first process waiting."""

    record: ContainerRecord
    running: Running
    user: User


@frozen
class _Root:
    """A container's mounted root, who runs in it and what is mounted there."""

    path: Path
    user: User
    mounts: tuple[MountPoint, ...]


@dataclass(slots=True)
class Launcher:
    """Makes processes of records."""

    world: World
    book: Book
    images: Images
    volumes: Volumes
    sandboxes: Sandboxes
    networks: Networks

    def _release(self, before: ContainerRecord, now: ContainerRecord) -> None:
        kept = {endpoint.endpoint_id for endpoint in before.endpoints.values()}
        self.networks.release(
            item for item in now.endpoints.values() if item.endpoint_id not in kept
        )

    async def launch(self, record: ContainerRecord, undo: AsyncExitStack) -> Launched:
        """Create the container, its first process waiting; every step's undo is on ``undo``.

        Raises StartError and what the doors raise.
        """
        world = self.world
        check_start(record, world.log_sinks)
        launch = Launch(
            id=record.id,
            log_path=Path(record.log_path),
            log_config=record.spec.log_config,
            tty=record.spec.tty,
            open_stdin=record.spec.open_stdin,
            stdin_once=record.spec.stdin_once,
            runtime=record.spec.runtime,
        )
        async with world.runtime.creating(launch) as create:
            # Both to their ends: what is half made cannot be undone.
            root, sandbox = await asyncio.gather(
                self._root(record, undo), self._sandbox(record, undo), return_exceptions=True
            )
            if isinstance(root, BaseException):
                raise root
            if isinstance(sandbox, BaseException):
                raise sandbox
            record = sandbox.record
            inputs = self._inputs(record, root, sandbox)
            _push(undo, world.runtime.delete, record.id)
            running = await create(runtime_spec(inputs))
        record = replace(
            record,
            pid=running.pid,
            pid_start=running.pid_start,
            monitor_pid=running.monitor_pid,
            monitor_start=running.monitor_start,
            boot_id=world.host.boot_id,
        )
        return Launched(record=record, running=running, user=root.user)

    async def _root(self, record: ContainerRecord, undo: AsyncExitStack) -> _Root:
        _push(undo, self.world.layers.unmount, record.id)
        path = await self.world.layers.mount(record.id)
        user = await self.user_in(path, record)
        return _Root(path=path, user=user, mounts=await self._sources(record, undo))

    async def _sandbox(self, record: ContainerRecord, undo: AsyncExitStack) -> Sandbox:
        _push(undo, self.sandboxes.close, record)
        settled = self.networks.settle(record)
        if settled is not record:
            undo.callback(self._release, record, settled)
        sandbox = await self.sandboxes.open(settled)
        _push(undo, self.sandboxes.close, sandbox.record)
        return sandbox

    async def clean(self, record: ContainerRecord) -> None:
        """Remove what a launch made; may be repeated, and goes on where a part fails."""
        done = await asyncio.gather(
            self.world.runtime.delete(record.id),
            self.sandboxes.close(record),
            self.world.layers.unmount(record.id),
            return_exceptions=True,
        )
        dropped = await asyncio.gather(self._drop_image_mounts(record), return_exceptions=True)
        failures = [item for item in (*done, *dropped) if isinstance(item, BaseException)]
        if failures:
            # A fault of ours comes before what the host refused.
            raise min(failures, key=lambda failure: isinstance(failure, StackctlError))

    async def user_in(self, root: Path, record: ContainerRecord, user: str | None = None) -> User:
        """Return who a process of the container runs as; raises InvalidInputError for unknown names."""
        passwd = await self._text(root, "/etc/passwd")
        group = await self._text(root, "/etc/group")
        wanted = record.user if user is None else user
        return resolve_user(wanted, passwd, group, group_add=record.spec.group_add)

    async def _text(self, root: Path, path: str) -> str:
        try:
            data = await self.world.files.read(root, path, limit=_PASSWD_LIMIT)
        except StackctlError:
            # An image may have no such file, or something else in its place.
            return ""
        return data.decode(errors="replace")

    # Mounts

    async def _sources(
        self, record: ContainerRecord, undo: AsyncExitStack
    ) -> tuple[MountPoint, ...]:
        """Return the mounts with the host paths to bind now."""
        found: list[MountPoint] = []
        for position, mount in enumerate(record.mounts):
            if mount.type == "volume":
                found.append(await self._volume_source(mount))
            elif mount.type == "image":
                found.append(await self._image_source(record, position, mount, undo))
            else:
                if mount.type == "bind" and not Path(mount.source).exists():
                    raise StartError(
                        'invalid mount config for type "bind": bind source path does not exist: '
                        f"{mount.source}",
                        exit_code=127,
                    )
                found.append(mount)
        return tuple(found)

    async def _volume_source(self, mount: MountPoint) -> MountPoint:
        volume = self.volumes.book.find_volume(mount.name)
        if volume is None:
            raise NotFoundError(f"get {mount.name}: no such volume")
        if volume.options:
            # Its device may not be mounted any more, after a reboot.
            await self.world.volumes.create(volume.name, volume.options)
        if not mount.subpath:
            return replace(mount, source=volume.mountpoint)
        return replace(mount, source=_inside(volume.mountpoint, mount.subpath))

    async def _image_source(
        self, record: ContainerRecord, position: int, mount: MountPoint, undo: AsyncExitStack
    ) -> MountPoint:
        image = self.images.get(mount.image_id)
        if image is None:
            raise NotFoundError(f"No such image: {mount.name}")
        key = _image_key(record, position)
        _push(undo, self.world.layers.discard, key)
        await self.world.layers.prepare(key, image.layers)
        root = await self.world.layers.mount(key)
        source = _inside(str(root), mount.subpath) if mount.subpath else str(root)
        return replace(mount, source=source)

    async def _drop_image_mounts(self, record: ContainerRecord) -> None:
        for position, mount in enumerate(record.mounts):
            if mount.type == "image":
                await self.world.layers.discard(_image_key(record, position))

    # The specification

    def _inputs(self, record: ContainerRecord, root: _Root, sandbox: Sandbox) -> SpecInputs:
        host = self.world.host
        spec = record.spec
        ipc = self._joined(spec.ipc_mode, "ipc")
        return SpecInputs(
            record=replace(record, env=self._environment(record)),
            rootfs=str(root.path),
            netns_path=str(sandbox.netns) if sandbox.netns is not None else None,
            user=root.user,
            mounts=root.mounts,
            hosts_file=sandbox.files.hosts,
            resolv_file=sandbox.files.resolv,
            hostname_file=sandbox.files.hostname,
            pid_namespace=self._joined(spec.pid_mode, "pid"),
            ipc_namespace=ipc,
            uts_namespace=self._joined(spec.uts_mode, "uts"),
            shm_path=self._shm_of(spec.ipc_mode) if ipc else "",
            devices=devices.lookup(spec),
            host_queues=Path("/dev/mqueue").is_dir(),
            blkio_devices=devices.limited(spec),
            init=bool(spec.init),
            init_path=host.init_path,
            cgroup_parent=spec.cgroup_parent or host.cgroup_parent,
            cgroup_version=host.cgroup_version,
            capabilities=host.capabilities,
            hidden_paths=devices.thermal_paths(range(host.cpus)),
            max_rlimits=self.most_rlimits(),
        )

    def most_rlimits(self) -> dict[str, int]:
        """Return the limits that cannot be exceeded here; none where the daemon may raise them."""
        return {} if "CAP_SYS_RESOURCE" in self.world.host.capabilities else _hard_limits()

    def _environment(self, record: ContainerRecord) -> tuple[str, ...]:
        if not record.spec.links or "bridge" not in record.endpoints:
            return record.env
        found: dict[str, str] = {}
        for other, alias in legacy_links(record, self.book):
            endpoint = other.endpoints.get("bridge")
            if other.status not in lifecycle.LIVE:
                raise ConflictError(
                    f"Cannot link to a non running container: /{other.name} AS /{record.name}/{alias}"
                )
            if endpoint is not None:
                found |= hosts.link_environment(
                    alias, record.name, endpoint.ipv4_address, other.exposed_ports, other.spec.env
                )
        return merge_env((f"{name}={value}" for name, value in found.items()), record.env)

    def _joined(self, mode: str, kind: str) -> str:
        """Return the namespace of another container that a mode joins, "" when it joins none."""
        if not mode.startswith("container:"):
            return ""
        other = self.book.container(mode.partition(":")[2])
        if other.status not in lifecycle.LIVE:
            raise ConflictError(
                f"failed to join {kind.upper()} namespace: container {other.id} is not running"
            )
        if kind == "ipc" and other.spec.ipc_mode != "shareable":
            raise InvalidInputError(
                f"failed to join IPC namespace: container {other.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return f"/proc/{other.pid}/ns/{kind}"

    def _shm_of(self, mode: str) -> str:
        other = self.book.container(mode.partition(":")[2])
        return f"/proc/{other.pid}/root/dev/shm"


def _push(undo: AsyncExitStack, action: Callable[[T], Awaitable[None]], what: T) -> None:
    """Push an undo that must not hide why there is something to undo."""

    async def run() -> None:
        try:
            await action(what)
        except StackctlError as error:
            log.warning("could not undo a part of a failed start: %s", error)

    undo.push_async_callback(run)


def _image_key(record: ContainerRecord, position: int) -> str:
    return f"{record.id}-image{position}"


def _hard_limits() -> dict[str, int]:
    return {name: resource.getrlimit(number)[1] for name, number in _LIMITS.items()}


def _inside(base: str, subpath: str) -> str:
    """Return a place in a volume or image, following no link out of it; raises NotFoundError when it is not there."""
    root = Path(base).resolve()
    place = (root / subpath.lstrip("/")).resolve()
    if not place.is_relative_to(root):
        raise StartError(f"subpath {subpath!r} leads out of the volume", exit_code=127)
    if not place.exists():
        raise NotFoundError(f"cannot access path {place}: lstat {place}: no such file or directory")
    return str(place)
