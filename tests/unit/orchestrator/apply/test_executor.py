import signal
import threading

import pytest

from stackctl.errors import ConflictError, InterruptedByUserError, NotFoundError, StackctlError
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.observe import observe
from stackctl.orchestrator.apply.progress import Step
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.network import Endpoint, Network
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.options import Options
from stackctl.orchestrator.planning.reconcile import reconcile
from tests.fakes.engine import FakeEngine

HEALTHY = Dependency(condition="service_healthy")
COMPLETED = Dependency(condition="service_completed_successfully")
CHECK = Healthcheck(test=("CMD", "true"))


def service(name: str, **fields) -> Service:
    return Service(name=name, **{"image": "app:1", "networks": {"default": Endpoint()}, **fields})


def stack(*services: Service) -> Stack:
    networks = {"default": Network(key="default", name="shop_default")}
    every = {item.name: item for item in services}
    return Stack(
        name="shop", working_dir="/", services=every, networks=networks, tree={"services": {}}
    )


def up(world: FakeEngine, wanted: Stack, *, on_event=None, **options) -> None:
    plan = reconcile(wanted, observe(world, "shop"), Options(**options))
    execute(plan, world, stack=wanted, on_event=on_event)


def engine(**fields) -> FakeEngine:
    return FakeEngine(images={"app:1": "sha256:one"}, **fields)


def test_a_wait_ends_by_an_event() -> None:
    world = engine(heal="")
    wanted = stack(service("db", healthcheck=CHECK), service("web", depends_on={"db": HEALTHY}))
    seen = []

    def on_event(event) -> None:
        seen.append((event.step, event.operation.id))
        if event.step is Step.STARTED and event.operation.action.verb == "wait":
            threading.Thread(target=world.set_health, args=("shop-db-1", "healthy")).start()

    up(world, wanted, on_event=on_event)
    assert world._find("shop-web-1")["State"] == "running"
    assert seen.index((Step.DONE, "wait service db to be healthy")) < seen.index(
        (Step.STARTED, "start container shop-web-1")
    )


def test_an_unhealthy_dependency_is_explained() -> None:
    world = engine(heal="")
    wanted = stack(service("db", healthcheck=CHECK), service("web", depends_on={"db": HEALTHY}))

    def on_event(event) -> None:
        if event.step is Step.STARTED and event.operation.action.verb == "wait":
            world.set_health("shop-db-1", "unhealthy")

    with pytest.raises(StackctlError) as caught:
        up(world, wanted, on_event=on_event)
    text = caught.value.message
    assert "service 'db': container shop-db-1 is unhealthy" in text
    assert "last probe (exit code 1): refused" in text
    assert "cannot open database" in text
    assert "waited for it: web" in text


def test_a_failed_job_is_explained_and_what_was_never_started_is_taken_back() -> None:
    world = engine()
    wanted = stack(
        service("migrate", command=("false",)), service("web", depends_on={"migrate": COMPLETED})
    )
    with pytest.raises(StackctlError, match="container shop-migrate-1 ended with exit code 1"):
        up(world, wanted)
    assert [item["Name"] for item in world.containers.values()] == ["shop-migrate-1"]


def test_an_optional_dependency_that_fails_is_a_warning() -> None:
    world = engine()
    optional = Dependency(condition="service_completed_successfully", required=False)
    steps = []
    up(
        world,
        stack(
            service("migrate", command=("false",)), service("web", depends_on={"migrate": optional})
        ),
        on_event=lambda event: steps.append(event.step),
    )
    assert Step.WARNING in steps
    assert world._find("shop-web-1")["State"] == "running"


def test_a_missing_image_leaves_nothing_half_made() -> None:
    world = FakeEngine()
    with pytest.raises(NotFoundError, match="cannot pull app:1: manifest for app:1 not found"):
        up(world, stack(service("web"), service("db")))
    assert (world.containers, world.networks) == ({}, {})


def test_a_failed_start_takes_the_container_back_and_keeps_the_old_one() -> None:
    world = engine()
    up(world, stack(service("web")))
    old = world._find("shop-web-1")["Id"]
    world.fail["stop shop-web-1"] = ConflictError("cannot stop container shop-web-1: port busy")
    with pytest.raises(ConflictError, match="port busy"):
        up(world, stack(service("web", user="7")))
    assert list(world.containers) == [old]


def test_waiting_ends_at_its_time_limit() -> None:
    world = engine(heal="")
    with pytest.raises(StackctlError, match=r"service 'web' was not ready within 0\.05 s"):
        up(world, stack(service("web", healthcheck=CHECK)), wait=True, wait_timeout=0.05)


def test_an_interrupt_finishes_what_is_under_way_and_begins_nothing_more() -> None:
    world = engine()

    def on_event(event) -> None:
        if event.operation.id == "create container shop-web-1" and event.step is Step.STARTED:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedByUserError, match="interrupted with 1 of 3 operations left"):
        up(world, stack(service("web")), on_event=on_event)
    assert world._find("shop-web-1")["State"] == "created"
    up(world, stack(service("web")))
    assert world._find("shop-web-1")["State"] == "running"


def test_an_interrupt_ends_waiting_and_a_second_one_ends_at_once() -> None:
    world = engine(heal="")
    wanted = stack(service("db", healthcheck=CHECK))

    def on_event(event) -> None:
        if event.operation.action.verb == "wait" and event.step is Step.STARTED:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(InterruptedByUserError, match="interrupted with 1 of 4"):
        up(world, wanted, on_event=on_event, wait=True)

    def twice(event) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedByUserError, match="what was under way was left"):
        up(world, stack(service("db", user="7")), on_event=twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_operations_run_in_parallel_up_to_the_limit() -> None:
    world = engine()
    barrier = threading.Barrier(3, timeout=5)
    plain = world.start_container

    def start(container: str) -> None:
        barrier.wait()
        plain(container)

    world.start_container = start
    up(world, stack(*(service(name) for name in ("a", "b", "c"))))
    assert {item["State"] for item in world.containers.values()} == {"running"}
