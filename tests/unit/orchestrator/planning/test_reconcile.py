import pytest

from stackctl.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.observe import observe
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.files import FileObject, FileReference
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.mounts import BindMount, VolumeMount
from stackctl.orchestrator.model.network import Endpoint, Network
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning.destroy import destroy
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.observed import Observed
from stackctl.orchestrator.planning.options import DestroyOptions, Options
from stackctl.orchestrator.planning.reconcile import reconcile
from tests.fakes.engine import FakeEngine

HEALTHY = Dependency(condition="service_healthy")
COMPLETED = Dependency(condition="service_completed_successfully")
NOTHING = Inputs()
CHECK = Healthcheck(test=("CMD", "true"))


def service(name: str, **fields) -> Service:
    given = {"image": "app:1", "networks": {"default": Endpoint()}, **fields}
    if "network_mode" in given:
        given["networks"] = {}
    return Service(name=name, **given)


def stack(*services: Service, volumes=(), networks=(), **fields) -> Stack:
    every = {"default": Network(key="default", name="shop_default")}
    every |= {item.key: item for item in networks}
    return Stack(
        name="shop",
        working_dir="/shop",
        services={item.name: item for item in services},
        networks=every,
        volumes={item.key: item for item in volumes},
        tree={"services": {}},
        **fields,
    )


def engine() -> FakeEngine:
    return FakeEngine(images={"app:1": "sha256:one"})


def up(world: FakeEngine, wanted: Stack, *, inputs: Inputs = NOTHING, **options):
    plan = reconcile(wanted, observe(world, wanted.name), Options(**options), inputs=inputs)
    execute(plan, world, stack=wanted, inputs=inputs)
    return plan


def plan_of(world: FakeEngine, wanted: Stack, *, inputs: Inputs = NOTHING, **options):
    return reconcile(wanted, observe(world, wanted.name), Options(**options), inputs=inputs)


def ids(plan) -> list[str]:
    return [item.id for item in plan]


def test_a_new_stack_is_created_from_its_networks_up() -> None:
    plan = reconcile(stack(service("web")), Observed(), Options())
    assert plan.order() == (
        "pull image app:1\n"
        "create network shop_default\n"
        "create container shop-web-1 <- pull image app:1, create network shop_default\n"
        "start container shop-web-1 <- create container shop-web-1"
    )


def test_a_second_up_plans_nothing() -> None:
    world, wanted = (
        engine(),
        stack(service("db", healthcheck=CHECK), service("web", depends_on={"db": HEALTHY})),
    )
    up(world, wanted)
    plan = plan_of(world, wanted)
    assert str(plan) == ""
    assert not plan.has_changes


def test_a_dependency_that_must_be_healthy_is_waited_for() -> None:
    wanted = stack(service("web", depends_on={"db": HEALTHY}), service("db", healthcheck=CHECK))
    plan = plan_of(engine(), wanted)
    assert (
        "start container shop-web-1 <- create container shop-web-1, wait service db to be healthy"
        in plan.order()
    )
    assert "wait service db to be healthy <- start container shop-db-1" in plan.order()


def test_creation_does_not_wait_for_dependencies() -> None:
    wanted = stack(service("web", depends_on={"db": HEALTHY}), service("db", healthcheck=CHECK))
    assert (
        "create container shop-web-1 <- create network shop_default\n"
        in plan_of(engine(), wanted).order()
    )


def test_a_changed_service_recreates_only_itself_and_says_why() -> None:
    world = engine()
    up(world, stack(service("db"), service("web", environment={"LEVEL": "info"})))
    plan = plan_of(world, stack(service("db"), service("web", environment={"LEVEL": "debug"})))
    old = world._find("shop-web-1")["Id"][:12]
    assert ids(plan) == [
        "create container shop-web-1",
        "stop container shop-web-1",
        "remove container shop-web-1",
        "rename container shop-web-1",
        "start container shop-web-1",
    ]
    assert str(plan).startswith(
        '+ create container shop-web-1: definition changed\n      environment.LEVEL: "info" -> "debug"\n'
    )
    execute(plan, world, stack=stack(service("db"), service("web", environment={"LEVEL": "debug"})))
    assert f"create {old}_shop-web-1" in world.calls
    assert {item["Name"] for item in world.containers.values()} == {"shop-web-1", "shop-db-1"}


