"""A running container's place in the networks: namespace, endpoints, names, published ports and the files about them.

Everything here can be repeated, and ``close`` undoes whatever of it was done.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from stackctl.contracts.container import ContainerRecord, Endpoint, PortBinding, PublishedPort
from stackctl.contracts.network import NetworkState, Zone
from stackctl.contracts.state import NetworkRecord
from stackctl.engine import hosts, lifecycle
from stackctl.engine.book import Book
from stackctl.engine.containerfiles import ContainerFiles, FileSet
from stackctl.engine.events import Events
from stackctl.engine.merge import port_numbers
from stackctl.engine.names import short_id
from stackctl.engine.world import World
from stackctl.errors import (
    ConflictError,
    HostError,
    InvalidInputError,
    NotFoundError,
    PortTakenError,
    StackctlError,
)
from stackctl.frozen import frozen

log = logging.getLogger(__name__)

_NO_KERNEL = frozenset({"host", "null"})


@frozen
class Sandbox:
    """What a start needs of it: the record with interfaces and ports filled in, and the files to mount."""

    record: ContainerRecord
    netns: Path | None
    files: FileSet


class Sandboxes:
    """Opens and closes sandboxes; sets up what they share when it is first needed."""

    def __init__(self, world: World, book: Book, events: Events, files: ContainerFiles) -> None:
        self.world = world
        self.book = book
        self.events = events
        self.files = files
        self._resolv = hosts.parse_resolv(world.host.resolv_conf)
        self._shared = False
        self._keeper = False
        self._setup = asyncio.Lock()
        self._ready: set[str] = set()
        self._opening: dict[str, set[str]] = {}

    # What networks share

    async def ready(self, network: NetworkRecord) -> None:
        """See that the network exists in the kernel; once in a daemon's life."""
        if network.id in self._ready or network.driver in _NO_KERNEL:
            return
        async with self._setup:
            if network.id in self._ready:  # somebody else did it while we waited
                return
            await self._start_shared()
            await self.world.network.create_network(network)
            self._ready.add(network.id)

    async def _start_shared(self) -> None:
        if not self._shared:
            await self.world.network.start()
            self._shared = True

    async def keeper_ready(self) -> None:
        """See that the keeper runs; a fresh one is told of every running container."""
        if not self._keeper and await self._start_keeper():
            await self._tell_keeper()

    async def _start_keeper(self) -> bool:
        async with self._setup:
            if self._keeper:  # somebody else did it while we waited
                return False
            fresh = await self.world.keeper.start()
            self._keeper = True
        return fresh

    async def forget_network(self, network: NetworkRecord) -> None:
        """Remove the network from the kernel; success when it is not there."""
        if network.driver not in _NO_KERNEL:
            await self.world.network.remove_network(network)
        self._ready.discard(network.id)

    async def restore(self, running: Sequence[ContainerRecord]) -> None:
        """Make the kernel and the keeper hold exactly what the running containers need (a daemon's start)."""
        networks = [item for item in self.book.networks() if item.driver not in _NO_KERNEL]
        wanted = [item for item in networks if item.name != "bridge" or self._uses(item, running)]
        left_over = await self.world.network.networks()
        if not running:
            # A keeper that outlived its containers holds names and ports of the dead.
            await self._quietly("stop the keeper", self.world.keeper.stop)
        if not wanted and not left_over and not running:
            return
        async with self._setup:
            await self._start_shared()
            if running:
                await self.world.keeper.start()
                self._keeper = True
                await self.world.keeper.reset([record.id for record in running])
            for network in wanted:
                await self.world.network.create_network(network)
                self._ready.add(network.id)
            states = [
                NetworkState(
                    container_id=record.id,
                    endpoints=tuple(record.endpoints.values()),
                    ports=record.ports,
                )
                for record in running
            ]
            await self.world.network.restore(wanted, states)
        if running:
            await self._tell_keeper()

    @staticmethod
    def _uses(network: NetworkRecord, running: Sequence[ContainerRecord]) -> bool:
        return any(network.name in record.endpoints for record in running)

    async def _tell_keeper(self) -> None:
        for record in self.book.containers():
            if record.status in lifecycle.LIVE and has_own_network(record):
                await self._serve(record)
                for network, endpoint in self.endpoints(record):
                    await self._add_names(record, network, endpoint)

    async def stop(self) -> None:
        """Leave nothing behind when nothing runs: the keeper, and what networks share once none is left."""
        await self._quietly("remove links", self.world.network.finish)
        if any(record.status in lifecycle.LIVE for record in self.book.containers()):
            return
        await self._quietly("stop the keeper", self.world.keeper.stop)
        networks = [item for item in self.book.networks() if item.driver not in _NO_KERNEL]
        for network in networks:
            if network.name == "bridge":
                await self._quietly(
                    "remove the default bridge", partial(self.forget_network, network)
                )
        if self._shared and len(networks) <= 1:
            await self._quietly("remove the shared rules", self.world.network.stop)

    # One container

    def endpoints(self, record: ContainerRecord) -> list[tuple[NetworkRecord, Endpoint]]:
        """Return the networks the container is in, its first one first; raises NotFoundError for a missing one."""
        found = []
        for endpoint in record.endpoints.values():
            network = self.book.find_network(endpoint.network_id)
            if network is None:
                raise NotFoundError(
                    "failed to set up container networking: "
                    f"network {endpoint.network_name} not found"
                )
            found.append((network, endpoint))
        return found

    async def open(self, record: ContainerRecord) -> Sandbox:
        """Make the container's sandbox; the caller closes it when anything here or later fails.

        Raises NotFoundError for missing networks and containers, ConflictError for taken ports.
        """
        mode = record.spec.network_mode
        if mode.startswith("container:"):
            return self._shared_sandbox(record, mode.partition(":")[2])
        networks = self.endpoints(record)
        if any(network.driver == "host" for network, _ in networks):
            return Sandbox(record=record, netns=None, files=self._write_host_files(record))
        sysctls = {
            key: value for key, value in record.spec.sysctls.items() if key.startswith("net.")
        }
        self._opening[record.id] = {network.id for network, _ in networks}
        for network, _ in networks:
            await self.ready(network)
        if not self._shared:
            # "none" makes nothing in the kernel, but its namespace is kept where all are.
            async with self._setup:
                await self._start_shared()
        netns = await self.world.network.create_sandbox(record.id, sysctls or None)
        record = await self._connect_all(record, networks)
        networks = self.endpoints(record)
        if any(is_user_defined(network) for network, _ in networks):
            await self.keeper_ready()
            await self._serve(record)
            for network, endpoint in networks:
                await self._add_names(record, network, endpoint)
        record = await self._publish(record, networks)
        return Sandbox(record=record, netns=netns, files=self._write_files(record, networks))

    def opened(self, container_id: str) -> None:
        """The container runs, or will not: its record, if it has one, says from now on which networks it holds."""
        self._opening.pop(container_id, None)

    def is_joining(self, network_id: str) -> bool:
        """Tell whether a container that is just being started is in the network."""
        return any(network_id in joining for joining in self._opening.values())

    async def _connect_all(
        self, record: ContainerRecord, networks: Sequence[tuple[NetworkRecord, Endpoint]]
    ) -> ContainerRecord:
        way_out = gateway(networks)
        connected = dict(record.endpoints)
        for network, endpoint in networks:
            if network.driver in _NO_KERNEL:
                continue
            interface = await self.world.network.connect(
                record.id, network, endpoint, default_route=endpoint is way_out
            )
            connected[network.name] = replace(endpoint, interface=interface)
        return replace(record, endpoints=connected)

    def _shared_sandbox(self, record: ContainerRecord, ref: str) -> Sandbox:
        other = self.book.find(ref)
        if other is None:
            raise NotFoundError(
                f"joining network namespace of container: No such container: {ref[:80]}"
            )
        if other.status not in lifecycle.LIVE:
            raise ConflictError(
                "cannot join network namespace of a non running container: "
                f"container {other.name} is {other.status.value}"
            )
        if other.id == record.id:
            raise InvalidInputError("cannot join own network")
        if other.spec.network_mode.startswith("container:"):
            return self._shared_sandbox(record, other.spec.network_mode.partition(":")[2])
        host = any(endpoint.network_name == "host" for endpoint in other.endpoints.values())
        netns = None if host else self.world.network.sandbox_path(other.id)
        return Sandbox(record=record, netns=netns, files=self.files.paths(other.id))

    async def close(self, record: ContainerRecord) -> None:
        """Undo ``open``, whatever of it happened; failures are logged, so that the rest is undone too."""
        try:
            if has_own_network(record):
                await self._undo(record)
        finally:
            self.opened(record.id)

    async def _undo(self, record: ContainerRecord) -> None:
        network_door, keeper = self.world.network, self.world.keeper
        if record.ports or record.spec.port_bindings or record.spec.publish_all_ports:
            await self._quietly("unpublish ports", lambda: network_door.unpublish(record.id))
        named = False
        for endpoint in record.endpoints.values():
            if endpoint.dns_names and self._keeper:
                named = True
                await self._quietly(
                    "forget names",
                    partial(keeper.remove_names, endpoint.network_id, record.id),
                )
        if named:
            await self._quietly("end name service", lambda: keeper.unserve(record.id))
        if self._is_joined(record):
            await self._disconnect_all(record)
        if not any(endpoint.network_name == "host" for endpoint in record.endpoints.values()):
            await self._quietly(
                "remove the network namespace", lambda: network_door.remove_sandbox(record.id)
            )

    def _is_joined(self, record: ContainerRecord) -> bool:
        """Tell whether another container lives in this one's namespace, which then outlives this one."""
        mode = f"container:{record.id}"
        return any(
            other.spec.network_mode == mode and other.status in lifecycle.LIVE
            for other in self.book.containers()
        )

    async def _disconnect_all(self, record: ContainerRecord) -> None:
        # The kernel takes the links of a namespace that ends along, in the background; alone each costs 10 to 20 ms.
        for endpoint in record.endpoints.values():
            network = self.book.find_network(endpoint.network_id)
            if network is not None and network.driver not in _NO_KERNEL:
                await self._quietly(
                    "disconnect",
                    partial(self.world.network.disconnect, record.id, network, endpoint),
                )

    def announce(self, record: ContainerRecord, action: str) -> None:
        """Tell of the connections of a container that starts ("connect") or has ended ("disconnect")."""
        if has_own_network(record):
            found = [
                (network, endpoint)
                for endpoint in record.endpoints.values()
                if (network := self.book.find_network(endpoint.network_id)) is not None
            ]
            self._announce(record, found, action)

    # Changes while it runs

    async def join(
        self, record: ContainerRecord, network: NetworkRecord, endpoint: Endpoint
    ) -> ContainerRecord:
        """Connect a running container to one more network; return its record."""
        await self.ready(network)
        networks = [*self.endpoints(record), (network, endpoint)]
        way_out = gateway(networks)
        try:
            interface = await self.world.network.connect(
                record.id, network, endpoint, default_route=endpoint is way_out
            )
            endpoint = replace(endpoint, interface=interface)
            record = replace(record, endpoints={**record.endpoints, network.name: endpoint})
            if is_user_defined(network):
                await self.keeper_ready()
                await self._serve(record)
                await self._add_names(record, network, endpoint)
        except BaseException:
            await self._quietly(
                "disconnect", lambda: self.world.network.disconnect(record.id, network, endpoint)
            )
            raise
        if not record.ports:
            record = await self._publish(record, self.endpoints(record))
        self._write_files(record, self.endpoints(record))
        self._announce(record, [(network, endpoint)], "connect")
        return record

    async def leave(
        self, record: ContainerRecord, network: NetworkRecord, endpoint: Endpoint
    ) -> ContainerRecord:
        """Disconnect a running container from a network; return its record."""
        was_out = gateway(self.endpoints(record))
        had_ports = published_through(self.endpoints(record))
        left = {key: item for key, item in record.endpoints.items() if key != network.name}
        changed = replace(record, endpoints=left)
        if had_ports is endpoint and record.ports:
            await self.world.network.unpublish(record.id)
            changed = replace(changed, ports=())
        if endpoint.dns_names:
            await self.world.keeper.remove_names(network.id, record.id)
        await self.world.network.disconnect(record.id, network, endpoint)
        networks = self.endpoints(changed)
        if endpoint.dns_names:
            await self._serve(changed)
        now_out = gateway(networks)
        if was_out is endpoint and now_out is not None:
            await self.world.network.set_default_route(record.id, now_out)
        if record.ports and not changed.ports:
            changed = await self._publish(changed, networks, kept=record.ports)
        self._write_files(changed, networks)
        self._announce(record, [(network, endpoint)], "disconnect")
        return changed

    async def renamed(self, record: ContainerRecord) -> None:
        """Make the networks of a running container know its new name."""
        for network, endpoint in self.endpoints(record):
            await self._add_names(record, network, endpoint)
        self._write_files(record, self.endpoints(record))

    async def relieve(
        self, record: ContainerRecord, donor: ContainerRecord
    ) -> tuple[ContainerRecord, ContainerRecord]:
        """Give a running container the ports and names it stood aside for, and let the donor stand aside.

        Return both records. Raises ConflictError for ports that a third one has; nothing is changed then.
        """
        record, donor = replace(record, aside=False), replace(donor, aside=True)
        networks = self.endpoints(record)
        endpoint = published_through(networks)
        wanted = bindings(record)
        if endpoint is not None and wanted:
            await self.keeper_ready()
            ports = await self.world.network.hand_over(donor.id, record.id, endpoint, wanted)
            places = {(port.protocol, port.host_ip, port.host_port) for port in ports}
            left = [
                port
                for port in donor.ports
                if (port.protocol, port.host_ip, port.host_port) not in places
            ]
            record, donor = replace(record, ports=tuple(ports)), replace(donor, ports=tuple(left))
        # First the new names: there is always one who answers to them.
        for network, end in networks:
            await self._add_names(record, network, end)
        if donor.status in lifecycle.LIVE:
            for network, end in self.endpoints(donor):
                await self._add_names(donor, network, end)
        return record, donor

    # Parts

    async def _serve(self, record: ContainerRecord) -> None:
        networks = self.endpoints(record)
        named = [(network, item) for network, item in networks if is_user_defined(network)]
        if not named:
            await self.world.keeper.unserve(record.id)
            return
        outside = any(not network.internal for network, _ in networks)
        spec = record.spec
        servers = tuple(spec.dns) or self._resolv.servers or hosts.FALLBACK_SERVERS
        links: dict[str, str] = {}
        for _, endpoint in named:
            for link in endpoint.links:
                name, _, alias = link.partition(":")
                links[alias or name] = name
        zone = Zone(
            container_id=record.id,
            networks=tuple(network.id for network, _ in named),
            links=links,
            upstream=servers if outside else (),
            search=tuple(spec.dns_search) or self._resolv.search,
        )
        await self.world.keeper.serve(zone, self.world.network.sandbox_path(record.id))

    async def _add_names(
        self, record: ContainerRecord, network: NetworkRecord, endpoint: Endpoint
    ) -> None:
        if not endpoint.dns_names:
            return
        known = (record.name, short_id(record.id))
        answered = known if record.aside else endpoint.dns_names
        found = [item for item in (endpoint.ipv4_address, endpoint.ipv6_address) if item]
        names = [
            *answered,
            *(f"{name}.{network.name}" for name in answered),
        ]
        await self.world.keeper.add_names(network.id, record.id, found, names)

    async def _publish(
        self,
        record: ContainerRecord,
        networks: Sequence[tuple[NetworkRecord, Endpoint]],
        *,
        kept: Sequence[PublishedPort] = (),
    ) -> ContainerRecord:
        endpoint = published_through(networks)
        wanted = [_as_binding(port) for port in kept] or bindings(record)
        if endpoint is None or not wanted or record.aside:
            return replace(record, ports=())
        await self.keeper_ready()
        try:
            published = await self.world.network.publish(record.id, endpoint, wanted)
        except PortTakenError as error:
            words, holder = error.message, self.book.find(error.holder) if error.holder else None
            if holder is not None:
                where = words.removeprefix("failed to bind host port ").partition("/")[0]
                words = (
                    f"Bind for {where} failed: port is already allocated "
                    f"(held by container {holder.name})"
                )
            raise PortTakenError(
                _programming(record, endpoint) + words, holder=error.holder
            ) from error
        except HostError as error:
            raise HostError(
                _programming(record, endpoint) + error.message, hint=error.hint, errno=error.errno
            ) from error
        return replace(record, ports=tuple(published))

    def _write_host_files(self, record: ContainerRecord) -> FileSet:
        host = self.world.host
        spec = record.spec
        text = host.hosts or hosts.hosts_text(ipv6=True)
        for address, name in hosts.extra_hosts(spec.extra_hosts, gateways=("127.0.0.1",)):
            text += f"{address}\t{name}\n"
        resolv = host.resolv_conf
        if spec.dns or spec.dns_search or spec.dns_options:
            resolv = hosts.resolv_text(
                replace(
                    self._resolv,
                    servers=tuple(spec.dns) or self._resolv.servers,
                    search=tuple(spec.dns_search) or self._resolv.search,
                    options=tuple(spec.dns_options) or self._resolv.options,
                )
            )
        return self.files.write(record.id, hosts=text, resolv=resolv, hostname=record.hostname)

    def _write_files(
        self, record: ContainerRecord, networks: Sequence[tuple[NetworkRecord, Endpoint]]
    ) -> FileSet:
        spec = record.spec
        embedded = any(is_user_defined(network) for network, _ in networks)
        resolv = hosts.resolv_for(
            self._resolv,
            embedded=embedded,
            servers=spec.dns,
            search=spec.dns_search,
            options=spec.dns_options,
        )
        names = hosts.host_names(record.hostname, spec.domainname)
        own = [
            (address, names)
            for _, endpoint in networks
            for address in (endpoint.ipv4_address, endpoint.ipv6_address)
            if address
        ]
        text = hosts.hosts_text(
            ipv6=any(endpoint.ipv6_address for _, endpoint in networks),
            extra=hosts.extra_hosts(spec.extra_hosts, gateways=self._host_gateways(networks)),
            own=own,
            linked=self._linked(record),
        )
        external = tuple(spec.dns) or (self._resolv.servers if embedded else ())
        return self.files.write(
            record.id,
            hosts=text,
            resolv=hosts.resolv_text(resolv, external=external if embedded else ()),
            hostname=record.hostname,
        )

    def _host_gateways(self, networks: Sequence[tuple[NetworkRecord, Endpoint]]) -> tuple[str, ...]:
        """Return what "host-gateway" means: the gateway of the container's way out, which is the host."""
        way_out = gateway(networks)
        if way_out is None:
            return ()
        return tuple(item for item in (way_out.gateway, way_out.ipv6_gateway) if item)

    def _linked(self, record: ContainerRecord) -> list[tuple[str, tuple[str, ...]]]:
        """Return the hosts lines of legacy links, which only the default bridge has."""
        lines: list[tuple[str, tuple[str, ...]]] = []
        if "bridge" not in record.endpoints:
            return lines
        for other, alias in legacy_links(record, self.book):
            endpoint = other.endpoints.get("bridge")
            if endpoint is not None and endpoint.ipv4_address:
                names = tuple(dict.fromkeys((alias, other.hostname, other.name)))
                lines.append((endpoint.ipv4_address, names))
        return lines

    def _announce(
        self,
        record: ContainerRecord,
        networks: Sequence[tuple[NetworkRecord, Endpoint]],
        action: str,
    ) -> None:
        for network, _ in networks:
            self.events.publish(
                "network",
                action,
                network.id,
                {"container": record.id, "name": network.name, "type": network.driver},
            )

    async def _quietly(
        self, what: str, undo: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        try:
            await undo()
        except StackctlError as error:
            log.warning("could not %s: %s", what, error)


def _programming(record: ContainerRecord, endpoint: Endpoint) -> str:
    """Return how Docker begins to tell that a port cannot be published."""
    return (
        "failed to set up container networking: driver failed programming external connectivity on endpoint "
        f"{record.name} ({endpoint.endpoint_id}): "
    )


def has_own_network(record: ContainerRecord) -> bool:
    return not record.spec.network_mode.startswith("container:")


def is_user_defined(network: NetworkRecord) -> bool:
    return network.name not in ("bridge", "host", "none")


def gateway(networks: Sequence[tuple[NetworkRecord, Endpoint]]) -> Endpoint | None:
    """Return the endpoint that leads out: highest priority, not internal, then by name as Docker does."""
    able = [
        (-endpoint.gw_priority, network.name, endpoint)
        for network, endpoint in networks
        if (endpoint.gateway or endpoint.ipv6_gateway) and not network.internal
    ]
    return min(able, key=lambda item: item[:2])[2] if able else None


def published_through(networks: Sequence[tuple[NetworkRecord, Endpoint]]) -> Endpoint | None:
    """Return the endpoint that ports are forwarded to: the way out, if it is a bridge."""
    return gateway([item for item in networks if item[0].driver == "bridge"])


def bindings(record: ContainerRecord) -> list[PortBinding]:
    """Return the ports to publish: those asked for, and with publish_all every exposed one that is not yet."""
    wanted = list(record.spec.port_bindings)
    if record.spec.publish_all_ports:
        asked = {(port.container_port, port.protocol) for port in wanted}
        for exposed in record.exposed_ports:
            numbers, _, protocol = exposed.partition("/")
            wanted += [
                PortBinding(container_port=number, protocol=protocol or "tcp")
                for number in port_numbers(numbers)
                if (number, protocol or "tcp") not in asked
            ]
    return wanted


def legacy_links(record: ContainerRecord, book: Book) -> list[tuple[ContainerRecord, str]]:
    """Return the containers that HostConfig.Links names ("name:alias"), with their aliases; raises NotFoundError."""
    found = []
    for link in record.spec.links:
        name, _, alias = link.removeprefix("/").partition(":")
        other = book.find(name)
        if other is None:
            raise NotFoundError(f"could not get container for {name}: No such container: {name}")
        found.append((other, (alias or name).rpartition("/")[2]))
    return found


def _as_binding(port: PublishedPort) -> PortBinding:
    return PortBinding(
        container_port=port.container_port,
        protocol=port.protocol,
        host_ip=port.host_ip,
        host_port=port.host_port,
    )
