"""A container's network namespace from within: what is set up in it once, and its interfaces. Blocking calls."""

import os
from collections.abc import Mapping
from pathlib import Path

from stackctl.contracts.container import Endpoint
from stackctl.errors import NotFoundError
from stackctl.host import namespaces, netlink
from stackctl.host.nftables import nftables

# Where the keeper answers inside; port 53 stays free for programs that serve names themselves on all addresses.
RESOLVER_PORT = 61053
# Another network of the container may have had it made; what is deleted has to be there.
_RESOLVER = f"""
table ip stackctl-resolver
delete table ip stackctl-resolver
table ip stackctl-resolver {{
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.11 meta l4proto {{ tcp, udp }} th dport 53 dnat to 127.0.0.11:{RESOLVER_PORT}
  }}
}}
"""
_DEFAULTS = {
    # Each interface gets IPv6 only when its endpoint has an address. Hairpin mode brings a bridge port's own
    # neighbour solicitations back, which duplicate address detection takes for a second host.
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/ipv6/conf/default/accept_dad": "0",
    "net/ipv6/conf/default/accept_ra": "0",
    # As Docker: no privilege is needed for low ports and for ping.
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv4/ping_group_range": "0 2147483647",
}


def make(path: str, sysctls: Mapping[str, str]) -> None:
    """Make the namespace with loopback up; raises HostError."""

    def inside() -> None:
        for key, value in _DEFAULTS.items():
            if Path("/proc/sys", key).exists():
                netlink.write_sysctl(key, value)
        with netlink.Netlink() as own:
            own.run([netlink.link_up(index=1)])
        for key, value in sysctls.items():
            if key.startswith("net."):
                netlink.write_sysctl(key, value)

    namespaces.make_netns(path, inside)


def join(
    path: str,
    endpoint: Endpoint,
    *,
    link: str,
    label: str,
    bridge: str,
    mtu: int,
    default_route: bool,
) -> str:
    """Make the veth pair ``link`` between the bridge and the namespace, with addresses; return its name inside.

    With the first network that has names comes the way to the resolver. What is joined already stays as it is.
    """
    mac = mac_of(endpoint)
    inside = namespaces.in_netns(path, _links)
    known = next((found.name for found in inside if found.mac == mac), "")
    if known and netlink.index_of(link):
        return known
    taken = {found.name for found in inside}
    name = next(f"eth{n}" for n in range(len(taken) + 1) if f"eth{n}" not in taken)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netlink.Netlink() as host:
            pair = netlink.veth(
                link, peer=name, peer_netns=descriptor, peer_mac=mac,
                master=netlink.index_of(bridge), mtu=mtu,
            )  # fmt: skip
            if netlink.index_of(link):
                # Left from a former namespace, which the kernel takes apart in its own time.
                host.run([netlink.link_delete(link)])
            host.run([pair])
            host.run([netlink.hairpin(link), netlink.link_alias(link, label)])
    finally:
        os.close(descriptor)
    namespaces.in_netns(path, lambda: _configure(endpoint, name, default_route=default_route))
    return name


def route_by(path: str, endpoint: Endpoint) -> None:
    """Make the endpoint's gateways the default routes; raises NotFoundError when it is not joined."""

    def inside() -> None:
        mac = mac_of(endpoint)
        link = next((found for found in _links() if found.mac == mac), None)
        if link is None:
            raise NotFoundError(f"no interface of network {endpoint.network_name} in the container")
        with netlink.Netlink() as own:
            own.run([netlink.default_route_delete(family) for family in (2, 10)])
            own.run(_routes(endpoint, link.index))

    namespaces.in_netns(path, inside)


def mac_of(endpoint: Endpoint) -> str:
    """Return the endpoint's hardware address: the one asked for, else one made from its IPv4 address."""
    if endpoint.mac_address:
        return endpoint.mac_address.lower().replace("-", ":")
    if endpoint.ipv4_address:
        return "02:42:" + bytes(map(int, endpoint.ipv4_address.split("."))).hex(":")
    return "02:42:" + bytes.fromhex(endpoint.endpoint_id[:8].rjust(8, "0")).hex(":")


def _links() -> list[netlink.Link]:
    with netlink.Netlink() as own:
        return own.links()


def _configure(endpoint: Endpoint, name: str, *, default_route: bool) -> None:
    index = netlink.index_of(name)
    messages = [netlink.link_up(index=index)]
    if endpoint.ipv4_address:
        messages.append(netlink.address(endpoint.ipv4_address, endpoint.ipv4_prefix or 32, index))
    if endpoint.ipv6_address:
        netlink.write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0")
        messages.append(netlink.address(endpoint.ipv6_address, endpoint.ipv6_prefix or 128, index))
    # Docker, too, gives link-local addresses the whole link: 169.254.0.0/16, fe80::/64.
    messages += [
        netlink.address(text, 64 if ":" in text else 16, index) for text in endpoint.link_local_ips
    ]
    if default_route:
        messages += _routes(endpoint, index)
    with netlink.Netlink() as own:
        own.run(messages)
    if endpoint.dns_names:
        with nftables() as nft:
            nft.run(_RESOLVER)


def _routes(endpoint: Endpoint, index: int) -> list[netlink.Message]:
    gateways = (endpoint.gateway, endpoint.ipv6_gateway if endpoint.ipv6_address else "")
    return [netlink.default_route(gateway, index) for gateway in gateways if gateway]
