"""NetworkDriver on Linux bridges: namespaces, veth pairs, the packet filter and published ports."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stackctl.adapters.network import sandbox
from stackctl.adapters.network.firewall import (
    Firewall,
    Publication,
    network_elements,
    publication_elements,
)
from stackctl.adapters.network.keeper import PortKeeper
from stackctl.contracts.container import Endpoint, PortBinding, PublishedPort
from stackctl.contracts.network import NetworkState
from stackctl.contracts.state import NetworkRecord
from stackctl.errors import ConflictError, HostError, UnsupportedError
from stackctl.host import conntrack, namespaces, netlink
from stackctl.paths import EnginePaths

_MTU = "com.docker.network.driver.mtu"
_NAME_LIMIT = 15
_LINKS_GONE = 0.5  # seconds in which the kernel takes the links of a removed namespace along
_WITHOUT_BRIDGE = ("host", "null")
_EVERYWHERE = {4: "0.0.0.0", 6: "::"}
_log = logging.getLogger(__name__)


class BridgeNetworks:
    """Implements contracts.network.NetworkDriver for one engine."""

    def __init__(self, paths: EnginePaths, ports: PortKeeper) -> None:
        self._paths = paths
        self._ports = ports
        self._firewall = Firewall(paths.nft_table, paths.bridge_prefix)
        self._networks: dict[str, NetworkRecord] = {}
        self._published: dict[str, list[Publication]] = {}
        self._links: dict[str, set[str]] = {}  # by container
        self._parting: set[int] = set()  # indexes of links whose namespaces were removed
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        namespaces.prepare_directory(str(self._paths.netns))
        netlink.write_sysctl("net/ipv4/ip_forward", "1")
        if not self._firewall.exists():
            self._firewall.replace([], [])
        self._firewall.accept_beside_others()

    async def stop(self) -> None:
        await self.finish()
        await asyncio.to_thread(self._firewall.remove)
        await asyncio.to_thread(namespaces.release_directory, str(self._paths.netns))
        self._networks.clear()
        self._published.clear()

    async def create_network(self, network: NetworkRecord) -> None:
        if network.driver in _WITHOUT_BRIDGE:
            return
        _require_bridge(network)
        await asyncio.to_thread(self._make_bridge, network)
        await asyncio.to_thread(self._firewall.add, network_elements(network))
        await asyncio.to_thread(self._firewall.accept_beside_others)
        self._networks[network.id] = network

    async def remove_network(self, network: NetworkRecord) -> None:
        if network.driver != "bridge":
            return
        self._networks.pop(network.id, None)
        await asyncio.to_thread(self._remove_bridge, network.bridge)
        await asyncio.to_thread(self._firewall.delete, network_elements(network))

    async def networks(self) -> Sequence[str]:
        return await asyncio.to_thread(self._own_bridges)

    async def host_subnets(self) -> Sequence[str]:
        return await asyncio.to_thread(self._host_subnets)

    async def create_sandbox(
        self, container_id: str, sysctls: Mapping[str, str] | None = None
    ) -> Path:
        path = self.sandbox_path(container_id)
        if not namespaces.is_netns(str(path)):
            await asyncio.to_thread(sandbox.make, str(path), sysctls or {})
        return path

    async def remove_sandbox(self, container_id: str) -> None:
        links = self._links.pop(container_id, set())
        self._parting.update(filter(None, map(netlink.index_of, links)))
        await asyncio.to_thread(namespaces.remove_netns, str(self.sandbox_path(container_id)))
        if self._parting and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep(), name="sweep links")

    async def finish(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        parting = frozenset(self._parting)
        end = time.monotonic() + _LINKS_GONE
        while any(map(netlink.is_index, parting)) and time.monotonic() < end:
            await asyncio.sleep(0.01)
        await self._delete_parting(parting)

    async def _sweep(self) -> None:
        """Remove the links that the kernel does not take along with their namespaces.

        It does in a moment, in its own time; but a TCP connection whose other end went first keeps a namespace that
        nobody has any more for up to two minutes, and the link with it.
        """
        while parting := frozenset(self._parting):
            await asyncio.sleep(_LINKS_GONE)
            await self._delete_parting(parting)

    async def _delete_parting(self, parting: frozenset[int]) -> None:
        left = [index for index in parting if netlink.is_index(index)]
        if left:
            await asyncio.to_thread(_delete_links, left)
        self._parting -= parting

    async def sandboxes(self) -> Sequence[str]:
        try:
            return sorted(entry.name for entry in self._paths.netns.iterdir())
        except FileNotFoundError:
            return []

    def sandbox_path(self, container_id: str) -> Path:
        return self._paths.netns / container_id

    async def connect(
        self, container_id: str, network: NetworkRecord, endpoint: Endpoint, *, default_route: bool
    ) -> str:
        _require_bridge(network)

        link = self._link(endpoint)
        self._links.setdefault(container_id, set()).add(link)

        def join() -> str:
            return sandbox.join(
                str(self.sandbox_path(container_id)),
                endpoint,
                link=link,
                label=self._paths.nft_table,
                bridge=network.bridge,
                mtu=_mtu(network),
                # An internal network has no way out.
                default_route=default_route and not network.internal,
            )

        return await asyncio.to_thread(join)

    async def disconnect(
        self, container_id: str, network: NetworkRecord, endpoint: Endpoint
    ) -> None:
        del network  # the link is the endpoint's own
        link = self._link(endpoint)
        self._links.get(container_id, set()).discard(link)
        await asyncio.to_thread(_delete_link, link)

    async def set_default_route(self, container_id: str, endpoint: Endpoint) -> None:
        path = str(self.sandbox_path(container_id))
        await asyncio.to_thread(sandbox.route_by, path, endpoint)

    async def publish(
        self, container_id: str, endpoint: Endpoint, ports: Sequence[PortBinding]
    ) -> Sequence[PublishedPort]:
        if not ports:
            return []
        former = self._published.get(container_id, [])
        published = await self._reserve(container_id, endpoint, ports)
        publications = [_publication(port, endpoint) for port in published]
        try:
            await asyncio.to_thread(self._firewall.add, publication_elements(publications))
            # A client that sent packets meanwhile has flows that would go past the new translation.
            await asyncio.to_thread(_forget, publications)
        except BaseException:
            if not former:
                await self._ports.release(container_id)
            raise
        self._published[container_id] = [
            *former, *(entry for entry in publications if entry not in former)
        ]  # fmt: skip
        return published

    async def hand_over(
        self, donor_id: str, container_id: str, endpoint: Endpoint, ports: Sequence[PortBinding]
    ) -> Sequence[PublishedPort]:
        if not ports:
            return []
        donated = self._published.get(donor_id, [])
        published = await self._reserve(container_id, endpoint, ports, donor=donor_id)
        publications = [_publication(port, endpoint) for port in published]
        places = {_place(port) for port in published}
        given = [entry for entry in donated if _place(entry.port) in places]
        try:
            await asyncio.to_thread(
                self._firewall.exchange,
                publication_elements(given), publication_elements(publications),
            )  # fmt: skip
            await asyncio.to_thread(_forget, publications)
        except BaseException:
            bindings = [_binding(entry.port) for entry in given if entry.port.host_port]
            if bindings:
                await self._ports.reserve(
                    donor_id, bindings, given[0].ipv4_address, given[0].ipv6_address, donor=container_id
                )  # fmt: skip
            await self._ports.release(container_id)
            raise
        self._published[container_id] = publications
        left = [entry for entry in donated if entry not in given]
        if left:
            self._published[donor_id] = left
        else:
            self._published.pop(donor_id, None)
        return published

    async def _reserve(
        self,
        container_id: str,
        endpoint: Endpoint,
        ports: Sequence[PortBinding],
        *,
        donor: str = "",
    ) -> list[PublishedPort]:
        """Hold host ports; a family that is routed has none, its ports are opened at the container's address."""
        network = self._networks.get(endpoint.network_id)
        has = {4: endpoint.ipv4_address, 6: endpoint.ipv6_address}
        routed = {
            version
            for version in (4, 6)
            if network and has[version] and network.gateway_mode(ipv6=version == 6) == "routed"
        }
        held = [item for port in ports for item in _without(port, routed)]
        opened = [item for port in ports for item in _opened(port, routed)]
        if not held:
            return opened
        return [
            *opened,
            *await self._ports.reserve(
                container_id, held, endpoint.ipv4_address, endpoint.ipv6_address, donor=donor
            ),
        ]

    async def unpublish(self, container_id: str) -> None:
        publications = self._published.pop(container_id, [])
        if publications:
            await asyncio.to_thread(self._firewall.delete, publication_elements(publications))
            await asyncio.to_thread(_forget, publications)
        await self._ports.release(container_id)

    async def restore(
        self, networks: Sequence[NetworkRecord], containers: Sequence[NetworkState]
    ) -> None:
        bridged = [network for network in networks if network.driver == "bridge" and network.bridge]
        for network in bridged:
            await asyncio.to_thread(self._make_bridge, network)
        self._networks = {network.id: network for network in bridged}
        self._published = {
            state.container_id: self._publications(state) for state in containers if state.ports
        }
        self._links = {
            state.container_id: {self._link(endpoint) for endpoint in state.endpoints}
            for state in containers
        }
        everything = [entry for held in self._published.values() for entry in held]
        await asyncio.to_thread(self._firewall.replace, bridged, everything)
        await asyncio.to_thread(self._firewall.accept_beside_others)
        for container_id in self._ports.reserving():
            if container_id not in self._published:
                await self._ports.release(container_id)
        for container_id, held in self._published.items():
            await self._reserve_again(container_id, held)
        wanted = {network.bridge for network in bridged}
        for name in await self.networks():
            if name not in wanted:
                await asyncio.to_thread(_delete_link, name)

    async def _reserve_again(self, container_id: str, held: Sequence[Publication]) -> None:
        bindings = [_binding(entry.port) for entry in held if entry.port.host_port]
        if not bindings:
            return
        try:
            await self._ports.reserve(
                container_id, bindings, held[0].ipv4_address, held[0].ipv6_address
            )
        except (ConflictError, HostError) as error:
            # The container runs and its packets are forwarded; only the reservation is lost.
            _log.warning("container %s: %s", container_id[:12], error.message)

    def _publications(self, state: NetworkState) -> list[Publication]:
        def is_internal(endpoint: Endpoint) -> bool:
            network = self._networks.get(endpoint.network_id)
            return network is None or network.internal

        outward = [endpoint for endpoint in state.endpoints if not is_internal(endpoint)]
        if not outward:
            return []
        # The endpoint that has the default route, as the engine chooses it (Docker: priority, then name).
        chosen = min(outward, key=lambda end: (-end.gw_priority, end.network_name))
        return [_publication(port, chosen) for port in state.ports]

    def _link(self, endpoint: Endpoint) -> str:
        return (self._paths.veth_prefix + endpoint.endpoint_id)[:_NAME_LIMIT]

    def _make_bridge(self, network: NetworkRecord) -> None:
        name = network.bridge
        with netlink.Netlink() as host:
            existed = netlink.index_of(name)
            if not existed:
                mac = "02:" + bytes.fromhex(network.id[:10].ljust(10, "0")).hex(":")
                host.run([
                    netlink.bridge(name, mac=mac, mtu=_mtu(network)),
                    netlink.link_alias(name, self._paths.nft_table),
                ])  # fmt: skip
            index = netlink.index_of(name)
            _set_sysctls(network)
            addresses = [
                netlink.address(
                    subnet.gateway,
                    ipaddress.ip_network(subnet.subnet, strict=False).prefixlen,
                    index,
                )
                for subnet in network.subnets
                if subnet.gateway and (network.enable_ipv6 or ":" not in subnet.gateway)
            ]
            host.run([*addresses, netlink.link_up(index=index)])

    def _remove_bridge(self, name: str) -> None:
        # A bridge that was there before us (com.docker.network.bridge.name) has no label of ours and stays.
        if name in self._own_bridges():
            _delete_link(name)

    def _own_bridges(self) -> list[str]:
        return [link.name for link in self._own_links() if link.kind == "bridge"]

    def _own_links(self) -> list[netlink.Link]:
        with netlink.Netlink() as host:
            return [link for link in host.links() if link.alias == self._paths.nft_table]

    def _host_subnets(self) -> list[str]:
        with netlink.Netlink() as host:
            own = {link.index for link in host.links() if link.alias == self._paths.nft_table}
            found = []
            for family in (socket.AF_INET, socket.AF_INET6):
                for subnet, index in host.routes(family):
                    if index not in own and not ipaddress.ip_network(subnet).is_link_local:
                        found.append(subnet)
        return sorted(set(found))


