import contextlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.errors import ConflictError, StackctlError, UnavailableError
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.observe import observe
from stackctl.orchestrator.model.deploy import Deploy, UpdateConfig
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.mounts import VolumeMount
from stackctl.orchestrator.model.network import Endpoint, Network
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning.destroy import destroy
from stackctl.orchestrator.planning.options import DestroyOptions, Options
from stackctl.orchestrator.planning.reconcile import reconcile
from tests.fakes.engine import FakeEngine

NAMES = ("a", "b", "c", "d", "e")
NETWORKS = {key: Network(key=key, name=f"shop_{key}") for key in ("default", "back")}
VOLUMES = {key: Volume(key=key, name=f"shop_{key}") for key in ("data", "logs")}


UPDATES = st.one_of(
    st.none(),
    st.builds(
        Deploy,
        update_config=st.builds(
            UpdateConfig,
            order=st.sampled_from(["", "start-first", "stop-first"]),
            parallelism=st.sampled_from([None, 0, 1, 2]),
            failure_action=st.sampled_from(["", "rollback", "continue", "pause"]),
        ),
    ),
)
PREPARE = Hook(command=("true",))
REPLICA = Hook(command=("true",), per_replica=True)


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(sorted))
    services = {}
    for index, name in enumerate(names):
        earlier = names[:index]
        job = draw(st.booleans()) and bool(names[index + 1 :])
        checked = not job and draw(st.booleans())
        depends = {}
        for target in draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []:
            other = services[target]
            condition = "service_started"
            if other.command:
                condition = "service_completed_successfully"
            elif other.healthcheck:
                condition = draw(st.sampled_from(["service_started", "service_healthy"]))
            depends[target] = Dependency(condition=condition, restart=draw(st.booleans()))
        shares = [
            n
            for n in depends
            if not services[n].network_mode and not services[n].command and services[n].scale == 1
        ]
        mode = f"service:{draw(st.sampled_from(shares))}" if shares and draw(st.booleans()) else ""
        keys = (
            []
            if mode
            else draw(st.lists(st.sampled_from(sorted(NETWORKS)), min_size=1, unique=True))
        )
        services[name] = Service(
            name=name,
            image=draw(st.sampled_from(["app:1", "app:2"])),
            command=("true",) if job else None,
            user=draw(st.sampled_from(["", "7"])),
            environment=draw(
                st.dictionaries(st.sampled_from(["A", "B_KEY"]), st.sampled_from(["", "1", "2"]))
            ),
            scale=1 if job else draw(st.integers(1, 3)),
            depends_on=depends,
            network_mode=mode,
            networks={key: Endpoint() for key in keys},
            healthcheck=Healthcheck(test=("CMD", "true")) if checked else None,
            deploy=None if job else draw(UPDATES),
            pre_start=draw(st.sampled_from([(), (PREPARE,), (PREPARE, REPLICA)])),
            volumes=tuple(
                VolumeMount(source=key, target=f"/{key or 'cache'}")
                for key in draw(st.lists(st.sampled_from(["data", "logs", ""]), unique=True))
            ),
        )
    # A job nobody waits for would be run by every up.
    waited = {t for s in services.values() for t in s.depends_on}
    for name, item in services.items():
        if item.command and name not in waited:
            last = services[names[-1]]
            if last.name == name:
                continue
            extra = {
                **last.depends_on,
                name: Dependency(condition="service_completed_successfully"),
            }
            fields = {f: getattr(last, f) for f in Service.__dataclass_fields__}
            services[last.name] = Service(**{**fields, "depends_on": extra})
    return Stack(
        name="shop",
        working_dir="/",
        services=services,
        networks=NETWORKS,
        volumes=VOLUMES,
        tree={"services": {}},
    )


def world() -> FakeEngine:
    engine = FakeEngine(images={"app:1": "sha256:one", "app:2": "sha256:two"})
    engine.create_network({"Name": "other", "Driver": "bridge", "Labels": {}})
    engine.create_volume({"Name": "other", "Labels": {}})
    return engine


def up(engine: FakeEngine, wanted: Stack, **options):
    plan = reconcile(wanted, observe(engine, "shop"), Options(relieves=True, **options))
    execute(plan, engine, stack=wanted)
    return plan


def check_order(plan) -> None:
    seen: set[str] = set()
    for operation in plan:
        assert set(operation.after) <= seen
        seen.add(operation.id)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=stacks(), second=stacks(), data=st.data())
def test_after_a_plan_is_carried_out_nothing_is_left_to_do(
    first: Stack, second: Stack, data
) -> None:
    engine = world()
    check_order(up(engine, first))
    assert str(reconcile(first, observe(engine, "shop"))) == ""
    names = sorted(item["Name"] for item in engine.containers.values())
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        drift = data.draw(
            st.sampled_from(
                [engine.remove_container, lambda n: engine.end(n, 137), engine.pause_container]
            )
        )
        with contextlib.suppress(ConflictError):  # only what runs can be paused
            drift(name)
    check_order(up(engine, second, remove_orphans=True))
    assert str(reconcile(second, observe(engine, "shop"))) == ""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wanted=stacks())
def test_down_leaves_only_what_is_not_ours(wanted: Stack) -> None:
    engine = world()
    up(engine, wanted)
    plan = destroy("shop", None, observe(engine, "shop"), DestroyOptions(volumes=True))
    check_order(plan)
    execute(plan, engine, stack=None)
    assert engine.containers == {}
    assert [item["Name"] for item in engine.networks.values()] == ["other"]
    assert list(engine.volumes) == ["other"]


CALLS = (
    "start_aside", "relieve_container", "drain_container",
    "create_container", "start_container", "stop_container", "remove_container",
    "rename_container", "create_network", "create_volume", "remove_network",
)  # fmt: skip


def cut_after(engine: FakeEngine, count: int, *, before: bool) -> None:
    """Let the engine fail for good at its ``count``-th change, ``before`` or after having made it."""
    left = [count]
    for name in CALLS:
        plain = getattr(engine, name)

        def call(*args, plain=plain, **options):
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and before):
                raise UnavailableError("the daemon is gone")
            answer = plain(*args, **options)
            if left[0] == 0:
                raise UnavailableError("the daemon is gone")
            return answer

        setattr(engine, name, call)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(first=stacks(), second=stacks(), count=st.integers(1, 40), before=st.booleans())
def test_an_up_cut_off_anywhere_is_finished_by_the_next_up_or_down(
    first, second, count, before
) -> None:
    engine = world()
    up(engine, first)
    cut_after(engine, count, before=before)
    with contextlib.suppress(StackctlError):
        up(engine, second, remove_orphans=True)
    for name in CALLS:
        vars(engine).pop(name)
    up(engine, second, remove_orphans=True)
    assert str(reconcile(second, observe(engine, "shop"))) == ""
    names = {item["Name"] for item in engine.containers.values()}
    assert names == {
        f"shop-{s.name}-{n}" for s in second.services.values() for n in range(1, s.scale + 1)
    }
    execute(destroy("shop", None, observe(engine, "shop")), engine, stack=None)
    assert engine.containers == {}
