"""The book: every record in memory, kept in step with the store, and what lives only as long as this daemon.

Memory is a cache of the store: a record is written first and remembered then.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.runtime import Exit
from stackctl.contracts.state import NetworkRecord, StateStore, VolumeRecord
from stackctl.engine.names import is_id_prefix
from stackctl.engine.users import User
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError


class Pending(Protocol):
    """An attach that waits for its container to start."""

    async def join(self) -> None:
        """Join the streams; called between the runtime's create and start."""

    def give_up(self) -> None:
        """The container will not start."""


@dataclass(slots=True)
class Live:
    """What is true of one container only as long as this daemon lives.

    ``lock`` is held while its state changes; never while waiting for the container to end. ``ended`` is set
    whenever it has no process, ``cleaning`` while what it left is being removed. ``last_delay`` is the restart backoff in
    seconds.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    stops: list["asyncio.Future[Exit]"] = field(default_factory=list)
    removals: list["asyncio.Future[Exit]"] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    watch: asyncio.Task[None] | None = None
    health: asyncio.Task[None] | None = None
    restart: asyncio.Task[None] | None = None
    last_delay: float = 0.0
    removing: bool = False
    cleaning: bool = False
    execs: set[str] = field(default_factory=set)
    user: User | None = None
    resumed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell_stopped(self, result: Exit) -> None:
        """Answer everyone who waits for the container to stop."""
        waiting, self.stops = self.stops, []
        _answer(waiting, result)

    def tell_removed(self, result: Exit) -> None:
        waiting, self.removals = self.removals, []
        _answer(waiting, result)

    def cancel_health(self) -> None:
        if self.health is not None:
            self.health.cancel()
            self.health = None

    def cancel_restart(self) -> None:
        # A restart that runs this very code must not cancel itself.
        if self.restart is not None and self.restart is not asyncio.current_task():
            self.restart.cancel()
        self.restart = None


class Book:
    """The records by ID and name."""

    def __init__(self, state: StateStore) -> None:
        self.state = state
        self._containers: dict[str, ContainerRecord] = {}
        self._names: dict[str, str] = {}
        self._lives: dict[str, Live] = {}
        self._networks: dict[str, NetworkRecord] = {}
        self._volumes: dict[str, VolumeRecord] = {}

    def load(self) -> None:
        """Read everything from the store."""
        for container in self.state.load(ContainerRecord):
            self._containers[container.id] = container
            self._names[container.name] = container.id
        for network in self.state.load(NetworkRecord):
            self._networks[network.id] = network
        for volume in self.state.load(VolumeRecord):
            self._volumes[volume.name] = volume

    # Containers

    def containers(self) -> Sequence[ContainerRecord]:
        return tuple(self._containers.values())

    def names(self) -> dict[str, str]:
        """Return the taken container names, with the IDs."""
        return self._names

    def find(self, ref: str) -> ContainerRecord | None:
        """Return the container of a full ID, a name or a unique prefix of an ID; raises InvalidInputError."""
        plain = ref.removeprefix("/")
        found = self._containers.get(plain) or self._containers.get(self._names.get(plain, ""))
        if found is not None or not is_id_prefix(plain):
            return found
        matches = [key for key in self._containers if key.startswith(plain)]
        if len(matches) > 1:
            raise InvalidInputError(f"multiple IDs found with provided prefix: {plain}")
        return self._containers[matches[0]] if matches else None

    def container(self, ref: str) -> ContainerRecord:
        """As ``find``; raises NotFoundError with Docker's text."""
        found = self.find(ref) if ref else None
        if found is None:
            raise NotFoundError(f"No such container: {ref}")
        return found

    def reserve_name(self, name: str, container_id: str) -> None:
        """Keep a name for a container; raises ConflictError when another has it."""
        holder = self._names.get(name)
        if holder is not None and holder != container_id:
            raise ConflictError(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = container_id

    def release_name(self, name: str, container_id: str) -> None:
        if self._names.get(name) == container_id:
            del self._names[name]

    def save(self, record: ContainerRecord) -> ContainerRecord:
        """Write a container's record; its name must have been reserved."""
        self.state.save(record)
        self._containers[record.id] = record
        return record

    def forget(self, record: ContainerRecord) -> None:
        self.state.delete(record)
        self._containers.pop(record.id, None)
        self.release_name(record.name, record.id)

    def live(self, container_id: str) -> Live:
        """Return what lives with the daemon of a container."""
        live = self._lives.get(container_id)
        if live is None:
            live = self._lives[container_id] = Live()
            live.ended.set()
            live.resumed.set()
        return live

    def drop_live(self, container_id: str) -> None:
        self._lives.pop(container_id, None)

    def lives(self) -> Sequence[Live]:
        return tuple(self._lives.values())

    # Networks

    def networks(self) -> Sequence[NetworkRecord]:
        return tuple(self._networks.values())

    def find_network(self, ref: str) -> NetworkRecord | None:
        found = self._networks.get(ref)
        if found is not None:
            return found
        for record in self._networks.values():
            if record.name == ref:
                return record
        if not is_id_prefix(ref):
            return None
        matches = [key for key in self._networks if key.startswith(ref)]
        if len(matches) > 1:
            raise InvalidInputError(
                f"network {ref} is ambiguous ({len(matches)} matches found on ID prefix)"
            )
        return self._networks[matches[0]] if matches else None

    def network(self, ref: str) -> NetworkRecord:
        found = self.find_network(ref) if ref else None
        if found is None:
            raise NotFoundError(f"network {ref} not found")
        return found

    def save_network(self, record: NetworkRecord) -> NetworkRecord:
        self.state.save(record)
        self._networks[record.id] = record
        return record

    def forget_network(self, record: NetworkRecord) -> None:
        self.state.delete(record)
        self._networks.pop(record.id, None)

    # Volumes

    def volumes(self) -> Sequence[VolumeRecord]:
        return tuple(self._volumes.values())

    def find_volume(self, name: str) -> VolumeRecord | None:
        return self._volumes.get(name)

    def volume(self, name: str) -> VolumeRecord:
        found = self._volumes.get(name)
        if found is None:
            raise NotFoundError(f"get {name}: no such volume")
        return found

    def save_volume(self, record: VolumeRecord) -> VolumeRecord:
        self.state.save(record)
        self._volumes[record.name] = record
        return record

    def forget_volume(self, record: VolumeRecord) -> None:
        self.state.delete(record)
        self._volumes.pop(record.name, None)


def _answer(waiting: Sequence["asyncio.Future[Exit]"], result: Exit) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(result)


Waiter = Awaitable[Exit]