def _require_bridge(network: NetworkRecord) -> None:
    if network.driver != "bridge":
        raise UnsupportedError(
            f"network {network.name}: driver {network.driver} is not offered",
            hint="use the bridge driver",
        )


def _set_sysctls(network: NetworkRecord) -> None:
    name = network.bridge
    netlink.write_sysctl(f"net/ipv4/conf/{name}/route_localnet", "1")
    if not netlink.read_sysctl("net/ipv6/conf/all/forwarding"):
        return  # a kernel without IPv6
    netlink.write_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    netlink.write_sysctl(f"net/ipv6/conf/{name}/accept_dad", "0")
    netlink.write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if network.enable_ipv6 else "1")
    if network.enable_ipv6 and netlink.read_sysctl("net/ipv6/conf/all/forwarding") != "1":
        _forward_ipv6()


def _forward_ipv6() -> None:
    """Turn forwarding on without losing what router advertisements gave the host (accept_ra 1 means "no router")."""
    with netlink.Netlink() as host:
        names = [link.name for link in host.links()]
    for name in (*names, "default"):
        key = f"net/ipv6/conf/{name}/accept_ra"
        if netlink.read_sysctl(key) == "1":
            with contextlib.suppress(HostError):
                netlink.write_sysctl(key, "2")
    netlink.write_sysctl("net/ipv6/conf/all/forwarding", "1")


