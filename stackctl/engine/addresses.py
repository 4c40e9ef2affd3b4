"""Subnet and address allocation; pure.

Subnets come from the engine's own pool, addresses from the lowest free one on. What is taken is an argument, so two
calls can only collide when the caller forgets to say what the first gave.
"""

import hashlib
from collections.abc import Collection, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)

from stackctl.contracts.state import Subnet
from stackctl.errors import ForbiddenError, InvalidInputError

SUBNET_PREFIX = 24
Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def parse_network(text: str) -> Network:
    """Return a subnet; raises InvalidInputError as Docker does. Host bits are allowed and dropped."""
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidInputError(f"invalid CIDR address: {text}") from error


def parse_address(text: str) -> Address:
    """Return an address; raises InvalidInputError."""
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidInputError(f"invalid IP address: {text}") from error


def pick_subnet(pool: str, taken: Iterable[str], *, prefix: int = SUBNET_PREFIX) -> str:
    """Return the first subnet of the pool that overlaps nothing taken; raises ForbiddenError when all are."""
    space = IPv4Network(pool)
    step = 1 << (32 - prefix)
    blocks = _ranges(taken, 4)
    start = int(space.network_address)
    end = int(space.broadcast_address)
    while start + step - 1 <= end:
        clash = next((last for first, last in blocks if first < start + step and last >= start), -1)
        if clash < 0:
            return f"{IPv4Address(start)}/{prefix}"
        # Go on at the next aligned block after the one that is in the way.
        start = (max(clash, start) // step + 1) * step
    raise ForbiddenError(
        f"all predefined address pools have been fully subnetted: {pool}",
        hint="Remove networks that are not used, or give the network a subnet of its own.",
    )


def pick_ipv6_subnet(seed: str, taken: Iterable[str]) -> str:
    """Return a unique local /64 (RFC 4193) made from the seed that overlaps nothing taken."""
    blocks = _ranges(taken, 6)
    for attempt in range(1000):
        digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()[:7]
        start = int.from_bytes(b"\xfd" + digest + bytes(8), "big")
        if not any(first < start + (1 << 64) and last >= start for first, last in blocks):
            return f"{IPv6Address(start)}/64"
    raise ForbiddenError("could not find an IPv6 subnet that is free")


def check_free(subnet: str, taken: Iterable[str]) -> None:
    """Raise ForbiddenError when a requested subnet overlaps another network's."""
    wanted = parse_network(subnet)
    for other in taken:
        held = parse_network(other)
        if held.version == wanted.version and held.overlaps(wanted):
            raise ForbiddenError(
                "invalid pool request: Pool overlaps with other one on this address space",
                hint=f"{subnet} overlaps {other}.",
            )


def complete(subnet: Subnet) -> Subnet:
    """Return the subnet with its gateway filled in (the first usable address); raises InvalidInputError."""
    network = parse_network(subnet.subnet)
    if network.num_addresses < 4:
        raise InvalidInputError(
            f"invalid subnet {subnet.subnet}: too small for a gateway and a container"
        )
    usable = _usable(subnet)
    first = next(iter(usable), None)
    if first is None:
        raise InvalidInputError(f"invalid subnet {subnet.subnet}: no address is left")
    if subnet.gateway and parse_address(subnet.gateway) not in network:
        raise InvalidInputError(f"no matching subnet for gateway {subnet.gateway}")
    if subnet.ip_range:
        part = parse_network(subnet.ip_range)
        if part.version != network.version or not part.subnet_of(network):  # type: ignore[arg-type]
            raise InvalidInputError(
                f"no matching subnet for range {subnet.ip_range}",
                hint=f"The range must lie within {subnet.subnet}.",
            )
    for name, text in subnet.auxiliary_addresses.items():
        if parse_address(text) not in network:
            raise InvalidInputError(f"no matching subnet for aux-address {text} ({name})")
    gateway = subnet.gateway or str(network.network_address + 1)
    return Subnet(
        subnet=str(network),
        gateway=gateway,
        ip_range=subnet.ip_range,
        auxiliary_addresses=subnet.auxiliary_addresses,
    )


def pick_address(subnet: Subnet, taken: Collection[str]) -> str:
    """Return the lowest free address of the subnet (of its ip_range); raises ForbiddenError when none is."""
    reserved = {*taken, subnet.gateway, *subnet.auxiliary_addresses.values()}
    for number in _usable(subnet):
        text = str(number)
        if text not in reserved:
            return text
    raise ForbiddenError(
        f"no available IPv{parse_network(subnet.subnet).version} addresses on this network's address pools: "
        f"{subnet.ip_range or subnet.subnet}"
    )


def check_static(address: str, subnets: Iterable[Subnet], taken: Collection[str]) -> Subnet:
    """Return the subnet that a requested address belongs to.

    Raises InvalidInputError when none has it, ForbiddenError when somebody has the address.
    """
    wanted = parse_address(address)
    for subnet in subnets:
        network = parse_network(subnet.subnet)
        if wanted.version != network.version or wanted not in network:
            continue
        edges = (network.network_address, network.broadcast_address)
        if str(wanted) in taken or str(wanted) == subnet.gateway or wanted in edges:
            raise ForbiddenError(f"Address already in use: {address}")
        return subnet
    raise InvalidInputError(
        f"invalid endpoint settings:\nno configured subnet contains IP address {address}"
    )


def contains(subnet: Subnet, address: str) -> bool:
    """Tell whether an address is of a subnet."""
    return parse_address(address) in parse_network(subnet.subnet)


def prefix_of(subnet: str) -> int:
    return parse_network(subnet).prefixlen


def is_ipv6(subnet: str) -> bool:
    return parse_network(subnet).version == 6


def mac_address(seed: str) -> str:
    """Return a locally administered unicast hardware address that always belongs to the seed."""
    digest = hashlib.sha256(seed.encode()).digest()[:6]
    return ":".join(f"{part:02x}" for part in bytes(((digest[0] & 0xFC) | 0x02, *digest[1:])))


def _usable(subnet: Subnet) -> Iterable[Address]:
    network = parse_network(subnet.subnet)
    part = parse_network(subnet.ip_range) if subnet.ip_range else network
    first, last = int(part.network_address), int(part.broadcast_address)
    edges = {int(network.network_address)}
    if network.version == 4:
        edges.add(int(network.broadcast_address))
    kind = IPv4Address if network.version == 4 else IPv6Address
    return (kind(number) for number in range(first, last + 1) if number not in edges)


def _ranges(taken: Iterable[str], version: int) -> list[tuple[int, int]]:
    networks = [network for text in taken if (network := parse_network(text)).version == version]
    if version == 4:
        merged: list[Network] = list(
            collapse_addresses(item for item in networks if isinstance(item, IPv4Network))
        )
    else:
        merged = list(
            collapse_addresses(item for item in networks if isinstance(item, IPv6Network))
        )
    # A default route would forbid everything and says nothing about who uses the addresses.
    return [
        (int(item.network_address), int(item.broadcast_address))
        for item in merged
        if item.prefixlen > 0
    ]