def test_secret_values_are_not_shown() -> None:
    world = engine()
    up(
        world,
        stack(service("web", environment={"DB_PASSWORD": "hunter2"})),
        inputs=Inputs(key=b"k"),
    )
    plan = plan_of(
        world,
        stack(service("web", environment={"DB_PASSWORD": "hunter3"})),
        inputs=Inputs(key=b"k"),
    )
    assert plan.has_changes
    assert "hunter" not in str(plan) + str(plan.to_json()) + str(
        world._find("shop-web-1")["Labels"]
    )


def test_content_of_a_secret_counts() -> None:
    world = engine()
    wanted = stack(
        service("web", secrets=(FileReference(source="key"),)),
        secrets={"key": FileObject(key="key", name="shop_key", content="x")},
    )
    up(world, wanted, inputs=Inputs(key=b"k", files={"secret:key": "11"}))
    assert not plan_of(
        world, wanted, inputs=Inputs(key=b"k", files={"secret:key": "11"})
    ).has_changes
    plan = plan_of(world, wanted, inputs=Inputs(key=b"k", files={"secret:key": "22"}))
    assert "secrets.key.content" in str(plan)


def test_what_shares_a_namespace_follows() -> None:
    world = engine()
    side = service("side", network_mode="service:web")
    up(world, stack(service("web"), side))
    changed = stack(service("web", user="7"), side)
    plan = plan_of(world, changed)
    assert (
        "+ create container shop-side-1: shares the network namespace of web, which is recreated"
        in str(plan)
    )
    execute(plan, world, stack=changed)
    assert not plan_of(world, changed).has_changes


def test_dependents_with_restart_are_restarted_when_their_dependency_changes() -> None:
    world = engine()
    web = service("web", depends_on={"db": Dependency(restart=True)})
    up(world, stack(service("db"), web))
    plan = plan_of(world, stack(service("db", user="7"), web))
    order = ids(plan)
    assert order.index("stop container shop-web-1") < order.index("stop container shop-db-1")
    assert order.index("start container shop-db-1") < order.index("start container shop-web-1")
    assert "remove container shop-web-1" not in order


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        (lambda world: world.end("shop-web-1", 1), "~ start container shop-web-1: not running (exited with code 1)"),
        (lambda world: world.remove_container("shop-web-1"), "+ create container shop-web-1: not there"),
        (lambda world: world.pause_container("shop-web-1"), "~ unpause container shop-web-1: was paused"),
        (lambda world: world.disconnect_network("shop_default", "shop-web-1"), "~ connect container shop-web-1 to shop_default: was disconnected"),
        (lambda world: world.images.update({"app:1": "sha256:two"}), "+ create container shop-web-1: image changed"),
        (lambda world: world.volumes.pop("shop_data"), "+ create volume shop_data: not there"),
        (lambda world: world._find("shop-web-1")["Mounts"].clear(), "+ create container shop-web-1: mounts changed"),
        (lambda world: world._find("shop-web-1")["Networks"].update(shop_default="other"), "+ create container shop-web-1: network shop_default is another one now"),
    ],
)  # fmt: skip
def test_drift_is_seen_and_repaired(drift, expected: str) -> None:
    world = engine()
    wanted = stack(
        service("web", volumes=(VolumeMount(source="data", target="/data"),)),
        volumes=(Volume(key="data", name="shop_data"),),
    )
    up(world, wanted)
    drift(world)
    plan = plan_of(world, wanted)
    assert expected in str(plan)
    execute(plan, world, stack=wanted)
    assert not plan_of(world, wanted).has_changes


def test_a_finished_job_that_others_wait_for_is_not_run_again() -> None:
    world = engine()
    wanted = stack(
        service("migrate", command=("true",)), service("web", depends_on={"migrate": COMPLETED})
    )
    up(world, wanted)
    assert not plan_of(world, wanted).has_changes
    changed = stack(
        service("migrate", command=("true",), user="7"),
        service("web", depends_on={"migrate": COMPLETED}),
    )
    assert "start container shop-migrate-1" in ids(plan_of(world, changed))


def test_orphans_are_named_and_removed_on_request_only() -> None:
    world = engine()
    up(world, stack(service("web"), service("old")))
    plan = plan_of(world, stack(service("web")))
    assert (plan.orphans, plan.has_changes) == (("shop-old-1",), False)
    plan = up(world, stack(service("web")), remove_orphans=True)
    assert ids(plan) == ["stop container shop-old-1", "remove container shop-old-1"]


def test_scaling_down_removes_the_highest_numbers() -> None:
    world = engine()
    up(world, stack(service("web", scale=3)))
    plan = up(world, stack(service("web", scale=3)), scale={"web": 1})
    assert "remove container shop-web-2" in ids(plan)
    assert "remove container shop-web-3" in ids(plan)
    assert [item["Name"] for item in world.containers.values()] == ["shop-web-1"]


