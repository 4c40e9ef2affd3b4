"""The services of the core, held together.

The services and what they offer (errors are kinds of ``stackctl.errors`` with Docker's texts):

- ``containers``: ``resolve(ref)``, ``all()``, ``create(spec, *, name, platform)``, ``rename``, ``remove``, ``update``,
  ``root``, ``changes``, ``export``, ``size``, ``prune``, ``commit``
- ``running``: ``start``, ``stop``, ``kill``, ``restart``, ``pause``, ``unpause``, ``watch``/``wait``, ``attach``,
  ``resize``, ``top``, ``usage``, ``network_counters``
- ``execs``: ``create``, ``start``, ``inspect``, ``resize``, ``ids(container_id)``
- ``networks``: ``resolve``, ``all``, ``create``, ``remove``, ``connect``, ``disconnect``, ``prune``, ``members``
- ``volumes``: ``resolve``, ``all``, ``create``, ``remove``, ``prune``, ``users``, ``usage``
- ``leases``: ``create``, ``resolve``, ``all``, ``add``, ``claimer``, ``held``, ``release``
- ``logs``: ``read``; ``events``: ``publish``, ``subscribe``; ``images``: see ``engine.images``
"""

import logging
from collections.abc import Mapping

from stackctl.contracts.container import ContainerRecord
from stackctl.engine.book import Book
from stackctl.engine.containerfiles import ContainerFiles
from stackctl.engine.containers import Containers
from stackctl.engine.events import Events
from stackctl.engine.execs import Execs, ProcessMaker
from stackctl.engine.health import HealthMonitor
from stackctl.engine.image_values import ImageParts
from stackctl.engine.images import Images
from stackctl.engine.launch import Launcher
from stackctl.engine.leases import Leases
from stackctl.engine.logs import Logs
from stackctl.engine.mounts import Mounts
from stackctl.engine.networks import Networks
from stackctl.engine.recovery import Recovery
from stackctl.engine.removal import Remover
from stackctl.engine.running import RunningContainers
from stackctl.engine.sandbox import Sandboxes
from stackctl.engine.tasks import Tasks
from stackctl.engine.volumes import Volumes
from stackctl.engine.world import HostFacts, World
from stackctl.oci.platform import Platform

__all__ = ["Engine", "HostFacts", "World"]

log = logging.getLogger(__name__)

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class Engine:
    """The engine core. ``start`` before anything else; ``stop`` leaves containers running."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks = Tasks()
        self.book = Book(world.state)
        self.events = Events(world.clock)
        self.files = ContainerFiles(world.host.data_root / "containers")
        self.images = Images(self._image_parts())
        self.volumes = Volumes(world, self.book, self.events)
        self.sandboxes = Sandboxes(world, self.book, self.events, self.files)
        self.networks = Networks(world, self.book, self.events, self.sandboxes)
        self.launcher = Launcher(
            world, self.book, self.images, self.volumes, self.sandboxes, self.networks
        )
        self.remover = Remover(
            world=world,
            book=self.book,
            events=self.events,
            networks=self.networks,
            volumes=self.volumes,
            launcher=self.launcher,
            files=self.files,
        )
        processes = ProcessMaker(world, self.book, self.launcher)
        self.health = HealthMonitor(world, self.book, self.events, processes)
        self.running = RunningContainers(
            world, self.book, self.events, self.launcher, self.health, self.remover, self.tasks
        )
        self.execs = Execs(world, self.book, self.events, processes, self.tasks)
        self.logs = Logs(world.runtime, self.book, world.clock)
        self.containers = Containers(
            world=world,
            book=self.book,
            events=self.events,
            images=self.images,
            mounts=Mounts(
                book=self.book,
                volumes=self.volumes,
                images=self.images,
                layers=world.layers,
                store=world.volumes,
            ),
            networks=self.networks,
            sandboxes=self.sandboxes,
            running=self.running,
            remover=self.remover,
            files=self.files,
        )
        self.leases = Leases(
            world=world,
            book=self.book,
            containers=self.containers,
            networks=self.networks,
            volumes=self.volumes,
            tasks=self.tasks,
        )
        self.recovery = Recovery(
            world=world,
            book=self.book,
            files=self.files,
            launcher=self.launcher,
            sandboxes=self.sandboxes,
            running=self.running,
            remover=self.remover,
            tasks=self.tasks,
        )

    def _image_parts(self) -> ImageParts:
        world = self.world
        machine = world.host.machine
        return ImageParts(
            content=world.content,
            layers=world.layers,
            registry=world.registry,
            state=world.state,
            clock=world.clock,
            platform=Platform(os="linux", architecture=_ARCHITECTURES.get(machine, machine)),
            users_of=self._containers_of,
            layers_in_use=self._layers_in_use,
            publish=self._publish,
            transfers=world.transfers,
        )

    def _containers_of(self, image_id: str) -> list[ContainerRecord]:
        return [
            record
            for record in self.book.containers()
            if record.image_id == image_id
            or any(mount.image_id == image_id for mount in record.mounts)
        ]

    def _layers_in_use(self) -> set[str]:
        return {layer for record in self.book.containers() for layer in record.layers}

    def _publish(self, type_: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        self.events.publish(type_, action, actor, attributes)

    async def start(self) -> None:
        """Load the state, adopt what runs, clean up, and start what restart policies want."""
        self.book.load()
        await self.images.start()
        await self.networks.start()
        await self.recovery.run()
        await self.leases.start()

    async def stop(self) -> None:
        """End the engine's own tasks; containers go on. Nothing is left behind when none runs.

        Closing the stores is the business of whoever opened them.
        """
        self.execs.close()
        await self.tasks.stop()
        self.events.close()
        await self.sandboxes.stop()
