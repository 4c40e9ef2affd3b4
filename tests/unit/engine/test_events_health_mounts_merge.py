import asyncio
from dataclasses import replace

import pytest

from stackctl.contracts.container import (
    ContainerSpec,
    Health,
    Healthcheck,
    MountPoint,
    MountRequest,
    PortBinding,
    ProbeResult,
)
from stackctl.contracts.state import ImageConfig
from stackctl.engine import health, merge, mounts
from stackctl.engine.events import RING, Events, matches
from stackctl.engine.filters import PruneFilter
from stackctl.engine.requests import Event, EventQuery
from stackctl.errors import InvalidInputError
from tests.fakes.clock import ManualClock

CHECK = Healthcheck(test=("CMD", "x"), interval=10, start_period=5, start_interval=1, retries=2)


def probe(code: int, start: float) -> ProbeResult:
    return ProbeResult(start=start, end=start, exit_code=code, output="")


# Events


async def test_a_subscription_hears_what_comes_after_it_and_replays_what_it_asks_for() -> None:
    bus = Events(ManualClock(100.0))
    bus.publish("container", "start", "1")
    fresh = bus.subscribe()
    replayed = bus.subscribe(EventQuery(since=50.0))
    bus.publish("container", "die", "1")
    assert (await anext(fresh)).action == "die"
    assert [(await anext(replayed)).action for _ in range(2)] == ["start", "die"]


async def test_the_ring_keeps_the_last_256_and_times_never_repeat() -> None:
    bus = Events(ManualClock(100.0))
    for number in range(RING + 10):
        bus.publish("container", "start", str(number))
    listening = bus.subscribe(EventQuery(since=1.0))
    seen = [await anext(listening) for _ in range(RING)]
    assert seen[0].id == "10"
    assert len({event.time_ns for event in seen}) == RING


async def test_what_is_frequent_pushes_nothing_else_out() -> None:
    clock = ManualClock(100.0)
    bus = Events(clock)
    bus.publish("container", "start", "1")
    for _ in range(2 * RING):
        bus.publish("container", "exec_die", "1", frequent=True)
    bus.publish("container", "die", "1")
    found = [event async for event in bus.subscribe(EventQuery(since=1.0, until=100.1))]
    assert [found[0].action, found[-1].action, len(found)] == ["start", "die", RING + 2]
    assert [event.time_ns for event in found] == sorted(event.time_ns for event in found)


async def test_a_stream_whose_until_has_passed_ends_after_the_replay() -> None:
    bus = Events(ManualClock(100.0))
    bus.publish("container", "start", "1")
    found = [event.id async for event in bus.subscribe(EventQuery(since=1.0, until=100.1))]
    assert found == ["1"]
    bus.clock.advance(10)  # type: ignore[attr-defined]
    assert [event.id async for event in bus.subscribe(EventQuery(since=1.0, until=105.0))] == ["1"]


async def test_closing_ends_a_reader_that_waits() -> None:
    bus = Events(ManualClock(0.0))
    listening = bus.subscribe()
    reading = asyncio.ensure_future(anext(listening, None))
    await asyncio.sleep(0)
    bus.close()
    assert await reading is None


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["network"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["abc"]}, True),
        ({"container": ["x"]}, False),
        ({"event": ["health_status"]}, True),
        ({"event": ["health_status: healthy"]}, True),
        ({"event": ["start"]}, False),
        ({"label": ["a=b"]}, True),
        ({"label": ["a=c"]}, False),
        ({"image": ["busybox"]}, True),
        ({"container": ["x", "web"], "type": ["container"]}, True),
    ],
)
def test_filters_match_as_docker_s(filters: dict[str, list[str]], wanted: bool) -> None:
    attributes = {"name": "web", "image": "busybox:latest", "a": "b"}
    event = Event(
        type="container", action="health_status: healthy", id="abcdef", attributes=attributes
    )
    assert matches(filters, event) is wanted


# Health


def test_failures_in_the_start_period_do_not_count_and_success_ends_it() -> None:
    now = health.judge(CHECK, Health(), probe(1, 102.0), started_at=100.0)
    assert (now.status, now.failing_streak) == ("starting", 0)
    now = health.judge(CHECK, now, probe(0, 103.0), started_at=100.0)
    assert now.status == "healthy"
    now = health.judge(CHECK, now, probe(1, 104.0), started_at=100.0)
    assert (now.status, now.failing_streak) == ("healthy", 1)
    now = health.judge(CHECK, now, probe(-1, 105.0), started_at=100.0)
    assert (now.status, now.failing_streak) == ("unhealthy", 2)


def test_only_the_last_five_probes_are_kept() -> None:
    now = Health()
    for number in range(9):
        now = health.judge(CHECK, now, probe(0, float(number)), started_at=0.0)
    assert [item.start for item in now.log] == [4.0, 5.0, 6.0, 7.0, 8.0]


def test_probes_come_faster_only_while_starting_within_the_period() -> None:
    assert health.wait_before(CHECK, Health(), ran_for=1.0) == 1
    assert health.wait_before(CHECK, Health(), ran_for=6.0) == 10
    assert health.wait_before(CHECK, Health(status="healthy"), ran_for=1.0) == 10
    assert health.wait_before(Healthcheck(test=("CMD", "x")), Health(), ran_for=0.0) == 30


