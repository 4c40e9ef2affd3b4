"""Rolling updates on an engine in memory: groups, failures, what is undone and what is said."""

import signal

import pytest

from stackctl.errors import InterruptedByUserError, StackctlError
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.observe import observe
from stackctl.orchestrator.apply.progress import Step
from stackctl.orchestrator.model.deploy import Deploy, UpdateConfig
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.network import Endpoint, Network
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.options import Options
from stackctl.orchestrator.planning.reconcile import reconcile
from tests.fakes.engine import FakeEngine

START_FIRST = UpdateConfig(order="start-first")


def service(version: str, config: UpdateConfig | None, **fields) -> Service:
    given = {
        "image": "app:1",
        "scale": 4,
        "networks": {"default": Endpoint()},
        "healthcheck": Healthcheck(test=("CMD", "true")),
        "environment": {"VERSION": version},
        **fields,
    }
    deploy = Deploy(update_config=config, rollback_config=given.pop("rollback", None))
    return Service(name="web", deploy=deploy, **given)


def stack(*services: Service) -> Stack:
    return Stack(
        name="shop",
        working_dir="/",
        services={item.name: item for item in services},
        networks={"default": Network(key="default", name="shop_default")},
        tree={"services": {}},
    )


class Sick(FakeEngine):
    """The second container of version "bad" gets unhealthy."""

    features = frozenset({"containers.relieve"})
    seen = 0

    def start_container(self, container: str) -> None:
        super().start_container(container)
        item = self._find(container)
        if "VERSION=bad" in item["Body"]["Env"]:
            self.seen += 1
            if self.seen == 2:
                self.set_health(container, "unhealthy")

    def versions(self) -> str:
        """Return the version of each replica that runs, by number; no other container is there."""
        found = {}
        for item in self.containers.values():
            assert item["State"] == "running"
            assert not item.get("Aside")
            found[item["Name"]] = item["Body"]["Env"][0].partition("=")[2]
        assert sorted(found) == [f"shop-web-{number}" for number in range(1, len(found) + 1)]
        return " ".join(found[name] for name in sorted(found))


def engine() -> Sick:
    return Sick(images={"app:1": "sha256:one"})


def up(world: FakeEngine, wanted: Stack, **options):
    chosen = Options(relieves="containers.relieve" in world.features, **options)
    plan = reconcile(wanted, observe(world, "shop"), chosen)
    events = []
    execute(plan, world, stack=wanted, on_event=events.append)
    return plan, events


def test_replicas_are_exchanged_in_groups_and_the_old_ones_go_last() -> None:
    world = engine()
    config = UpdateConfig(order="start-first", parallelism=3)
    up(world, stack(service("one", config)))
    plan, _ = up(world, stack(service("two", config)))
    first = "update container shop-web-1, update container shop-web-2, update container shop-web-3"
    assert plan.order() == (
        "update container shop-web-1\n"
        "update container shop-web-2\n"
        "update container shop-web-3\n"
        f"update container shop-web-4 <- {first}\n"
        + "\n".join(
            f"remove container shop-web-{number} <- {first}, update container shop-web-4"
            for number in (1, 2, 3, 4)
        )
    )
    assert world.versions() == "two two two two"
    assert str(reconcile(stack(service("two", config)), observe(world, "shop"))) == ""


def test_all_at_once_is_one_group() -> None:
    world = engine()
    config = UpdateConfig(parallelism=0)
    up(world, stack(service("one", config)))
    plan, _ = up(world, stack(service("two", config)))
    assert [item.after for item in plan][:4] == [()] * 4
    assert world.versions() == "two two two two"


def test_start_first_relieves_before_the_old_one_is_stopped() -> None:
    world = engine()
    up(world, stack(service("one", START_FIRST, scale=1)))
    old = world._find("shop-web-1")["Id"][:12]
    world.calls.clear()
    up(world, stack(service("two", START_FIRST, scale=1)))
    new = world._find("shop-web-1")["Id"][:12]
    assert world.calls == [
        f"create {old}_shop-web-1",
        f"start {old}_shop-web-1",
        "relieve shop-web-1",
        f"rename {new}_shop-web-1",
        "rename shop-web-1",
        f"drain {new}_shop-web-1",
        f"stop {new}_shop-web-1",
        f"remove {new}_shop-web-1",
    ]


