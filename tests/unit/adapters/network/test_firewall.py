from stackctl.adapters.network.firewall import (
    Publication,
    element_commands,
    network_elements,
    publication_elements,
    table_text,
)
from stackctl.contracts.container import PublishedPort
from stackctl.contracts.state import NetworkRecord, Subnet


def network(**fields) -> NetworkRecord:
    values = {"id": "n", "name": "front", "created": 0.0, "bridge": "sk-b0",
              "subnets": (Subnet(subnet="10.201.0.0/24"), Subnet(subnet="fd00::/64")), **fields}  # fmt: skip
    return NetworkRecord(**values)


def published(host_ip: str, **fields) -> Publication:
    port = PublishedPort(container_port=80, protocol="tcp", host_ip=host_ip, host_port=8080)
    return Publication(port=port, **{"ipv4_address": "10.201.0.2", **fields})


def test_a_network_is_known_by_its_bridge_and_its_subnets():
    assert network_elements(network()) == {
        "bridges": ['"sk-b0"'],
        "same": ['"sk-b0" . "sk-b0"'],
        "hairpin4": ['"sk-b0" . 10.201.0.0/24'],
        "guarded4": ["10.201.0.0/24"],
        "hidden4": ["10.201.0.0/24"],
        "hidden6": ["fd00::/64"],
        "hairpin6": ['"sk-b0" . fd00::/64'],
        "guarded6": ["fd00::/64"],
    }


def test_an_internal_network_is_marked():
    assert network_elements(network(internal=True))["internal"] == ['"sk-b0"']


def test_containers_are_kept_apart_on_request():
    options = {"com.docker.network.bridge.enable_icc": "false"}
    assert "same" not in network_elements(network(options=options))


def test_a_routed_network_is_neither_hidden_nor_guarded():
    options = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert not {"guarded4", "guarded6"} & network_elements(network(options=options)).keys()


def test_a_gateway_mode_is_its_family_s_alone():
    options = {
        "com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected",
        "com.docker.network.bridge.gateway_mode_ipv6": "routed",
    }
    elements = network_elements(network(options=options))
    assert (elements["unprotected4"], elements["routed6"]) == (['"sk-b0"'], ['"sk-b0"'])
    assert elements["hidden4"] == ["10.201.0.0/24"]
    assert not {"guarded4", "guarded6", "hidden6", "routed4", "unprotected6"} & elements.keys()


def test_a_port_without_one_on_the_host_is_opened_at_the_container():
    port = PublishedPort(container_port=53, protocol="udp", host_ip="0.0.0.0", host_port=0)
    assert publication_elements([Publication(port=port, ipv4_address="10.201.0.2")]) == {
        "open4": ["10.201.0.2 . udp . 53"]
    }


def test_a_port_on_all_addresses_is_keyed_by_the_port_alone():
    assert publication_elements([published("0.0.0.0")]) == {
        "pub4": ["tcp . 8080 : 10.201.0.2 . 80"]
    }


def test_a_port_on_one_address_is_keyed_by_the_address_too():
    assert publication_elements([published("127.0.0.1")]) == {
        "pub4at": ["127.0.0.1 . tcp . 8080 : 10.201.0.2 . 80"]
    }


def test_an_ipv6_port_is_translated_for_a_container_with_ipv6_only():
    assert publication_elements([published("::")]) == {}
    assert publication_elements([published("::", ipv6_address="fd00::2")]) == {
        "pub6": ["tcp . 8080 : fd00::2 . 80"]
    }


def test_the_ipv6_loopback_is_left_to_the_proxy():
    assert publication_elements([published("::1", ipv6_address="fd00::2")]) == {}


def test_commands_name_one_set_a_line():
    text = element_commands("add", "stackctl-x", {"b": ["1", "2"], "a": ["3"]})
    assert text == ("add element inet stackctl-x a { 3 }\nadd element inet stackctl-x b { 1, 2 }\n")


def test_a_table_is_replaced_in_one_transaction():
    text = table_text("stackctl-x", [network()], [published("0.0.0.0")])
    assert text.startswith("add table inet stackctl-x\ndelete table inet stackctl-x\n")
    assert text.endswith("add element inet stackctl-x pub4 { tcp . 8080 : 10.201.0.2 . 80 }\n")