def test_a_shell_probe_uses_the_image_s_shell() -> None:
    check = Healthcheck(test=("CMD-SHELL", "curl x"))
    assert health.command_of(check, ()) == ("/bin/sh", "-c", "curl x")
    assert health.command_of(check, ("ash", "-c")) == ("ash", "-c", "curl x")
    assert not health.is_checked(Healthcheck(test=("NONE",)))


# Mounts


def spec(*requests: MountRequest, **fields: object) -> ContainerSpec:
    return replace(ContainerSpec(image="x", mounts=requests), **fields)


def test_explicit_mounts_win_over_declared_volumes_and_volumes_from() -> None:
    bind = MountRequest(type="bind", source="/a", target="/data/", origin="binds")
    inherited = [MountPoint(type="volume", target="/data"), MountPoint(type="volume", target="/b")]
    made, kept = mounts.plan(spec(bind), ["/data", "/b", "/c"], inherited)
    assert [(item.target, item.type) for item in made] == [("/data", "bind"), ("/c", "volume")]
    assert [item.target for item in kept] == ["/b"]


def test_two_mounts_on_one_target_are_refused() -> None:
    one = MountRequest(type="bind", source="/a", target="/x", origin="binds")
    two = MountRequest(type="tmpfs", target="/x/", origin="tmpfs")
    with pytest.raises(InvalidInputError, match="Duplicate mount point: /x"):
        mounts.plan(spec(one, two), [], [])


@pytest.mark.parametrize(
    "request_",
    [
        MountRequest(type="volume", target="relative"),
        MountRequest(type="volume", target="/"),
        MountRequest(type="volume", target="/a/.."),
        MountRequest(type="bind", source="relative", target="/x"),
        MountRequest(type="nfs", target="/x"),
        MountRequest(type="tmpfs", source="/a", target="/x"),
        MountRequest(type="volume", target=""),
    ],
)
def test_mounts_that_docker_refuses_are_refused(request_: MountRequest) -> None:
    with pytest.raises(InvalidInputError):
        mounts.check(request_)


def test_links_in_an_image_never_lead_out_of_it(tmp_path) -> None:
    (tmp_path / "a").symlink_to("/etc")
    (tmp_path / "b").symlink_to("../../../../etc")
    (tmp_path / "loop").symlink_to("loop")
    assert mounts.resolve_in(tmp_path, "/a/x") == tmp_path / "etc/x"
    assert mounts.resolve_in(tmp_path, "/b/../../x") == tmp_path / "x"
    with pytest.raises(InvalidInputError, match="symbolic links"):
        mounts.resolve_in(tmp_path, "/loop")


# Merging


@pytest.mark.parametrize(
    ("own", "image", "wanted"),
    [
        ({}, {"entrypoint": ("e",), "cmd": ("c",)}, ("e", "c")),
        ({"cmd": ("x",)}, {"entrypoint": ("e",), "cmd": ("c",)}, ("e", "x")),
        ({"entrypoint": ("n",)}, {"entrypoint": ("e",), "cmd": ("c",)}, ("n",)),
        ({"entrypoint": ("n",), "cmd": ("x",)}, {"cmd": ("c",)}, ("n", "x")),
        ({"entrypoint": ("",), "cmd": ("x",)}, {"entrypoint": ("e",)}, ("x",)),
        ({"entrypoint": ()}, {"entrypoint": ("e",), "cmd": ("c",)}, ("c",)),
    ],
)
def test_the_program_merges_as_docker_merges_it(own: dict, image: dict, wanted: tuple) -> None:
    found = merge.merge(replace(ContainerSpec(image="x"), **own), ImageConfig(**image))
    assert (found.path, *found.args) == wanted


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no command specified"):
        merge.merge(ContainerSpec(image="x"), ImageConfig())


def test_the_environment_replaces_in_place_and_unsets() -> None:
    assert merge.merge_env(["A=1", "B=2", "C=3"], ["B=x", "C", "D=4"]) == (
        "B=x", "C", "D=4", "A=1",
    )  # fmt: skip


def test_ports_come_from_image_request_and_bindings() -> None:
    given = ContainerSpec(
        image="x", cmd=("c",), exposed_ports=("80",), port_bindings=(PortBinding(container_port=53, protocol="udp"),)
    )  # fmt: skip
    found = merge.merge(given, ImageConfig(exposed_ports=("443/tcp",)))
    assert found.exposed_ports == ("443/tcp", "53/udp", "80/tcp")


@pytest.mark.parametrize(
    "fields",
    [
        {"memory": 1000},
        {"memory_swap": 10 << 20},
        {"network_mode": "container:x", "hostname": "h"},
        {"network_mode": "container:x", "publish_all_ports": True},
        {"network_mode": "host", "links": ("a",)},
        {"working_dir": "here"},
        {"oom_score_adj": 2000},
        {"nano_cpus": 1, "cpu_quota": 1},
        {"exposed_ports": ("0/tcp",)},
    ],
)
def test_requests_that_docker_refuses_are_refused(fields: dict) -> None:
    with pytest.raises(InvalidInputError):
        merge.check(replace(ContainerSpec(image="x"), **fields))


# Filters


def test_label_and_time_filters() -> None:
    assert PruneFilter(labels=["a", "b=1"]).takes({"a": "x", "b": "1"}, 5.0)
    assert not PruneFilter(not_labels=["a"]).takes({"a": "x"}, 5.0)
    assert PruneFilter(until=5.0).takes({}, 5.0)
    assert not PruneFilter(until=0.0).takes({}, 5.0)