def test_stop_first_is_the_default() -> None:
    world = engine()
    up(world, stack(service("one", UpdateConfig(), scale=1)))
    old = world._find("shop-web-1")["Id"][:12]
    world.calls.clear()
    up(world, stack(service("two", UpdateConfig(), scale=1)))
    assert world.calls[:3] == [
        f"create {old}_shop-web-1",
        "stop shop-web-1",
        f"start {old}_shop-web-1",
    ]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"networks": {"default": Endpoint(ipv4_address="10.0.0.9")}}, "it has a fixed address"),
        ({"networks": {}, "network_mode": "container:x"}, "one network namespace"),
    ],
)
def test_where_two_cannot_stand_side_by_side_the_old_one_stops_first_with_a_warning(
    fields, why
) -> None:
    world = engine()
    up(world, stack(service("one", START_FIRST, scale=1, **fields)))
    plan, _ = up(world, stack(service("two", START_FIRST, scale=1, **fields)))
    assert "stop-first" in str(plan)
    assert why in plan.warnings[0]
    assert "service 'web'" in plan.warnings[0]
    assert world.versions() == "two"


def test_an_engine_that_hands_nothing_over_stops_first_with_a_warning() -> None:
    world = engine()
    world.features = frozenset()
    up(world, stack(service("one", START_FIRST)))
    plan, _ = up(world, stack(service("two", START_FIRST)))
    (warning,) = plan.warnings
    assert warning == (
        "service 'web': each container is stopped before the new one starts, not start-first: "
        "this engine cannot hand ports and names over"
    )
    assert world.versions() == "two two two two"


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
@pytest.mark.parametrize(
    ("config", "versions"),
    [
        ({}, "bad one one one"),
        ({"failure_action": "pause"}, "bad one one one"),
        ({"failure_action": "rollback"}, "one one one one"),
        ({"failure_action": "continue"}, "bad one bad bad"),
        ({"failure_action": "rollback", "max_failure_ratio": 0.25}, "bad one bad bad"),
        ({"failure_action": "rollback", "max_failure_ratio": 0.2}, "one one one one"),
        ({"failure_action": "rollback", "parallelism": 4}, "one one one one"),
    ],
)
def test_a_failure_leads_to_what_was_asked_for(order, config, versions) -> None:
    world = engine()
    config = UpdateConfig(order=order, **config)
    up(world, stack(service("one", config)))
    if config.max_failure_ratio == 0.25:
        _, events = up(world, stack(service("bad", config)))
        warned = [event.text for event in events if event.step is Step.WARNING]
        assert "shop-web-2 is unhealthy" in warned[0]
    else:
        with pytest.raises(StackctlError, match=r"is unhealthy|1 of 4 containers could not be"):
            up(world, stack(service("bad", config)))
    if config.parallelism == 4:
        assert world.versions().split().count("one") == 4
    else:
        assert world.versions() == versions
    again = reconcile(stack(service("one", config)), observe(world, "shop"))
    assert len([item for item in again if item.action.verb == "update"]) == versions.count("bad")


def test_a_rollback_says_which_containers_went_back_and_which_could_not() -> None:
    world = engine()
    config = UpdateConfig(order="start-first", failure_action="rollback")
    up(world, stack(service("one", config)))
    with pytest.raises(StackctlError) as failed:
        up(world, stack(service("bad", config)))
    assert str(failed.value).splitlines()[-2:] == [
        "  rolled back to the former definition: shop-web-1",
        "  left as it was: shop-web-2",
    ]
    world = engine()
    up(world, stack(service("one", config)))
    old = world._find("shop-web-1")["Id"]
    relieve = world.relieve_container

    def refuse(container: str, donor: str) -> None:
        if container == old:
            raise StackctlError("no such luck")
        relieve(container, donor)

    world.relieve_container = refuse  # type: ignore[method-assign]
    with pytest.raises(StackctlError, match="shop-web-1 could not be rolled back: no such luck"):
        up(world, stack(service("bad", config)))