def test_scaling_down_removes_outdated_containers_first() -> None:
    world = engine()
    up(world, stack(service("web", scale=2)))
    world._find("shop-web-1")["Labels"]["io.stackctl.fingerprint"] = "1:old"
    assert "remove container shop-web-1" in ids(plan_of(world, stack(service("web", scale=1))))


def test_an_interrupted_exchange_is_finished_by_the_next_up() -> None:
    world, wanted = engine(), stack(service("web", user="7"))
    up(world, stack(service("web")))
    plan = plan_of(world, wanted)
    world.fail["rename shop-web-1"] = ConflictError("the daemon went away")
    with pytest.raises(ConflictError, match="the daemon went away"):
        execute(plan, world, stack=wanted)
    world.fail.clear()
    assert len(world.containers) == 1
    plan = up(world, wanted)
    assert "~ rename container shop-web-1: left over from an interrupted change" in str(plan)
    assert not plan_of(world, wanted).has_changes


def test_anonymous_volumes_are_kept_unless_renewed() -> None:
    world = engine()
    mounts = (VolumeMount(source="", target="/cache"),)
    up(world, stack(service("web", volumes=mounts)))
    before = world._find("shop-web-1")["Mounts"][0]["Name"]
    up(world, stack(service("web", volumes=mounts, user="7")))
    assert world._find("shop-web-1")["Mounts"][0]["Name"] == before
    up(world, stack(service("web", volumes=mounts, user="8")), renew_anon_volumes=True)
    assert world._find("shop-web-1")["Mounts"][0]["Name"] != before
    assert before not in world.volumes


def test_a_changed_volume_destroys_data_and_says_so() -> None:
    world = engine()
    web = service("web", volumes=(VolumeMount(source="data", target="/data"),))
    up(world, stack(web, volumes=(Volume(key="data", name="shop_data"),)))
    changed = stack(
        web, volumes=(Volume(key="data", name="shop_data", driver_opts={"type": "tmpfs"}),)
    )
    plan = plan_of(world, changed)
    assert plan.destroys_data
    assert not plan_of(world, changed, keep_volumes=True).has_changes
    execute(plan, world, stack=changed)
    assert not plan_of(world, changed).has_changes


def test_a_changed_network_is_made_anew_with_its_containers() -> None:
    world = engine()
    up(world, stack(service("web"), service("db")))
    internal = Network(key="default", name="shop_default", internal=True)
    changed = stack(service("web"), service("db"), networks=(internal,))
    plan = up(world, changed, services=("web",), no_deps=True)
    assert "disconnect container shop-db-1 from shop_default" in ids(plan)
    assert not plan_of(world, changed).has_changes


def test_a_build_that_gives_the_same_image_recreates_nothing() -> None:
    world = engine()
    wanted = stack(service("web", image="", build=Build(context="https://example.invalid/x.git")))
    up(world, wanted)
    identity = world._find("shop-web-1")["Id"]
    plan = up(world, wanted, build=True)
    assert (
        "create container shop-web-1: its image is pulled or built (if the image changes)"
        in str(plan)
    )
    assert world._find("shop-web-1")["Id"] == identity
    world.registry["shop-web"] = "sha256:newer"
    up(world, wanted, build=True)
    assert world._find("shop-web-1")["Id"] != identity
    assert not plan_of(world, wanted).has_changes


def test_an_image_that_one_service_builds_and_another_uses_is_built() -> None:
    wanted = stack(
        service("a", image="mine"), service("b", image="mine", build=Build(context="/x"))
    )
    assert ids(plan_of(engine(), wanted))[0] == "build image mine"
    assert "pull image mine" not in ids(plan_of(engine(), wanted))


def test_force_recreate_leaves_dependencies_alone() -> None:
    world, wanted = engine(), stack(service("db"), service("web", depends_on={"db": Dependency()}))
    up(world, wanted)
    plan = plan_of(world, wanted, services=("web",), force_recreate=True)
    assert {item.action.name for item in plan} == {"shop-web-1"}


def test_no_start_creates_only() -> None:
    assert not any(
        item.action.verb == "start"
        for item in plan_of(engine(), stack(service("web")), no_start=True)
    )


