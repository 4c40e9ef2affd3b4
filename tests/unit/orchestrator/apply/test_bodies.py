import pytest

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.orchestrator.apply.bodies import (
    container_body,
    file_target,
    network_body,
    volume_body,
)
from stackctl.orchestrator.apply.inputs import content_of, read_inputs
from stackctl.orchestrator.apply.lock import project_lock, secret_key
from stackctl.orchestrator.model.deploy import Deploy, Resource, RestartPolicy
from stackctl.orchestrator.model.files import FileObject, FileReference
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.limits import Ulimit
from stackctl.orchestrator.model.mounts import BindMount, TmpfsMount, VolumeMount
from stackctl.orchestrator.model.network import Endpoint, Ipam, IpamPool, Network
from stackctl.orchestrator.model.ports import Port
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.plan import CreateContainer

STACK = Stack(
    name="shop",
    working_dir="/srv/shop",
    files=("/srv/shop/stack.yaml",),
    networks={
        "front": Network(key="front", name="shop_front"),
        "back": Network(key="back", name="shop_back"),
    },
    volumes={"data": Volume(key="data", name="shop_data")},
    secrets={"key": FileObject(key="key", name="shop_key", file="/srv/shop/key")},
    configs={"conf": FileObject(key="conf", name="shop_conf", content="x=1")},
    tree={"services": {}},
)


def body(*, inherited=(), one_network=False, **fields) -> dict:
    action = CreateContainer(
        name="shop-web-1",
        service="web",
        number=1,
        created_as="shop-web-1",
        image="app:1",
        inherited=inherited,
    )
    return container_body(
        STACK,
        Service(name="web", **fields),
        action,
        image_id="sha256:one",
        container_of=lambda name: f"id-of-{name}",
        inputs=Inputs(),
        one_network=one_network,
    )


def host(**fields) -> dict:
    return body(**fields)["HostConfig"]


def test_labels_tie_the_container_to_its_stack() -> None:
    found = body(depends_on={"db": Dependency(condition="service_healthy")}, labels={"mine": "1"})[
        "Labels"
    ]
    assert found["mine"] == "1"
    assert found["com.docker.compose.project"] == "shop"
    assert found["com.docker.compose.service"] == "web"
    assert found["com.docker.compose.container-number"] == "1"
    assert found["com.docker.compose.oneoff"] == "False"
    assert found["com.docker.compose.depends_on"] == "db:service_healthy:false"
    assert found["com.docker.compose.project.config_files"] == "/srv/shop/stack.yaml"
    assert found["com.docker.compose.image"] == "sha256:one"
    assert found["io.stackctl.fingerprint"].startswith("1:")


def test_an_absent_command_is_the_images_and_an_empty_one_clears_it() -> None:
    assert "Cmd" not in body()
    assert body(command=())["Cmd"] == []


def test_a_variable_without_a_value_is_not_passed() -> None:
    assert body(environment={"A": "1", "B": None})["Env"] == ["A=1"]


def test_ports_are_published_and_exposed() -> None:
    made = body(
        ports=(Port(target=80, published="8080", host_ip="127.0.0.1"),), expose=("90", "91-92/udp")
    )
    assert made["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    }
    assert set(made["ExposedPorts"]) == {"80/tcp", "90/tcp", "91/udp", "92/udp"}


def test_a_container_is_created_in_all_its_networks_by_priority() -> None:
    networks = {
        "back": Endpoint(),
        "front": Endpoint(priority=5, aliases=("www",), ipv4_address="10.0.0.9"),
    }
    made = body(networks=networks)
    endpoints = made["NetworkingConfig"]["EndpointsConfig"]
    assert list(endpoints) == ["shop_front", "shop_back"]
    assert made["HostConfig"]["NetworkMode"] == "shop_front"
    assert endpoints["shop_front"]["Aliases"] == ["shop-web-1", "web", "www"]
    assert endpoints["shop_front"]["IPAMConfig"] == {"IPv4Address": "10.0.0.9"}
    assert list(
        body(networks=networks, one_network=True)["NetworkingConfig"]["EndpointsConfig"]
    ) == ["shop_front"]


def test_a_shared_namespace_names_the_other_container() -> None:
    assert host(network_mode="service:db")["NetworkMode"] == "container:id-of-db"
    assert host(ipc="service:db", network_mode="none")["IpcMode"] == "container:id-of-db"
    assert host(volumes_from=("db:ro", "container:x"))["VolumesFrom"] == ["id-of-db:ro", "x"]


def test_mounts_take_the_names_of_the_engine() -> None:
    mounts = (
        VolumeMount(source="data", target="/data", nocopy=True),
        BindMount(source="/srv", target="/srv", read_only=True, propagation="rslave"),
        TmpfsMount(target="/t", size=1024),
    )
    assert host(volumes=mounts)["Mounts"] == [
        {
            "Type": "volume",
            "Target": "/data",
            "Source": "shop_data",
            "VolumeOptions": {"NoCopy": True},
        },
        {
            "Type": "bind",
            "Target": "/srv",
            "ReadOnly": True,
            "Source": "/srv",
            "BindOptions": {"CreateMountpoint": True, "Propagation": "rslave"},
        },
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024}},
    ]


