"""Leases: what is removed when its owner goes away.

A lease is an ordered list of containers, networks and volumes, and an owner: a process, a connection, or a time. It is
written to the store before it is promised, each thing that is made under it before the thing itself. So neither a
killed client nor a killed daemon loses any of it: the next daemon takes up the wait for the owner, or the removal,
where this one left it. Removing what is gone is success.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from stackctl.contracts.state import LeaseItem, LeaseRecord
from stackctl.engine.book import Book
from stackctl.engine.containers import Containers
from stackctl.engine.names import new_id
from stackctl.engine.networks import Networks
from stackctl.engine.requests import Claim, LeaseRequest, unclaimed
from stackctl.engine.tasks import Tasks
from stackctl.engine.volumes import Volumes
from stackctl.engine.world import World
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError, StackctlError

log = logging.getLogger(__name__)

KINDS = ("container", "network", "volume")
# What nobody gave a place goes in this order: nothing is in use when its turn comes.
_ORDERS = {"container": 0, "network": 1_000_000, "volume": 2_000_000}
# A connection that broke may come back: its program reconnects at once when the daemon was replaced.
_BROKEN_SECONDS = 2.0
_UNHELD_SECONDS = 30.0
# Between attempts to remove what cannot be removed yet: a network that a stranger's container is in.
_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)


@dataclass(slots=True)
class _Hold:
    """The connections that hold a lease now; ``broken`` is set while there is none after there was one."""

    count: int = 0
    taken: asyncio.Event = field(default_factory=asyncio.Event)
    broken: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Leases:
    """The lease service."""

    world: World
    book: Book
    containers: Containers
    networks: Networks
    volumes: Volumes
    tasks: Tasks
    _records: dict[str, LeaseRecord] = field(default_factory=dict)
    _holds: dict[str, _Hold] = field(default_factory=dict)
    _waits: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _resting: bool = False

    async def start(self) -> None:
        """Take up what a former daemon left: waits go on, removals too."""
        for record in self.world.state.load(LeaseRecord):
            self._records[record.id] = record
            self._watch(record)

    def rest(self) -> None:
        """End no lease any more because a connection broke: the daemon is about to close them all itself."""
        self._resting = True

    def all(self) -> Sequence[LeaseRecord]:
        return tuple(self._records.values())

    def resolve(self, lease_id: str) -> LeaseRecord:
        """Return a lease; raises NotFoundError."""
        record = self._records.get(lease_id)
        if record is None:
            raise NotFoundError(f"No such lease: {lease_id}")
        return record

    def create(self, request: LeaseRequest) -> LeaseRecord:
        """Make a lease; raises InvalidInputError without an owner, NotFoundError for a process that is not there."""
        if not (request.pid or request.connection or request.seconds):
            raise InvalidInputError("a lease needs an owner: a process, a connection or a time")
        if request.seconds < 0 or request.pid < 0:
            raise InvalidInputError("a lease's time and process are positive numbers")
        now = self.world.clock.now()
        record = LeaseRecord(
            id=new_id(),
            created=now,
            pid=request.pid,
            pid_start=self._check_owner(request) if request.pid else 0,
            space=request.space,
            connection=request.connection,
            expires=now + request.seconds if request.seconds else 0.0,
            labels=dict(request.labels),
            claims=dict(request.claims),
        )
        self._save(record)
        self._watch(record)
        return record

    def _check_owner(self, request: LeaseRequest) -> int:
        """Return the owner's start time; raises InvalidInputError where its number means another process here."""
        processes = self.world.processes
        if not request.space or request.space != processes.space():
            raise InvalidInputError(
                f"process {request.pid} is on another machine or in another pid namespace than the engine",
                hint="Bind the lease to a connection or to a time.",
            )
        started = processes.start_time(request.pid)
        if not started or (request.pid_start and request.pid_start != started):
            raise NotFoundError(f"there is no process {request.pid} that could own a lease")
        return started

    def release(self, lease_id: str) -> None:
        """Forget a lease and leave what it lists; raises NotFoundError, ConflictError once removal has begun."""
        record = self.resolve(lease_id)
        if record.over:
            raise ConflictError(f"lease {lease_id} is over: what it lists is being removed")
        self._forget(record)
        if wait := self._waits.get(lease_id):
            wait.cancel()

    # What it lists

    def add(self, lease_id: str, items: Sequence[LeaseItem]) -> None:
        """List things that exist; what is gone already is passed over.

        Raises NotFoundError for an unknown lease, InvalidInputError, ConflictError when the lease is over.
        """
        self.resolve(lease_id)
        found = []
        for item in items:
            with suppress(NotFoundError):
                found.append(self._existing(item))
        self._list(lease_id, found)

    def items(self, lease_id: str) -> Sequence[LeaseItem]:
        """Return what a lease lists and is still there."""
        return [item for item in self.resolve(lease_id).items if self._is_there(item)]

    def _existing(self, item: LeaseItem) -> LeaseItem:
        match item.kind:
            case "container":
                return replace(item, id=self.containers.resolve(item.id).id)
            case "network":
                return replace(item, id=self.networks.resolve(item.id).id)
            case "volume":
                return replace(item, created=self.volumes.resolve(item.id).created)
        raise InvalidInputError(
            f"invalid Kind: {item.kind!r} is not one of {', '.join(KINDS)}",
        )

    def claimer(self, lease_id: str, kind: str, order: int) -> Claim:
        """Return what lists a thing that is just being made; raises InvalidInputError for an unknown lease.

        It is called with the thing's ID (a volume's name) and its time right before the thing is written, with
        nothing between: so one that exists is listed, whoever is killed. It raises ConflictError when the lease is over.
        """
        if lease_id not in self._records:
            # Not 404, which a client takes for a missing image.
            raise InvalidInputError(f"there is no lease {lease_id}; nothing was made")

        def claim(thing: str, created: float) -> None:
            self._list(lease_id, (LeaseItem(kind=kind, id=thing, order=order, created=created),))

        return claim

    def claimed_by_label(self, kind: str, labels: Mapping[str, str]) -> Claim:
        """Return what lists a thing that is being made under every lease that claims its labels."""
        claims = [
            self.claimer(record.id, kind, _ORDERS[kind])
            for record in self._records.values()
            if record.claims and not record.over and record.claims.items() <= labels.items()
        ]
        if not claims:
            return unclaimed

        def claim(thing: str, created: float) -> None:
            for one in claims:
                one(thing, created)

        return claim

    def _list(self, lease_id: str, items: Sequence[LeaseItem]) -> None:
        record = self._records.get(lease_id)
        if record is None or record.over:
            raise ConflictError(f"lease {lease_id} is over: its owner is gone")
        new = {(item.kind, item.id): item for item in items}
        kept = [
            item
            for item in record.items
            if (item.kind, item.id) not in new and self._is_there(item)
        ]
        ordered = sorted((*kept, *new.values()), key=lambda item: item.order)
        self._save(replace(record, items=tuple(ordered)))

    def _is_there(self, item: LeaseItem) -> bool:
        """Tell whether a thing listed still exists: what was removed by hand needs no place in the list."""
        if item.kind == "container":
            return self.book.find(item.id) is not None
        if item.kind == "network":
            return self.book.find_network(item.id) is not None
        found = self.book.find_volume(item.id)
        return found is not None and found.created == item.created

    # Whose it is

    @asynccontextmanager
    async def held(self, lease_id: str) -> AsyncIterator[None]:
        """Hold a lease as long as a connection lasts; raises NotFoundError, ConflictError."""
        record = self.resolve(lease_id)
        if not record.connection or record.over:
            raise ConflictError(f"lease {lease_id} is not a connection's, or is over")
        hold = self._holds.setdefault(lease_id, _Hold())
        hold.count += 1
        hold.taken.set()
        hold.broken.clear()
        try:
            yield
        finally:
            hold.count -= 1
            if not hold.count:
                hold.taken.clear()
                hold.broken.set()

    def _watch(self, record: LeaseRecord) -> None:
        task = self.tasks.spawn(self._until_over(record), f"lease {record.id[:12]}")
        self._waits[record.id] = task
        task.add_done_callback(lambda _: self._waits.pop(record.id, None))

    async def _until_over(self, record: LeaseRecord) -> None:
        """Wait until one of its owners is gone, then remove what it lists."""
        if not record.over:
            waits = self._owners(record)
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
        await self._end(record.id)

    def _owners(self, record: LeaseRecord) -> list[asyncio.Task[None]]:
        loop = asyncio.get_running_loop()
        waits: list[asyncio.Task[None]] = []
        if record.pid:
            waits.append(loop.create_task(self._process_gone(record)))
        if record.expires:
            left = record.expires - self.world.clock.now()
            waits.append(loop.create_task(self.world.clock.sleep(max(0.0, left))))
        if record.connection:
            waits.append(loop.create_task(self._connection_gone(record)))
        return waits

    async def _process_gone(self, record: LeaseRecord) -> None:
        # After a reboot the numbers mean other processes.
        if record.space == self.world.processes.space():
            await self.world.processes.gone(record.pid, record.pid_start)

    async def _connection_gone(self, record: LeaseRecord) -> None:
        hold = self._holds.setdefault(record.id, _Hold())
        patience = (
            _UNHELD_SECONDS  # nobody has held it yet, since it was made or since the daemon began
        )
        while True:
            held = hold.taken.is_set() or await self._within(hold.taken, patience)
            if not held and not self._resting:
                return
            await hold.taken.wait()
            await hold.broken.wait()
            patience = _BROKEN_SECONDS

    async def _within(self, event: asyncio.Event, seconds: float) -> bool:
        loop = asyncio.get_running_loop()
        waits = {loop.create_task(self.world.clock.sleep(seconds)), loop.create_task(_set(event))}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return event.is_set()

    # The end

    async def _end(self, lease_id: str) -> None:
        """Remove what the lease lists, in its order; what cannot be removed is tried again a few times."""
        record = self._records[lease_id]
        self._save(replace(record, over=True))
        log.info("lease %s is over; removing %d things", lease_id[:12], len(record.items))
        for pause in (*_PAUSES, 0.0):
            await self._remove_all(lease_id)
            left = self._records[lease_id].items
            if not left:
                break
            if pause:
                await self.world.clock.sleep(pause)
            else:
                names = ", ".join(f"{item.kind} {item.id[:12]}" for item in left)
                log.error("lease %s ends with %s left", lease_id[:12], names)
        self._forget(self._records[lease_id])

    async def _remove_all(self, lease_id: str) -> None:
        items = self._records[lease_id].items
        for order in sorted({item.order for item in items}):
            await asyncio.gather(
                *(self._remove(lease_id, item) for item in items if item.order == order)
            )

    async def _remove(self, lease_id: str, item: LeaseItem) -> None:
        if self._is_there(item):
            try:
                await self._undo(item)
            except StackctlError as error:
                if not isinstance(error, NotFoundError):
                    log.info("%s %s cannot be removed yet: %s", item.kind, item.id[:12], error)
                    return
        record = self._records[lease_id]
        self._save(replace(record, items=tuple(one for one in record.items if one != item)))

    async def _undo(self, item: LeaseItem) -> None:
        match item.kind:
            case "container":
                await self.containers.remove(item.id, force=True, volumes=True)
            case "network":
                await self.networks.remove(item.id)
            case _:
                await self.volumes.remove(item.id)

    def _save(self, record: LeaseRecord) -> None:
        self.world.state.save(record)
        self._records[record.id] = record

    def _forget(self, record: LeaseRecord) -> None:
        self.world.state.delete(record)
        self._records.pop(record.id, None)
        self._holds.pop(record.id, None)


async def _set(event: asyncio.Event) -> None:
    await event.wait()