def test_hooks_run_after_the_start_and_before_the_stop() -> None:
    wanted = stack(
        service("web", post_start=(Hook(command=("warm",)),), pre_stop=(Hook(command=("drain",)),))
    )
    assert (
        "run hook container shop-web-1 post_start 1 <- start container shop-web-1"
        in plan_of(engine(), wanted).order()
    )
    world = engine()
    world.create_exec = lambda container, body: "x"
    world.start_exec = lambda identity: iter(())
    world.inspect_exec = lambda identity: {"ExitCode": 0}
    up(world, wanted)
    down = destroy("shop", wanted, observe(world, "shop"))
    assert "stop container shop-web-1 <- run hook container shop-web-1 pre_stop 1" in down.order()


def test_a_cycle_is_named() -> None:
    wanted = stack(service("a", depends_on={"b": HEALTHY}), service("b", depends_on={"a": HEALTHY}))
    with pytest.raises(InvalidInputError, match=r"dependency cycle: (a -> b -> a|b -> a -> b)"):
        reconcile(wanted, Observed(), Options())


def test_an_unknown_service_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(NotFoundError) as caught:
        reconcile(stack(service("web")), Observed(), Options(services=("wbe",)))
    assert caught.value.hint == "Did you mean 'web'?"


def test_a_missing_external_network_is_an_error() -> None:
    wanted = stack(service("web"), networks=(Network(key="default", name="lan", external=True),))
    with pytest.raises(NotFoundError, match="network 'lan' is external"):
        reconcile(wanted, Observed(), Options())


def test_a_bind_mount_that_is_as_asked_for_is_no_drift() -> None:
    world, wanted = (
        engine(),
        stack(service("web", volumes=(BindMount(source="/srv", target="/srv/"),))),
    )
    up(world, wanted)
    assert not plan_of(world, wanted).has_changes


def test_down_removes_dependents_first_also_without_a_stack_file() -> None:
    world = engine()
    up(world, stack(service("db"), service("web", depends_on={"db": Dependency()})))
    plan = destroy("shop", None, observe(world, "shop"))
    assert "stop container shop-db-1 <- stop container shop-web-1" in plan.order()
    execute(plan, world, stack=None)
    assert (world.containers, world.networks) == ({}, {})


def test_down_keeps_volumes_unless_told() -> None:
    world = engine()
    wanted = stack(
        service("web", volumes=(VolumeMount(source="data", target="/data"),)),
        volumes=(Volume(key="data", name="shop_data"),),
    )
    up(world, wanted)
    assert not destroy("shop", wanted, observe(world, "shop")).destroys_data
    plan = destroy(
        "shop", wanted, observe(world, "shop"), DestroyOptions(volumes=True, images="all")
    )
    assert plan.destroys_data
    execute(plan, world, stack=wanted)
    assert (world.containers, world.volumes, world.images) == ({}, {}, {})


def test_down_of_one_service_keeps_the_network_of_the_others() -> None:
    world = engine()
    wanted = stack(service("db"), service("web"))
    up(world, wanted)
    plan = destroy("shop", wanted, observe(world, "shop"), DestroyOptions(services=("web",)))
    assert ids(plan) == ["stop container shop-web-1", "remove container shop-web-1"]


def test_down_leaves_a_network_that_others_use() -> None:
    world = engine()
    up(world, stack(service("web")))
    plan = destroy("shop", None, observe(world, "shop"))
    world.fail["remove network shop_default"] = ForbiddenError("it has active endpoints")
    result = execute(plan, world, None)
    assert result.warnings == ("network shop_default stays: it has active endpoints",)


def test_a_network_of_another_owner_is_used_and_named() -> None:
    world = engine()
    world.create_network({"Name": "shop_default", "Driver": "bridge", "Labels": {}})
    plan = up(world, stack(service("web")))
    assert plan.warnings == (
        "network 'shop_default' was not made for this stack; it is used as it is",
    )
    assert "shop_default" not in str(destroy("shop", None, observe(world, "shop")))


def test_the_diff_of_a_definition_shows_no_secret():
    engine = FakeEngine(images={"app:1": "sha256:a"})

    def wanted(password: str) -> Stack:
        environment = {
            "DATABASE_URL": f"postgres://app:{password}@db/app",
            "API_TOKEN": password,
            "LEVEL": password.upper(),
        }
        return stack(service("web", environment=environment))

    execute(
        reconcile(wanted("one"), Observed(images=observe(engine, "shop").images)),
        engine,
        stack=wanted("one"),
    )
    text = str(reconcile(wanted("two"), observe(engine, "shop")))
    assert 'environment.LEVEL: "ONE" -> "TWO"' in text
    assert '"postgres://app:***@db/app" -> "postgres://app:***@db/app" (another secret)' in text
    assert "environment.API_TOKEN: (secret " in text
    assert "one" not in text
    assert "two" not in text
