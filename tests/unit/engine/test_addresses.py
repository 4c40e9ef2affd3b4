from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.contracts.state import Subnet
from stackctl.engine import addresses
from stackctl.errors import ForbiddenError, InvalidInputError

POOL = "10.201.0.0/16"


@given(st.integers(1, 60), st.lists(st.integers(0, 255), max_size=40))
def test_subnets_never_overlap_each_other_or_the_host_s(count: int, held: list[int]) -> None:
    host = [f"10.201.{number}.0/24" for number in held]
    chosen: list[str] = []
    for _ in range(count):
        chosen.append(addresses.pick_subnet(POOL, [*host, *chosen]))
    networks = [ip_network(text) for text in chosen]
    for position, network in enumerate(networks):
        assert network.subnet_of(ip_network(POOL))
        assert not any(network.overlaps(other) for other in networks[:position])
        assert not any(network.overlaps(ip_network(other)) for other in host)


def test_a_wide_host_route_is_stepped_over_but_a_default_route_is_not() -> None:
    assert addresses.pick_subnet(POOL, ["10.201.0.0/17"]) == "10.201.128.0/24"
    assert addresses.pick_subnet(POOL, ["0.0.0.0/0"]) == "10.201.0.0/24"


def test_a_full_pool_is_an_error_with_a_hint() -> None:
    with pytest.raises(ForbiddenError) as raised:
        addresses.pick_subnet(POOL, ["10.0.0.0/8"])
    assert raised.value.hint


@given(st.integers(1, 200))
def test_addresses_never_collide_and_stay_in_the_subnet(count: int) -> None:
    subnet = addresses.complete(Subnet(subnet="10.9.8.0/24"))
    taken: set[str] = set()
    for _ in range(count):
        address = addresses.pick_address(subnet, taken)
        assert address not in taken
        assert address not in (subnet.gateway, "10.9.8.0", "10.9.8.255")
        assert ip_address(address) in ip_network(subnet.subnet)
        taken.add(address)


def test_an_exhausted_subnet_is_an_error() -> None:
    subnet = addresses.complete(Subnet(subnet="10.9.8.0/30"))
    assert addresses.pick_address(subnet, set()) == "10.9.8.2"
    with pytest.raises(ForbiddenError, match="no available IPv4"):
        addresses.pick_address(subnet, {"10.9.8.2"})


def test_the_range_bounds_what_is_given_out_but_not_what_is_asked_for() -> None:
    subnet = addresses.complete(Subnet(subnet="10.9.8.0/24", ip_range="10.9.8.128/25"))
    assert addresses.pick_address(subnet, set()) == "10.9.8.128"
    assert addresses.check_static("10.9.8.5", [subnet], set()) == subnet


def test_auxiliary_addresses_are_kept_free() -> None:
    subnet = addresses.complete(
        Subnet(subnet="10.9.8.0/24", auxiliary_addresses={"router": "10.9.8.2"})
    )
    assert addresses.pick_address(subnet, set()) == "10.9.8.3"


@pytest.mark.parametrize("address", ["10.9.8.1", "10.9.8.0", "10.9.8.255", "10.9.8.7"])
def test_a_static_address_that_somebody_has_is_refused(address: str) -> None:
    subnet = addresses.complete(Subnet(subnet="10.9.8.0/24"))
    with pytest.raises(ForbiddenError, match="in use"):
        addresses.check_static(address, [subnet], {"10.9.8.7"})


def test_a_static_address_outside_every_subnet_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no configured subnet"):
        addresses.check_static("192.168.1.1", [Subnet(subnet="10.9.8.0/24")], set())


@pytest.mark.parametrize(
    "subnet",
    [
        Subnet(subnet="nonsense"),
        Subnet(subnet="10.0.0.0/31"),
        Subnet(subnet="10.0.0.0/24", gateway="10.0.1.1"),
        Subnet(subnet="10.0.0.0/24", ip_range="10.0.1.0/25"),
        Subnet(subnet="10.0.0.0/24", auxiliary_addresses={"a": "10.0.1.1"}),
    ],
)
def test_a_subnet_that_makes_no_sense_is_refused(subnet: Subnet) -> None:
    with pytest.raises(InvalidInputError):
        addresses.complete(subnet)


def test_overlapping_requests_are_refused_in_docker_s_words() -> None:
    with pytest.raises(ForbiddenError, match="Pool overlaps with other one"):
        addresses.check_free("10.0.0.0/16", ["10.0.5.0/24"])
    addresses.check_free("10.0.0.0/16", ["10.1.0.0/24", "fd00::/64"])


def test_ipv6_subnets_are_unique_local_and_distinct() -> None:
    first = addresses.pick_ipv6_subnet("a", [])
    assert first.startswith("fd")
    assert addresses.pick_ipv6_subnet("a", [first]) != first
    subnet = addresses.complete(Subnet(subnet=first))
    assert addresses.pick_address(subnet, set()).endswith("::2")


@given(st.text())
def test_hardware_addresses_are_local_unicast(seed: str) -> None:
    first = int(addresses.mac_address(seed).split(":")[0], 16)
    assert first & 0b11 == 0b10