def test_another_failure_of_the_plan_takes_no_finished_update_back() -> None:
    world = engine()
    config = UpdateConfig(order="start-first", failure_action="rollback")
    other = Service(
        name="other",
        image="app:1",
        networks={"default": Endpoint()},
        depends_on={"web": Dependency()},
    )
    up(world, stack(service("one", config, scale=1)))
    world.fail["create shop-other-1"] = StackctlError("no room")
    with pytest.raises(StackctlError, match="no room"):
        up(world, stack(service("two", config, scale=1), other))
    assert world.versions() in ("one", "two")


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_an_interrupt_gives_the_replica_under_way_back_and_keeps_those_done(order) -> None:
    world = engine()
    config = UpdateConfig(order=order, failure_action="rollback")
    up(world, stack(service("one", config)))
    started: list[str] = []

    def tell(event) -> None:
        if event.step is Step.PROGRESS and "until the new one is ready" in event.text:
            started.append(event.operation.id)
            if len(started) == 2:
                signal.raise_signal(signal.SIGINT)

    world.heal = "nobody"
    start = world.start_container

    def heal_first(container: str) -> None:
        start(container)
        if not started:
            world._find(container)["Health"] = "healthy"

    world.start_container = heal_first  # type: ignore[method-assign]
    wanted = stack(service("two", config))
    plan = reconcile(wanted, observe(world, "shop"), Options(relieves=True))
    with pytest.raises(InterruptedByUserError):
        execute(plan, world, stack=wanted, on_event=tell)
    assert world.versions() == "two one one one"


def test_hooks_run_around_an_exchange() -> None:
    world = engine()
    hook = Hook(command=("x",))
    fields = {"scale": 1, "post_start": (hook,), "pre_stop": (hook,)}
    ran: list[str] = []
    world.create_exec = lambda container, body: ran.append(world._find(container)["Name"]) or "e"  # type: ignore[attr-defined]
    world.start_exec = lambda identity: iter(())  # type: ignore[attr-defined]
    world.inspect_exec = lambda identity: {"ExitCode": 0}  # type: ignore[attr-defined]
    up(world, stack(service("one", START_FIRST, **fields)))
    assert ran == ["shop-web-1"]
    old = world._find("shop-web-1")["Id"][:12]
    up(world, stack(service("two", START_FIRST, **fields)))
    new = world._find("shop-web-1")["Id"][:12]
    assert ran[1:] == [f"{old}_shop-web-1", f"{new}_shop-web-1"]


def test_the_plan_tells_people_and_machines_how_it_is_done() -> None:
    world = engine()
    config = UpdateConfig(
        order="start-first",
        parallelism=2,
        delay=1.5,
        monitor=3.0,
        failure_action="rollback",
        max_failure_ratio=0.5,
    )
    up(world, stack(service("one", config, scale=1)))
    plan = reconcile(
        stack(service("two", config, scale=1)), observe(world, "shop"), Options(relieves=True)
    )
    assert str(plan) == (
        "± update container shop-web-1: definition changed\n"
        '      environment.VERSION: "one" -> "two"\n'
        "      start-first, 2 at a time, 1.5 s apart, watched for 3 s, on failure rollback\n"
        "- remove container shop-web-1: was replaced"
    )
    form = plan.to_json()["operations"][0]  # type: ignore[index]
    assert form["verb"] == "update"  # type: ignore[index]
    assert form["update"] == {  # type: ignore[index]
        "order": "start-first",
        "parallelism": 2,
        "delay": 1.5,
        "monitor": 3.0,
        "failure_action": "rollback",
        "max_failure_ratio": 0.5,
    }