def test_inherited_volumes_take_the_place_of_anonymous_ones() -> None:
    made = body(
        volumes=(VolumeMount(source="", target="/a"), VolumeMount(source="", target="/b")),
        inherited=(("/a", "v1"),),
    )
    assert made["HostConfig"]["Mounts"] == [{"Type": "volume", "Source": "v1", "Target": "/a"}]
    assert made["Volumes"] == {"/b": {}}


def test_a_secret_in_a_file_is_bound_read_only() -> None:
    found = host(secrets=(FileReference(source="key"),), configs=(FileReference(source="conf"),))[
        "Mounts"
    ]
    assert found == [
        {"Type": "bind", "Source": "/srv/shop/key", "Target": "/run/secrets/key", "ReadOnly": True}
    ]


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("secret", "", "/run/secrets/key"),
        ("secret", "x/y", "/run/secrets/x/y"),
        ("config", "", "/key"),
        ("config", "/etc/c", "/etc/c"),
    ],
)
def test_files_have_default_places(kind: str, target: str, expected: str) -> None:
    assert file_target(FileReference(source="key", target=target), kind=kind) == expected


def test_times_of_a_healthcheck_are_nanoseconds() -> None:
    check = Healthcheck(test=("CMD", "true"), interval=0.1, timeout=2, retries=0)
    assert body(healthcheck=check)["Healthcheck"] == {
        "Test": ["CMD", "true"], "Interval": 100_000_000, "Timeout": 2_000_000_000, "Retries": 0,
    }  # fmt: skip
    assert body(healthcheck=Healthcheck(disable=True))["Healthcheck"] == {"Test": ["NONE"]}


def test_limits_come_from_the_service_or_its_deployment() -> None:
    made = host(
        cpus=0.5,
        ulimits={"nofile": Ulimit(soft=1, hard=2)},
        mem_swappiness=0,
        deploy=Deploy(
            limits=Resource(memory=1024, pids=9),
            restart_policy=RestartPolicy(condition="on-failure", max_attempts=3),
        ),
    )
    assert made["NanoCpus"] == 500_000_000
    assert made["Memory"] == 1024
    assert made["PidsLimit"] == 9
    assert made["MemorySwappiness"] == 0
    assert made["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert made["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host(restart="on-failure:5")["RestartPolicy"] == {
        "Name": "on-failure",
        "MaximumRetryCount": 5,
    }


def test_networks_and_volumes_carry_their_fingerprint() -> None:
    pool = IpamPool(subnet="10.9.0.0/24", aux_addresses={"h": "10.9.0.5"})
    made = network_body(
        STACK, Network(key="n", name="shop_n", internal=True, ipam=Ipam(config=(pool,)))
    )
    assert made["IPAM"]["Config"] == [
        {"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"h": "10.9.0.5"}}
    ]
    assert made["Internal"]
    assert "io.stackctl.fingerprint" in made["Labels"]
    assert (
        volume_body(STACK, STACK.volumes["data"])["Labels"]["com.docker.compose.volume"] == "data"
    )


def test_inputs_are_digests_that_need_the_key(tmp_path) -> None:
    path = tmp_path / "key"
    path.write_text("hunter2")
    item = FileObject(key="key", name="k", file=str(path))
    service = Service(name="web", secrets=(FileReference(source="key"),))
    wanted = Stack(
        name="s", working_dir="/", services={"web": service}, secrets={"key": item}, tree={}
    )
    first = read_inputs(wanted, b"a").files["secret:key"]
    assert first != read_inputs(wanted, b"b").files["secret:key"]
    path.write_text("hunter3")
    assert first != read_inputs(wanted, b"a").files["secret:key"]
    path.unlink()
    with pytest.raises(NotFoundError, match=r"service 'web': secret 'key': .* is not there"):
        read_inputs(wanted, b"a")


def test_an_external_secret_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="secret 'x' is external"):
        content_of(FileObject(key="x", name="x", external=True), kind="secret", service="web")


def test_a_second_command_waits_for_the_lock_and_says_so(tmp_path) -> None:
    import threading

    waited, entered = threading.Event(), threading.Event()

    def second() -> None:
        with project_lock("shop", tmp_path, waiting=lambda name: waited.set()):
            entered.set()

    with project_lock("shop", tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(5)
        assert not entered.is_set()
    thread.join(5)
    assert entered.is_set()


def test_the_key_is_made_once_and_private(tmp_path) -> None:
    path = tmp_path / "deep" / "key"
    key = secret_key(path)
    assert len(key) == 32
    assert secret_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["key"]
