"""Leases on contracts in memory: what goes when an owner goes, and what a killed daemon makes of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stackctl.contracts.container import ContainerSpec, RestartPolicy
from stackctl.contracts.state import LeaseItem, LeaseRecord
from stackctl.engine.core import Engine
from stackctl.engine.requests import LeaseRequest, NetworkRequest, VolumeRequest
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError
from tests.fakes.world import Kernel, make_world

SPEC = ContainerSpec(image="image", network_mode="net", restart_policy=RestartPolicy(name="always"))
SPACE = "boot pid:[1]"
OWNER = LeaseRequest(pid=42, pid_start=7, space=SPACE)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(make_world(tmp_path))
    await made.start()
    made.world.processes.begin(42)
    yield made
    await made.stop()


async def settle(turns: int = 300) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def left(engine: Engine, names: set[str]) -> None:
    """Return when only these things are left; files are removed on threads."""
    async with asyncio.timeout(20):
        while things(engine) != names or engine.leases.all():
            await asyncio.sleep(0.005)


async def fill(engine: Engine, lease: str) -> None:
    """Make a network, a volume and two containers under a lease, and a volume beside it."""
    claim = engine.leases.claimer
    await engine.networks.create(NetworkRequest(name="net"), claim=claim(lease, "network", 10))
    await engine.volumes.create(VolumeRequest(name="data"), claim=claim(lease, "volume", 20))
    await engine.volumes.create(VolumeRequest(name="other"))
    for name, order in (("db", 2), ("web", 1)):
        await engine.containers.create(SPEC, name=name, claim=claim(lease, "container", order))
        await engine.running.start(name)


def things(engine: Engine) -> set[str]:
    return {
        *(item.name for item in engine.containers.all()),
        *(item.name for item in engine.networks.all() if item.name == "net"),
        *(item.name for item in engine.volumes.all()),
    }


async def killed(engine: Engine, base: Path, *, alive: bool, boot_id: str = "boot") -> Engine:
    """Return what a new daemon makes of what a killed one left."""
    await engine.tasks.stop()
    kernel: Kernel = engine.world.runtime.kernel
    kernel.is_dead, kernel.kill_at = False, ""
    world = make_world(base, kernel=kernel, state=engine.world.state, boot_id=boot_id)
    if alive:
        world.processes.begin(42)
    made = Engine(world)
    await made.start()
    await settle()
    return made


async def test_what_was_made_under_a_lease_goes_in_its_order_when_the_owner_ends(engine: Engine):
    lease = engine.leases.create(OWNER)
    await fill(engine, lease.id)
    assert [item.kind for item in engine.leases.resolve(lease.id).items] == [
        "container", "container", "network", "volume",
    ]  # fmt: skip
    names = {item.id: item.name for item in engine.containers.all()}
    first = engine.leases.resolve(lease.id).items[0]
    assert names[first.id] == "web"
    await settle()
    assert things(engine) == {"db", "web", "net", "data", "other"}
    engine.world.processes.end(42)
    await left(engine, {"other"})
    assert list(engine.world.state.load(LeaseRecord)) == []


async def test_a_time_to_live_ends_a_lease_by_itself(engine: Engine):
    come = asyncio.Event()
    pass_by = engine.world.clock.sleep

    async def sleep(seconds: float) -> None:
        await come.wait()
        await pass_by(seconds)

    engine.world.clock.sleep = sleep
    lease = engine.leases.create(LeaseRequest(seconds=60))
    before = engine.world.clock.now()
    await fill(engine, lease.id)
    await settle()
    assert things(engine) == {"db", "web", "net", "data", "other"}
    come.set()
    await left(engine, {"other"})
    assert 60.0 in engine.world.clock.slept
    assert engine.world.clock.now() >= before


async def test_a_connection_that_breaks_may_come_back_and_is_the_owner_until_then(engine: Engine):
    engine.world.clock.sleep = _slowly
    lease = engine.leases.create(LeaseRequest(connection=True))
    async with engine.leases.held(lease.id):
        await fill(engine, lease.id)
        await settle()
    await settle(50)
    async with engine.leases.held(lease.id):
        await settle(1500)
        assert things(engine) == {"db", "web", "net", "data", "other"}
    await left(engine, {"other"})


async def test_a_daemon_that_stops_breaks_connections_and_ends_no_lease(
    engine: Engine, tmp_path: Path
):
    engine.world.clock.sleep = _slowly
    lease = engine.leases.create(LeaseRequest(connection=True))
    async with engine.leases.held(lease.id):
        await fill(engine, lease.id)
        await settle()
        engine.leases.rest()
    await settle(2000)
    assert things(engine) == {"db", "web", "net", "data", "other"}
    second = await killed(engine, tmp_path, alive=True)
    await left(second, {"other"})
    await second.stop()


async def _slowly(seconds: float) -> None:
    """Time passes after some turns of the loop: what happens at once comes first."""
    await settle(int(seconds * 200))


async def test_a_killed_daemon_neither_loses_nor_ends_a_lease(engine: Engine, tmp_path: Path):
    lease = engine.leases.create(OWNER)
    await fill(engine, lease.id)
    second = await killed(engine, tmp_path, alive=True)
    assert things(second) == {"db", "web", "net", "data", "other"}
    assert second.leases.resolve(lease.id).items == engine.leases.resolve(lease.id).items
    second.world.processes.end(42)
    await left(second, {"other"})
    await second.stop()


@pytest.mark.parametrize("boot_id", ["boot", "another boot"])
async def test_an_owner_that_ended_while_no_daemon_was_there_ends_the_lease(
    engine: Engine, tmp_path: Path, boot_id: str
):
    lease = engine.leases.create(OWNER)
    await fill(engine, lease.id)
    # After a reboot a process of the same number is another one.
    second = await killed(engine, tmp_path, alive=boot_id != "boot", boot_id=boot_id)
    await left(second, {"other"})
    await second.stop()


async def test_a_removal_cut_short_goes_on_with_the_next_daemon(engine: Engine, tmp_path: Path):
    lease = engine.leases.create(OWNER)
    await fill(engine, lease.id)
    stuck = asyncio.Event()

    async def never(_network) -> None:
        stuck.set()
        await asyncio.Event().wait()

    usual, engine.world.network.remove_network = engine.world.network.remove_network, never
    engine.world.processes.end(42)
    async with asyncio.timeout(20):
        await stuck.wait()
    assert things(engine) == {"net", "data", "other"}
    engine.world.network.remove_network = usual
    second = await killed(engine, tmp_path, alive=True)
    await left(second, {"other"})
    await second.stop()


async def test_a_lease_claims_what_anybody_creates_with_its_labels(engine: Engine):
    lease = engine.leases.create(
        LeaseRequest(pid=42, pid_start=7, space=SPACE, claims={"session": "1", "sort": "x"})
    )

    def claim(kind: str, **labels: str):
        return engine.leases.claimed_by_label(kind, labels)

    mine = {"session": "1", "sort": "x", "more": "y"}
    await engine.volumes.create(VolumeRequest(name="mine"), claim=claim("volume", **mine))
    await engine.networks.create(NetworkRequest(name="net"), claim=claim("network", **mine))
    await engine.volumes.create(VolumeRequest(name="half"), claim=claim("volume", session="1"))
    await engine.volumes.create(VolumeRequest(name="none"), claim=claim("volume"))
    await engine.containers.create(SPEC, name="one", claim=claim("container", **mine))
    assert [item.kind for item in engine.leases.items(lease.id)] == [
        "container", "network", "volume",
    ]  # fmt: skip
    engine.world.processes.end(42)
    await left(engine, {"half", "none"})


async def test_nothing_can_be_made_under_a_lease_that_is_over(engine: Engine):
    lease = engine.leases.create(OWNER)
    claim = engine.leases.claimer(lease.id, "volume", 0)
    network = engine.leases.claimer(lease.id, "network", 0)
    await engine.networks.create(NetworkRequest(name="net"))
    container = engine.leases.claimer(lease.id, "container", 0)
    engine.world.processes.end(42)
    await settle()
    with pytest.raises(ConflictError, match="owner is gone"):
        await engine.volumes.create(VolumeRequest(name="late"), claim=claim)
    with pytest.raises(ConflictError, match="owner is gone"):
        await engine.networks.create(NetworkRequest(name="late"), claim=network)
    with pytest.raises(ConflictError, match="owner is gone"):
        await engine.containers.create(SPEC, name="late", claim=container)
    assert things(engine) == {"net"}
    with pytest.raises(InvalidInputError, match="no lease"):
        engine.leases.claimer(lease.id, "volume", 0)


async def test_a_volume_of_the_same_name_made_later_is_not_the_leases(engine: Engine):
    lease = engine.leases.create(OWNER)
    claim = engine.leases.claimer(lease.id, "volume", 0)
    await engine.volumes.create(VolumeRequest(name="data"), claim=claim)
    await engine.volumes.remove("data")
    engine.world.clock.advance(1)
    await engine.volumes.create(VolumeRequest(name="data"))
    engine.world.processes.end(42)
    await settle()
    assert things(engine) == {"data"}


async def test_what_exists_can_be_listed_and_a_lease_be_released(engine: Engine):
    await engine.volumes.create(VolumeRequest(name="data"))
    lease = engine.leases.create(OWNER)
    engine.leases.add(lease.id, [LeaseItem(kind="volume", id="data")])
    engine.leases.add(lease.id, [LeaseItem(kind="volume", id="data")])
    assert len(engine.leases.resolve(lease.id).items) == 1
    engine.leases.add(lease.id, [LeaseItem(kind="volume", id="none")])
    assert [item.id for item in engine.leases.items(lease.id)] == ["data"]
    with pytest.raises(NotFoundError, match="No such lease"):
        engine.leases.add("none", [])
    with pytest.raises(InvalidInputError, match="Kind"):
        engine.leases.add(lease.id, [LeaseItem(kind="image", id="data")])
    engine.leases.release(lease.id)
    engine.world.processes.end(42)
    await settle()
    assert things(engine) == {"data"}
    with pytest.raises(NotFoundError, match="No such lease"):
        engine.leases.release(lease.id)


async def test_a_network_with_a_stranger_in_it_stays_and_the_lease_ends(engine: Engine):
    lease = engine.leases.create(OWNER)
    await fill(engine, lease.id)
    await engine.containers.create(SPEC, name="stranger")
    await engine.running.start("stranger")
    engine.world.processes.end(42)
    await left(engine, {"stranger", "net", "other"})


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (LeaseRequest(), InvalidInputError, "needs an owner"),
        (LeaseRequest(seconds=-1), InvalidInputError, "positive"),
        (LeaseRequest(pid=42, space="elsewhere"), InvalidInputError, "another machine"),
        (LeaseRequest(pid=42), InvalidInputError, "another machine"),
        (LeaseRequest(pid=41, space=SPACE), NotFoundError, "no process 41"),
        (LeaseRequest(pid=42, pid_start=8, space=SPACE), NotFoundError, "no process 42"),
    ],
)
async def test_an_owner_that_cannot_be_is_refused(engine: Engine, request_, error, words):
    with pytest.raises(error, match=words):
        engine.leases.create(request_)
    assert engine.leases.all() == ()