def _delete_links(indexes: Iterable[int]) -> None:
    with netlink.Netlink() as host:
        host.run([netlink.link_delete(index=index) for index in indexes])


def _delete_link(name: str) -> None:
    with netlink.Netlink() as host:
        host.run([netlink.link_delete(name)])


def _mtu(network: NetworkRecord) -> int:
    text = network.options.get(_MTU, "")
    return int(text) if text.isdigit() else 0


def _publication(port: PublishedPort, endpoint: Endpoint) -> Publication:
    return Publication(
        port=port, ipv4_address=endpoint.ipv4_address, ipv6_address=endpoint.ipv6_address
    )


def _binding(port: PublishedPort) -> PortBinding:
    return PortBinding(
        container_port=port.container_port,
        protocol=port.protocol,
        host_ip=port.host_ip,
        host_port=port.host_port,
    )


def _without(port: PortBinding, routed: Collection[int]) -> list[PortBinding]:
    """Return what is left of a binding to hold on the host when families are routed."""
    if not routed:
        return [port]
    if port.host_ip:
        return [] if _version(port.host_ip) in routed else [port]
    return [
        replace(port, host_ip=everywhere)
        for version, everywhere in _EVERYWHERE.items()
        if version not in routed
    ]


def _opened(port: PortBinding, routed: Collection[int]) -> list[PublishedPort]:
    return [
        PublishedPort(
            container_port=port.container_port,
            protocol=port.protocol,
            host_ip=everywhere,
            host_port=0,
        )
        for version, everywhere in _EVERYWHERE.items()
        if version in routed and (not port.host_ip or _version(port.host_ip) == version)
    ]


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version


def _place(port: PublishedPort) -> tuple[str, str, int]:
    return (port.protocol, port.host_ip, port.host_port)


def _forget(publications: Sequence[Publication]) -> None:
    """Forget the UDP flows to published ports, so that clients that go on sending are translated anew."""
    ports = {e.port.host_port for e in publications if e.port.protocol == "udp"}
    for port in sorted(ports - {0}):
        try:
            conntrack.forget_udp_flows(port)
        except OSError as error:
            _log.warning("forgetting the flows to port %d: %s", port, error.strerror)
