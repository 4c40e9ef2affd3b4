"""The engine core on contracts in memory: what is left after each failure, and what a new daemon makes of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from stackctl.contracts.container import (
    ContainerSpec,
    EndpointRequest,
    MountRequest,
    PortBinding,
    RestartPolicy,
    Status,
)
from stackctl.contracts.state import Subnet
from stackctl.engine.core import Engine
from stackctl.engine.filters import PruneFilter
from stackctl.engine.requests import EventQuery, NetworkRequest, VolumeRequest
from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    HostError,
    InvalidInputError,
    NotFoundError,
    NotModifiedError,
)
from tests.fakes.world import DaemonKilledError, FakeState, Kernel, make_world

SPEC = ContainerSpec(
    image="image",
    network_mode="net",
    port_bindings=(PortBinding(container_port=80),),
    mounts=(MountRequest(type="volume", target="/v"),),
)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    made = Engine(make_world(tmp_path))
    await made.start()
    await made.networks.create(NetworkRequest(name="net"))
    yield made
    await made.stop()


def kernel_of(engine: Engine) -> Kernel:
    return engine.world.runtime.kernel  # type: ignore[attr-defined]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def another(engine: Engine, base: Path, *, boot_id: str = "boot") -> Engine:
    """Return what a new daemon makes of what a killed one left."""
    await engine.tasks.stop()
    kernel, state = kernel_of(engine), engine.world.state
    assert isinstance(state, FakeState)
    made = Engine(make_world(base, kernel=kernel, state=state, boot_id=boot_id))
    await made.start()
    await settle()
    return made


STEPS = (
    "layers.mount", "network.create_sandbox", "network.connect", "keeper.start", "keeper.serve",
    "keeper.add_names", "network.publish", "runtime.create", "runtime.start",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
async def test_a_start_that_fails_at_any_step_leaves_nothing_and_can_be_repeated(
    engine: Engine, step: str
) -> None:
    made = await engine.containers.create(SPEC, name="one")
    kernel = kernel_of(engine)
    before = set(kernel.effects)
    kernel.fail = step
    with pytest.raises(HostError):
        await engine.running.start("one")
    record = engine.containers.resolve("one")
    assert kernel.effects - {"keeper"} == before
    assert (record.status, record.exit_code, record.ports) == (Status.CREATED, 128, ())
    assert step in record.error
    kernel.fail = ""
    await engine.running.start(made.id)
    assert engine.containers.resolve("one").status is Status.RUNNING


@pytest.mark.parametrize("step", ["volumes.create", "layers.prepare"])
async def test_a_create_that_fails_leaves_nothing(engine: Engine, step: str) -> None:
    kernel = kernel_of(engine)
    before = set(kernel.effects)
    kernel.fail = step
    with pytest.raises(HostError):
        await engine.containers.create(SPEC, name="one")
    assert kernel.effects == before
    assert engine.containers.all() == ()
    assert engine.volumes.all() == ()
    kernel.fail = ""
    await engine.containers.create(SPEC, name="one")
    record = engine.containers.resolve("one")
    assert record.endpoints["net"].ipv4_address.endswith(".0.2") or record.endpoints[
        "net"
    ].ipv4_address.endswith(".2")


async def test_removing_by_force_in_the_middle_of_a_start_kills_what_has_started(engine: Engine):
    await engine.containers.create(SPEC, name="one")
    kernel = kernel_of(engine)
    runtime = engine.world.runtime
    runtime.go_on.clear()  # type: ignore[attr-defined]
    start = asyncio.create_task(engine.running.start("one"))
    await runtime.begun.wait()  # type: ignore[attr-defined]
    remove = asyncio.create_task(engine.containers.remove("one", force=True))
    await settle()
    runtime.go_on.set()  # type: ignore[attr-defined]
    await asyncio.gather(start, remove)
    assert engine.containers.all() == ()
    assert not [effect for effect in kernel.effects if effect.startswith("process")]


async def test_removing_gives_everything_back(engine: Engine) -> None:
    kernel = kernel_of(engine)
    before = set(kernel.effects)
    await engine.containers.create(SPEC, name="one")
    await engine.running.start("one")
    with pytest.raises(ConflictError, match="force remove"):
        await engine.containers.remove("one")
    await engine.containers.remove("one", force=True, volumes=True)
    assert kernel.effects - {"keeper"} == before
    assert engine.containers.all() == ()
    with pytest.raises(NotFoundError, match="No such container: one"):
        engine.containers.resolve("one")


async def test_stop_waits_then_kills_and_forbids_the_restart_policy(engine: Engine) -> None:
    spec = replace(SPEC, restart_policy=RestartPolicy(name="always"))
    await engine.containers.create(spec, name="one")
    await engine.running.start("one")
    engine.world.runtime.deaf = True  # type: ignore[attr-defined]
    await engine.running.stop("one", timeout=3)
    record = engine.containers.resolve("one")
    assert (record.status, record.exit_code, record.manually_stopped) == (Status.EXITED, 137, True)
    assert [call for call in kernel_of(engine).calls if call.startswith("kill")] == [
        "kill 15",
        "kill 9",
    ]
    with pytest.raises(NotModifiedError):
        await engine.running.stop("one")


async def test_a_policy_restarts_and_counts(engine: Engine) -> None:
    spec = replace(SPEC, restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    made = await engine.containers.create(spec, name="one")
    waiter = engine.running.watch("one", "next-exit")
    await engine.running.start("one")
    engine.world.runtime.finish(made.id, 3)  # type: ignore[attr-defined]
    await settle()
    record = engine.containers.resolve("one")
    assert (record.status, record.restart_count) == (Status.RUNNING, 1)
    # Who waits is told of each end, also of one that a restart follows, as Docker does.
    assert (await waiter).code == 3
    last = engine.running.watch("one", "next-exit")
    engine.world.runtime.finish(made.id, 4)  # type: ignore[attr-defined]
    assert (await last).code == 4
    assert engine.containers.resolve("one").status is Status.EXITED


async def test_names_ids_and_prefixes_resolve(engine: Engine) -> None:
    made = await engine.containers.create(SPEC, name="/one")
    for ref in ("one", "/one", made.id, made.id[:12], made.id[:4]):
        assert engine.containers.resolve(ref).id == made.id
    with pytest.raises(ConflictError, match='"/one" is already in use by container'):
        await engine.containers.create(SPEC, name="one")
    await engine.containers.rename("one", "two")
    await engine.containers.create(SPEC, name="one")
    with pytest.raises(ConflictError):
        await engine.containers.rename("two", "one")


async def test_a_missing_image_is_not_found_so_that_clients_pull(engine: Engine) -> None:
    with pytest.raises(NotFoundError, match="No such image: nope:latest"):
        await engine.containers.create(replace(SPEC, image="nope"))


async def test_static_addresses_are_given_once(engine: Engine) -> None:
    await engine.networks.create(
        NetworkRequest(name="fixed", subnets=(Subnet(subnet="10.77.0.0/24"),))
    )
    spec = replace(
        SPEC,
        network_mode="fixed",
        endpoints=(EndpointRequest(network="fixed", ipv4_address="10.77.0.9"),),
    )
    await engine.containers.create(spec, name="one")
    assert engine.containers.resolve("one").endpoints["fixed"].ipv4_address == "10.77.0.9"
    await engine.running.start("one")
    await engine.containers.create(spec, name="two")
    with pytest.raises(ForbiddenError, match="in use"):
        await engine.running.start("two")
    await engine.running.stop("one")
    await engine.running.start("two")
    assert engine.containers.resolve("one").endpoints["fixed"].ipv4_address == ""
    assert engine.containers.resolve("two").endpoints["fixed"].ipv4_address == "10.77.0.9"
    wrong = EndpointRequest(network="net", ipv4_address="10.77.0.10")
    with pytest.raises(InvalidInputError, match="user configured subnets"):
        await engine.containers.create(replace(SPEC, endpoints=(wrong,)))


async def test_names_of_a_network_follow_aliases_and_renames(engine: Engine) -> None:
    spec = replace(SPEC, endpoints=(EndpointRequest(network="net", aliases=("alias",)),))
    made = await engine.containers.create(spec, name="one")
    await engine.running.start("one")
    keeper = engine.world.keeper
    network = engine.networks.resolve("net").id
    names = keeper.names[network, made.id]  # type: ignore[attr-defined]
    assert {"one", "alias", made.id[:12], "one.net", "alias.net"} <= set(names)
    await engine.containers.rename("one", "two")
    names = keeper.names[network, made.id]  # type: ignore[attr-defined]
    assert "two" in names
    assert "one" not in names


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (NetworkRequest(name="bridge"), ForbiddenError),
        (NetworkRequest(name="net"), ConflictError),
        (NetworkRequest(name="x", driver="overlay"), Exception),
        (NetworkRequest(name="x", driver="nope"), NotFoundError),
        (NetworkRequest(name="x", driver="host"), ForbiddenError),
        (NetworkRequest(name=""), InvalidInputError),
        (NetworkRequest(name="x", subnets=(Subnet(subnet="10.201.1.0/24"),)), ForbiddenError),
    ],
)
async def test_networks_that_docker_refuses_are_refused(
    engine: Engine, request_: NetworkRequest, error: type[Exception]
) -> None:
    before = engine.networks.all()
    with pytest.raises(error):
        await engine.networks.create(request_)
    assert engine.networks.all() == before


async def test_a_network_of_settings_makes_others(engine: Engine) -> None:
    subnets = (Subnet(subnet="10.99.1.0/24", gateway="10.99.1.9"),)
    settings, _ = await engine.networks.create(
        NetworkRequest(
            name="settings", config_only=True, driver="macvlan", subnets=subnets, enable_ipv6=True,
            labels={"a": "1"}, options={"com.docker.network.driver.mtu": "1400"}, ipam_options={},
        )
    )  # fmt: skip
    assert (settings.driver, settings.subnets, settings.bridge) == ("null", (), "")
    with pytest.raises(NotFoundError, match='configuration network "nothing" does not exist'):
        await engine.networks.create(NetworkRequest(name="x", config_from="nothing"))
    with pytest.raises(NotFoundError, match='configuration network "bridge"'):
        await engine.networks.create(NetworkRequest(name="x", config_from="bridge"))
    made, _ = await engine.networks.create(
        NetworkRequest(name="made", config_from="settings", internal=True)
    )
    assert (made.driver, made.internal, made.config_from) == ("bridge", True, "settings")
    assert made.subnets[0] == subnets[0]
    assert made.enable_ipv6
    assert (made.labels, made.ipam_options) == ({"a": "1"}, {})
    assert made.options == settings.options
    with pytest.raises(ForbiddenError, match='configuration network "settings" is in use'):
        await engine.networks.remove("settings")
    spec = replace(SPEC, network_mode="settings")
    await engine.containers.create(spec, name="one")
    with pytest.raises(ForbiddenError, match="cannot create endpoint on configuration-only"):
        await engine.running.start("one")
    assert await engine.networks.prune(PruneFilter(labels=["a=1"])) == ["made"]
    await engine.networks.remove("settings")


async def test_a_network_is_noted_for_the_next_start(engine: Engine) -> None:
    await engine.containers.create(SPEC, name="one")
    await engine.networks.create(NetworkRequest(name="more"))
    for alias in ("a", "b"):
        request = EndpointRequest(network="more", aliases=(alias,))
        await engine.networks.connect("more", "one", request)
    first = engine.containers.resolve("one").endpoints["more"]
    assert (first.aliases, first.ipv4_address[-2:]) == (("b",), ".2")
    with pytest.raises(InvalidInputError, match=r"^invalid endpoint settings"):
        await engine.networks.connect(
            "more", "one", EndpointRequest(network="more", ipv4_address="10.1.1.1")
        )
    assert engine.containers.resolve("one").endpoints["more"] == first
    await engine.networks.connect("late", "one", EndpointRequest(network="late"))
    with pytest.raises(NotFoundError, match="network late not found"):
        await engine.running.start("one")
    await engine.networks.create(NetworkRequest(name="late"))
    await engine.running.start("one")
    endpoints = engine.containers.resolve("one").endpoints
    assert sorted(endpoints) == ["late", "more", "net"]
    assert all(item.network_id and item.ipv4_address for item in endpoints.values())
    with pytest.raises(NotFoundError, match="network nothing not found"):
        await engine.networks.connect("nothing", "one", EndpointRequest(network="nothing"))


@pytest.mark.parametrize(
    "fields",
    [
        {"options": {"x": "y"}},
        {"labels": {"x": "y"}},
        {"enable_ipv6": True},
        {"enable_ipv4": False},
        {"ipam_options": {"x": "y"}},
        {"ipam_driver": "other"},
        {"subnets": (Subnet(subnet="10.99.2.0/24"),)},
        {"config_only": True},
    ],
)
async def test_a_network_by_settings_has_none_of_its_own(engine: Engine, fields: dict) -> None:
    await engine.networks.create(NetworkRequest(name="settings", config_only=True))
    with pytest.raises(ForbiddenError, match="configuration network"):
        await engine.networks.create(NetworkRequest(name="made", config_from="settings", **fields))


@pytest.mark.parametrize("field", ["internal", "attachable", "ingress"])
async def test_settings_say_nothing_of_their_operator(engine: Engine, field: str) -> None:
    with pytest.raises(ForbiddenError, match="can only contain network specific fields"):
        await engine.networks.create(
            NetworkRequest(name="settings", config_only=True, **{field: True})
        )


async def test_an_isolated_network_gives_away_the_gateway_s_address(engine: Engine) -> None:
    mode = {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}
    with pytest.raises(InvalidInputError, match="can only be used for an internal network"):
        await engine.networks.create(NetworkRequest(name="x", options=mode))
    subnets = (Subnet(subnet="10.99.3.0/24"),)
    await engine.networks.create(
        NetworkRequest(name="apart", options=mode, internal=True, subnets=subnets)
    )
    await engine.containers.create(replace(SPEC, network_mode="apart"), name="one")
    endpoint = engine.containers.resolve("one").endpoints["apart"]
    assert (endpoint.ipv4_address, endpoint.gateway) == ("10.99.3.1", "")


async def test_a_subnet_of_a_family_that_is_off_says_nothing(engine: Engine) -> None:
    subnets = (Subnet(subnet="fd00:99::/64"), Subnet(subnet="10.99.4.0/24"))
    made, _ = await engine.networks.create(NetworkRequest(name="x", subnets=subnets))
    assert [item.subnet for item in made.subnets] == ["10.99.4.0/24"]
    assert (made.enable_ipv6, made.requested_subnets) == (False, subnets)
    two = (Subnet(subnet="10.99.5.0/24"), Subnet(subnet="10.99.6.0/24"))
    with pytest.raises(ForbiddenError, match="doesn't support multiple subnets"):
        await engine.networks.create(NetworkRequest(name="y", subnets=two))


async def test_a_volume_in_use_stays_and_prune_takes_only_anonymous_ones(engine: Engine) -> None:
    await engine.volumes.create(VolumeRequest(name="named"))
    await engine.containers.create(SPEC, name="one")
    (anonymous,) = [item.name for item in engine.volumes.all() if item.anonymous]
    with pytest.raises(ConflictError, match="volume is in use"):
        await engine.volumes.remove(anonymous)
    await engine.containers.remove("one")
    removed, freed = await engine.volumes.prune(PruneFilter())
    assert (removed, freed) == ([anonymous], 5)
    removed, _ = await engine.volumes.prune(PruneFilter(), everything=True)
    assert removed == ["named"]


async def test_a_new_daemon_adopts_what_runs_and_sees_its_end(
    engine: Engine, tmp_path: Path
) -> None:
    made = await engine.containers.create(SPEC, name="one")
    await engine.running.start("one")
    effects = set(kernel_of(engine).effects)
    new = await another(engine, tmp_path)
    assert new.containers.resolve("one").status is Status.RUNNING
    assert kernel_of(new).effects == effects
    new.world.runtime.finish(made.id, 5)  # type: ignore[attr-defined]
    await settle()
    assert new.containers.resolve("one").exit_code == 5
    await new.stop()


async def test_a_new_daemon_learns_what_ended_meanwhile(engine: Engine, tmp_path: Path) -> None:
    made = await engine.containers.create(SPEC, name="one")
    await engine.running.start("one")
    await engine.tasks.stop()
    engine.world.runtime.finish(made.id, 6)  # type: ignore[attr-defined]
    new = await another(engine, tmp_path)
    record = new.containers.resolve("one")
    assert (record.status, record.exit_code) == (Status.EXITED, 6)
    assert not any(made.id in item for item in kernel_of(new).effects if "snapshot" not in item)
    await new.stop()


async def test_after_a_boot_policies_start_what_ran(engine: Engine, tmp_path: Path) -> None:
    await engine.containers.create(SPEC, name="plain")
    spec = replace(SPEC, restart_policy=RestartPolicy(name="unless-stopped"), port_bindings=())
    await engine.containers.create(spec, name="kept")
    await engine.containers.create(spec, name="stopped")
    await engine.containers.create(spec, name="never")
    for name in ("plain", "kept", "stopped"):
        await engine.running.start(name)
    await engine.running.stop("stopped")
    new = await another(engine, tmp_path, boot_id="another")
    found = {record.name: record.status for record in new.containers.all()}
    assert found == {
        "plain": Status.EXITED,
        "kept": Status.RUNNING,
        "stopped": Status.EXITED,
        "never": Status.CREATED,
    }
    assert new.containers.resolve("plain").exit_code == 255
    await new.stop()


@pytest.mark.parametrize("step", STEPS)
async def test_a_daemon_killed_at_any_step_of_a_start_leaves_what_the_next_one_clears(
    engine: Engine, tmp_path: Path, step: str
) -> None:
    await engine.containers.create(SPEC, name="one")
    kernel = kernel_of(engine)
    before = set(kernel.effects)
    kernel.kill_at = step
    with pytest.raises(DaemonKilledError):
        await engine.running.start("one")
    assert kernel.effects >= before
    kernel.kill_at, kernel.is_dead = "", False
    new = await another(engine, tmp_path)
    assert new.containers.resolve("one").status is Status.CREATED
    left = {item for item in kernel.effects if not item.startswith(("network", "shared"))}
    assert left - before == set()
    await new.running.start("one")
    assert new.containers.resolve("one").status is Status.RUNNING
    await new.stop()


@pytest.mark.parametrize("step", ["volumes.create", "layers.prepare"])
async def test_a_daemon_killed_during_a_create_leaves_no_half_container(
    engine: Engine, tmp_path: Path, step: str
) -> None:
    kernel = kernel_of(engine)
    kernel.kill_at = step
    with pytest.raises(DaemonKilledError):
        await engine.containers.create(SPEC, name="one")
    kernel.kill_at, kernel.is_dead = "", False
    new = await another(engine, tmp_path)
    assert new.containers.all() == ()
    assert await new.world.layers.snapshots() == []
    await new.containers.create(SPEC, name="one")
    await new.stop()


async def test_what_no_record_names_is_removed(engine: Engine, tmp_path: Path) -> None:
    kernel = kernel_of(engine)
    strays = {f"{kind} {'f' * 64}" for kind in ("process", "snapshot", "sandbox")}
    kernel.effects |= strays
    new = await another(engine, tmp_path)
    assert not kernel.effects & strays
    await new.stop()


async def test_a_clean_stop_with_nothing_running_leaves_nothing(tmp_path: Path) -> None:
    engine = Engine(make_world(tmp_path))
    await engine.start()
    await engine.containers.create(ContainerSpec(image="image"), name="one")
    await engine.running.start("one")
    await engine.running.stop("one")
    await engine.stop()
    assert {item.split()[0] for item in kernel_of(engine).effects} == {"snapshot"}


async def test_clients_that_leave_before_the_start_are_forgotten(engine: Engine) -> None:
    made = await engine.containers.create(SPEC)
    for _ in range(3):
        streams = await engine.running.attach(made.id)
        await streams.close()
        assert [item async for item in streams.output()] == []
    assert engine.book.live(made.id).pending == []


async def test_a_network_that_a_starting_container_joins_is_not_removed(engine: Engine) -> None:
    made = await engine.containers.create(SPEC, name="one")
    runtime = engine.world.runtime
    runtime.go_on.clear()  # type: ignore[attr-defined]
    starting = asyncio.ensure_future(engine.running.start(made.id))
    await settle()
    with pytest.raises(ForbiddenError, match="active endpoints"):
        await engine.networks.remove("net")
    runtime.go_on.set()  # type: ignore[attr-defined]
    await starting
    await engine.running.stop("one")
    await engine.networks.remove("net")


async def test_waiting_for_removal_and_events_of_auto_remove(engine: Engine) -> None:
    listening = engine.events.subscribe(EventQuery(filters={"type": ["container"]}))
    made = await engine.containers.create(replace(SPEC, auto_remove=True))
    removed = engine.running.watch(made.id, "removed")
    await engine.running.start(made.id)
    engine.world.runtime.finish(made.id, 2)  # type: ignore[attr-defined]
    assert (await removed).code == 2
    actions = [(await anext(listening)).action for _ in range(4)]
    assert actions == ["create", "start", "die", "destroy"]
    assert engine.containers.all() == ()
