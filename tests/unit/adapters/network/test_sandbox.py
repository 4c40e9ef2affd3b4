from stackctl.adapters.network.sandbox import mac_of
from stackctl.contracts.container import Endpoint


def endpoint(**fields) -> Endpoint:
    return Endpoint(network_id="n", network_name="front", endpoint_id="ab12cd34ef", **fields)


def test_the_hardware_address_asked_for_is_used():
    assert mac_of(endpoint(mac_address="02-AA-00-00-00-01")) == "02:aa:00:00:00:01"


def test_a_hardware_address_follows_from_the_ipv4_address():
    assert mac_of(endpoint(ipv4_address="10.201.0.2")) == "02:42:0a:c9:00:02"


def test_without_one_it_follows_from_the_endpoint():
    assert mac_of(endpoint()) == "02:42:ab:12:cd:34"
