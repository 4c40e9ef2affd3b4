"""Copies of a stack: what is theirs, what is shared, and what is said of it."""

from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.network import Endpoint, Ipam, IpamPool, Network
from stackctl.orchestrator.model.ports import Port
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning.isolation import Published, isolate, ports_env


def stack(*services: Service, networks=(), volumes=()) -> Stack:
    return Stack(
        name="shop-1a",
        working_dir="/shop",
        services={item.name: item for item in services},
        networks={item.key: item for item in networks},
        volumes={item.key: item for item in volumes},
        tree={"services": {}},
    )


def test_published_ports_become_any_free_ones_on_the_same_address():
    web = Service(name="web", ports=(Port(target=80, published="8080", host_ip="127.0.0.1"),))
    (port,) = isolate(stack(web), "shop").stack.services["web"].ports
    assert (port.target, port.published, port.host_ip) == (80, "", "127.0.0.1")


def test_a_fixed_container_name_is_the_copys_and_stays_an_alias():
    net = Network(key="back", name="shop-1a_back")
    db = Service(name="db", container_name="pg", networks={"back": Endpoint(aliases=("sql",))})
    side = Service(name="side", network_mode="container:pg", volumes_from=("container:pg:ro",))
    copy = isolate(stack(db, side, networks=[net]), "shop").stack.services
    assert copy["db"].container_name == "pg-shop-1a"
    assert copy["db"].networks["back"].aliases == ("sql", "pg")
    assert copy["side"].network_mode == "container:pg-shop-1a"
    assert copy["side"].volumes_from == ("container:pg-shop-1a:ro",)


def test_fixed_names_and_addresses_of_networks_and_volumes_are_let_go_and_external_ones_kept():
    fixed = Network(
        key="back",
        name="backbone",
        driver_opts={"com.docker.network.bridge.name": "br9", "x": "y"},
        ipam=Ipam(config=(IpamPool(subnet="10.9.0.0/24"),)),
    )
    outside = Network(key="out", name="corp", external=True)
    lan = Network(
        key="lan",
        name="lan",
        driver="macvlan",
        ipam=Ipam(config=(IpamPool(subnet="192.0.2.0/24"),)),
    )
    web = Service(
        name="web",
        networks={
            "back": Endpoint(ipv4_address="10.9.0.7"),
            "out": Endpoint(ipv4_address="172.31.0.7"),
            "lan": Endpoint(ipv4_address="192.0.2.7"),
        },
    )
    data = Volume(key="data", name="prod-data")
    shared = Volume(key="shared", name="cache", external=True)
    copy = isolate(stack(web, networks=[fixed, outside, lan], volumes=[data, shared]), "shop")
    back = copy.stack.networks["back"]
    assert (back.name, dict(back.driver_opts), back.ipam.config) == ("shop-1a_back", {"x": "y"}, ())
    assert copy.stack.networks["out"] == outside
    assert copy.stack.networks["lan"].ipam == lan.ipam
    addresses = {
        key: item.ipv4_address for key, item in copy.stack.services["web"].networks.items()
    }
    assert addresses == {"back": "", "out": "172.31.0.7", "lan": "192.0.2.7"}
    assert [item.name for item in copy.stack.volumes.values()] == ["shop-1a_data", "cache"]
    assert copy.notes == (
        "network back: its subnet is chosen anew in the copy",
        "network out is external: every copy is in corp",
        "network lan (macvlan) keeps its addresses",
        "volume shared is external: every copy uses cache",
    )


def test_images_are_built_once_under_the_stacks_own_name():
    web, db = Service(name="web", build=Build()), Service(name="db", image="postgres")
    copy = isolate(stack(web, db), "shop").stack.services
    assert (copy["web"].image, copy["db"].image) == ("shop-web", "postgres")


def test_the_hosts_network_is_told_of():
    web = Service(name="web", network_mode="host", ports=(Port(target=80, published="80"),))
    assert isolate(stack(web), "shop").notes == (
        "service web uses the host's network: its ports are not moved",
    )


def test_a_copy_of_a_copy_is_the_same_copy():
    web = Service(
        name="web", build=Build(), container_name="w", ports=(Port(target=80, published="80"),)
    )
    once = isolate(stack(web), "shop").stack
    assert isolate(stack(web), "shop").stack == once


def published(service: str, target: int, port: int, **fields) -> Published:
    given = {"number": 1, "protocol": "tcp", "host": "127.0.0.1", **fields}
    return Published(service=service, target=target, port=port, **given)


def test_ports_are_written_as_variables_that_name_the_stack_too():
    text = ports_env(
        "shop-1a",
        [
            published("web-app", 80, 1000),
            published("web-app", 80, 1001, host="::1"),
            published("web-app", 80, 1002, number=2),
            published("dns", 53, 1003, protocol="udp"),
        ],
    )
    assert text == (
        "COMPOSE_PROJECT_NAME=shop-1a\n"
        "DNS_HOST_53_UDP=127.0.0.1\nDNS_PORT_53_UDP=1003\n"
        "WEB_APP_HOST_80=127.0.0.1\nWEB_APP_PORT_80=1000\n"
        "WEB_APP_2_HOST_80=127.0.0.1\nWEB_APP_2_PORT_80=1002\n"
    )
