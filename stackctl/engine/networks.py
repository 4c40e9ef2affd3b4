"""Networks and who is in them: making, removing, reserving addresses."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from stackctl.contracts.container import ContainerRecord, Endpoint, EndpointRequest
from stackctl.contracts.state import GATEWAY_MODE, NetworkRecord, Subnet
from stackctl.engine import addresses, lifecycle
from stackctl.engine.book import Book
from stackctl.engine.events import Events
from stackctl.engine.filters import PruneFilter
from stackctl.engine.names import new_id, short_id
from stackctl.engine.network_checks import (
    NO_KERNEL,
    PREDEFINED,
    check_connect,
    check_endpoint,
    check_options,
    check_request,
    network_mode,
)
from stackctl.engine.requests import Claim, NetworkRequest, unclaimed
from stackctl.engine.sandbox import Sandboxes, is_user_defined
from stackctl.engine.world import AddressPool, World
from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
)

log = logging.getLogger(__name__)
BRIDGE_NAME = "com.docker.network.bridge.name"
_LONGEST_INTERFACE = 15


class Networks:
    """The network service."""

    def __init__(self, world: World, book: Book, events: Events, sandboxes: Sandboxes) -> None:
        self.world = world
        self.book = book
        self.events = events
        self._sandboxes = sandboxes
        self._taken: dict[str, set[str]] = {}
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Take up what the records say and make the predefined networks on the first start."""
        for container in self.book.containers():
            for endpoint in container.endpoints.values():
                self._take(endpoint)
        for name, driver in PREDEFINED.items():
            if self.book.find_network(name) is None:
                await self._make_predefined(name, driver)
        self._move_bridge()

    async def _make_predefined(self, name: str, driver: str) -> None:
        network_id = new_id()
        subnets: tuple[Subnet, ...] = ()
        bridge = ""
        if driver == "bridge":
            wanted = self.world.host.bridge_address
            if wanted:
                subnets = (_bridge_subnet(wanted),)
            else:
                text = self._pick_subnet(await self._used_subnets())
                subnets = (addresses.complete(Subnet(subnet=text)),)
            bridge = f"{self.world.host.bridge_prefix}0"
        self.book.save_network(
            NetworkRecord(
                id=network_id,
                name=name,
                created=self.world.clock.now(),
                driver=driver,
                subnets=subnets,
                bridge=bridge,
            )
        )

    def _move_bridge(self) -> None:
        """Give the predefined bridge the address that the settings name, once no container holds one of the old."""
        wanted = self.world.host.bridge_address
        record = self.book.find_network("bridge")
        if not wanted or record is None or record.subnets == (_bridge_subnet(wanted),):
            return
        if any("bridge" in container.endpoints for container in self.book.containers()):
            log.warning(
                "the bridge keeps its addresses while containers have them; asked: %s", wanted
            )
            return
        self.book.save_network(replace(record, subnets=(_bridge_subnet(wanted),)))

    # Finding

    def resolve(self, ref: str) -> NetworkRecord:
        """Return the network of an ID, a name or a unique prefix of an ID; raises NotFoundError."""
        return self.book.network(_plain(ref))

    def all(self) -> Sequence[NetworkRecord]:
        return self.book.networks()

    def members(self, network_id: str) -> Sequence[tuple[ContainerRecord, Endpoint]]:
        """Return the running containers in the network, each with its endpoint there."""
        return [
            (container, endpoint)
            for container in self.book.containers()
            if container.status in lifecycle.LIVE
            for endpoint in container.endpoints.values()
            if endpoint.network_id == network_id
        ]

    # Making and removing

    async def create(
        self, request: NetworkRequest, *, claim: Claim = unclaimed
    ) -> tuple[NetworkRecord, str]:
        """Make a network; return it and a warning ("" for none).

        Raises ConflictError for a name that is taken, ForbiddenError for predefined names and overlapping subnets,
        InvalidInputError, NotFoundError for an unknown driver, UnsupportedError for one that is refused.
        """
        check_request(request)
        async with self._lock:
            if any(record.name == request.name for record in self.all()):
                raise ConflictError(f"network with name {request.name} already exists")
            request = self._configured(request)
            network_id = new_id()
            subnets: tuple[Subnet, ...] = ()
            if not request.config_only:
                subnets = await self._choose_subnets(request, network_id)
            record = NetworkRecord(
                id=network_id,
                name=request.name,
                created=self.world.clock.now(),
                driver="null" if request.config_only else request.driver or "bridge",
                internal=request.internal,
                attachable=request.attachable,
                enable_ipv4=request.enable_ipv4,
                enable_ipv6=request.enable_ipv6,
                subnets=subnets,
                ipam_driver=request.ipam_driver or "default",
                ipam_options=request.ipam_options,
                requested_subnets=request.subnets,
                options=dict(request.options),
                labels=dict(request.labels),
                bridge="" if request.config_only else self._bridge_name(request, network_id),
                config_only=request.config_only,
                config_from=request.config_from,
            )
            claim(record.id, record.created)
            self.book.save_network(record)
            try:
                await self._sandboxes.ready(record)
            except BaseException:
                await self._sandboxes.forget_network(record)
                self.book.forget_network(record)
                raise
        self._event("create", record)
        return record, ""

    def _configured(self, request: NetworkRequest) -> NetworkRequest:
        """Return the request with the settings of the network that it names for them; raises NotFoundError."""
        if not request.config_from:
            return request
        source = self.book.find_network(request.config_from)
        if source is None or not source.config_only or source.name != request.config_from:
            raise NotFoundError(f'configuration network "{request.config_from}" does not exist')
        request = replace(
            request,
            enable_ipv4=source.enable_ipv4,
            enable_ipv6=source.enable_ipv6,
            subnets=source.requested_subnets,
            ipam_driver=source.ipam_driver,
            ipam_options=source.ipam_options,
            options=source.options,
            labels=source.labels,
        )
        check_options(request)
        return request

    async def _choose_subnets(self, request: NetworkRequest, seed: str) -> tuple[Subnet, ...]:
        used = await self._used_subnets()
        ours = self._own_subnets()
        chosen: list[Subnet] = []
        enabled = {False: request.enable_ipv4, True: request.enable_ipv6}
        for item in request.subnets:
            # One of a family that is off says nothing.
            if not item.subnet or not enabled[addresses.is_ipv6(item.subnet)]:
                continue
            addresses.check_free(item.subnet, [*ours, *(other.subnet for other in chosen)])
            chosen.append(addresses.complete(item))
        families = [addresses.is_ipv6(item.subnet) for item in chosen]
        versions = set(families)
        if len(versions) < len(families) and (request.driver or "bridge") == "bridge":
            raise ForbiddenError("bridge driver doesn't support multiple subnets")
        if request.enable_ipv4 and False not in versions:
            text = self._pick_subnet([*used, *(item.subnet for item in chosen)])
            chosen.insert(0, addresses.complete(Subnet(subnet=text)))
        if request.enable_ipv6 and True not in versions:
            text = addresses.pick_ipv6_subnet(seed, used)
            chosen.append(addresses.complete(Subnet(subnet=text)))
        return tuple(
            _without_gateway(item) if _is_isolated(item, request) else item for item in chosen
        )

    def _pick_subnet(self, used: Sequence[str]) -> str:
        host = self.world.host
        pools = host.address_pools or (AddressPool(base=host.address_pool),)
        for pool in pools[:-1]:
            with suppress(ForbiddenError):
                return addresses.pick_subnet(pool.base, used, prefix=pool.size)
        return addresses.pick_subnet(pools[-1].base, used, prefix=pools[-1].size)

    def _own_subnets(self) -> list[str]:
        return [subnet.subnet for record in self.all() for subnet in record.subnets]

    async def _used_subnets(self) -> list[str]:
        return [*self._own_subnets(), *await self.world.network.host_subnets()]

    def _bridge_name(self, request: NetworkRequest, network_id: str) -> str:
        wanted = request.options.get(BRIDGE_NAME, "")
        if wanted:
            if len(wanted) > _LONGEST_INTERFACE or "/" in wanted:
                raise InvalidInputError(f"invalid bridge name: {wanted!r}")
            if any(record.bridge == wanted for record in self.all()):
                raise ForbiddenError(f"networks have same bridge name: {wanted}")
            return wanted
        prefix = self.world.host.bridge_prefix
        return f"{prefix}{network_id[: min(8, _LONGEST_INTERFACE - len(prefix))]}"

    async def remove(self, ref: str) -> None:
        """Remove a network; raises NotFoundError, ForbiddenError while containers are in it or when predefined."""
        async with self._lock:
            record = self.resolve(ref)
            if record.name in PREDEFINED:
                raise ForbiddenError(
                    f"{record.name} is a pre-defined network and cannot be removed"
                )
            users = self.members(record.id)
            if users:
                who = ", ".join(
                    f'name:"{container.name}" id:"{short_id(endpoint.endpoint_id)}"'
                    for container, endpoint in users
                )
                raise ForbiddenError(
                    f"error while removing network: network {record.name} has active endpoints ({who})"
                )
            if record.config_only and any(item.config_from == record.name for item in self.all()):
                raise ForbiddenError(
                    f'error while removing network: configuration network "{record.name}" is in use'
                )
            if self._sandboxes.is_joining(record.id):
                raise ForbiddenError(
                    f"error while removing network: network {record.name} has active endpoints"
                )
            await self._sandboxes.forget_network(record)
            self.book.forget_network(record)
            self._taken.pop(record.id, None)
        self._event("destroy", record)

    async def prune(self, wanted: PruneFilter) -> Sequence[str]:
        """Remove networks that no container is in; return their names."""
        used = {
            endpoint.network_id
            for container in self.book.containers()
            for endpoint in container.endpoints.values()
        }
        removed: list[str] = []
        for record in self.all():
            if record.name in PREDEFINED or record.id in used or record.config_only:
                continue
            if not wanted.takes(record.labels, record.created):
                continue
            try:
                await self.remove(record.id)
            except (ForbiddenError, NotFoundError):
                continue  # taken, or gone, in the meantime
            removed.append(record.name)
        self.events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    # Endpoints

    def plan(self, record: ContainerRecord) -> dict[str, Endpoint]:
        """Reserve the endpoints a new container asks for; the caller releases them when the create fails.

        A network that is not there yet has a place without an ID. Raises InvalidInputError, ForbiddenError for addresses.
        """
        spec = record.spec
        mode = network_mode(spec.network_mode)
        if spec.network_disabled or mode.startswith("container:"):
            return {}
        requests = {_plain(item.network) or mode: item for item in spec.endpoints}
        if not requests:
            requests = {mode: EndpointRequest(network=mode)}
        made: dict[str, Endpoint] = {}
        try:
            for position, (name, request) in enumerate(_ordered(requests, mode)):
                network = self.book.find_network(name)
                wanted = request
                if position == 0 and spec.mac_address and not request.mac_address:
                    wanted = replace(request, mac_address=spec.mac_address)
                if network is None or network.config_only:
                    # It may appear until the start, which alone tells of one that is settings.
                    made[name] = _place(name, wanted)
                    continue
                if position == 0 and spec.links and is_user_defined(network):
                    wanted = replace(wanted, links=(*wanted.links, *spec.links))
                made[network.name] = self.reserve(record, network, wanted, early=True)
        except BaseException:
            self.release(made.values())
            raise
        return made

    def settle(self, record: ContainerRecord) -> ContainerRecord:
        """Return the record, of a container that starts, with places in networks that came after it.

        One whose addresses went to others while it did not run gets new ones. Raises NotFoundError for a network that is
        not there, ForbiddenError where no address is left.
        """
        endpoints: dict[str, Endpoint] = {}
        made: list[Endpoint] = []
        try:
            for name, endpoint in record.endpoints.items():
                network = self.book.find_network(endpoint.network_id or name)
                if network is not None and endpoint.network_id and not _lacks(endpoint, network):
                    endpoints[name] = endpoint
                    continue
                if network is None and not record.started_at:
                    network = self.book.find_network(name)
                if network is None:
                    raise NotFoundError(
                        f"failed to set up container networking: network {name} not found"
                    )
                if network.config_only:
                    raise ForbiddenError(
                        "failed to set up container networking: cannot create endpoint on configuration-only network"
                    )
                endpoints[network.name] = self.reserve(record, network, _again(endpoint))
                made.append(endpoints[network.name])
        except BaseException:
            self.release(made)
            raise
        return replace(record, endpoints=endpoints) if made else record

    def reserve(
        self,
        container: ContainerRecord,
        network: NetworkRecord,
        request: EndpointRequest,
        *,
        early: bool = False,
    ) -> Endpoint:
        """Take addresses for a container in a network; ``early``, before it starts, it may have to wait for them.

        Raises ForbiddenError where none is left or the one asked for is taken, InvalidInputError.
        """
        if network.config_only:
            raise ForbiddenError("cannot create endpoint on configuration-only network")
        user_defined = is_user_defined(network)
        check_endpoint(network, request, user_defined=user_defined)
        endpoint = replace(
            _place(network.name, request),
            network_id=network.id,
            endpoint_id=new_id(),
            mac_address="",
            dns_names=_dns_names(container, request.aliases) if user_defined else (),
        )
        if network.driver in NO_KERNEL:
            return endpoint
        taken = self._taken.setdefault(network.id, set())
        endpoint = replace(
            endpoint, mac_address=request.mac_address or addresses.mac_address(endpoint.endpoint_id)
        )
        for ipv6 in (False, True):
            wanted = request.ipv6_address if ipv6 else request.ipv4_address
            family = [item for item in network.subnets if addresses.is_ipv6(item.subnet) == ipv6]
            if not family:
                if wanted:
                    raise InvalidInputError(
                        f"invalid endpoint settings:\nno configured subnet contains IP address {wanted}"
                    )
                continue
            try:
                subnet, address = _chosen(family, wanted, taken)
            except ForbiddenError:
                if early:
                    return _without_addresses(endpoint)
                if not self._take_back(network):
                    raise
                subnet, address = _chosen(family, wanted, taken)
            prefix = addresses.prefix_of(subnet.subnet)
            if ipv6:
                endpoint = replace(
                    endpoint, ipv6_address=address, ipv6_prefix=prefix, ipv6_gateway=subnet.gateway
                )
            else:
                endpoint = replace(
                    endpoint, ipv4_address=address, ipv4_prefix=prefix, gateway=subnet.gateway
                )
        self._take(endpoint)
        return endpoint

    def _take_back(self, network: NetworkRecord) -> bool:
        """Take their addresses from containers that do not run, which keep them as long as nobody needs them.

        Tells whether there were any.
        """
        found = False
        for record in self.book.containers():
            live = self.book.live(record.id)
            if record.status in lifecycle.BUSY or live.lock.locked() or live.cleaning:
                continue
            held = {
                name: endpoint
                for name, endpoint in record.endpoints.items()
                if endpoint.network_id == network.id
                and (endpoint.ipv4_address or endpoint.ipv6_address)
            }
            if held:
                found = True
                self.release(held.values())
                bare = {name: _without_addresses(endpoint) for name, endpoint in held.items()}
                self.book.save(replace(record, endpoints={**record.endpoints, **bare}))
        return found

    def _take(self, endpoint: Endpoint) -> None:
        taken = self._taken.setdefault(endpoint.network_id, set())
        taken.update(item for item in (endpoint.ipv4_address, endpoint.ipv6_address) if item)

    def release(self, endpoints: Iterable[Endpoint]) -> None:
        """Give addresses back; may be repeated."""
        for endpoint in endpoints:
            taken = self._taken.get(endpoint.network_id)
            if taken is not None:
                taken -= {endpoint.ipv4_address, endpoint.ipv6_address}

    async def connect(self, ref: str, container: str, request: EndpointRequest) -> None:
        """Put a container into a network, running or not.

        Raises NotFoundError, InvalidInputError, ForbiddenError when it is there already, ConflictError.
        """
        record = self.book.container(container)
        async with self.book.live(record.id).lock:
            record = self.book.container(record.id)
            if record.status not in lifecycle.LIVE:
                self._connect_later(record, ref, request)
                return
            network = self.resolve(ref)
            if network.config_only:
                raise ForbiddenError("cannot create endpoint on configuration-only network")
            check_connect(record, network)
            endpoint = self._reserve_more(record, network, request)
            try:
                record = await self._sandboxes.join(record, network, endpoint)
                self.book.save(record)
            except BaseException:
                self.release([endpoint])
                raise

    def _connect_later(self, record: ContainerRecord, ref: str, request: EndpointRequest) -> None:
        """Note a network for the next start, which alone tells when it is not there; it may be noted anew."""
        network = self.book.find_network(_plain(ref))
        if network is None or network.config_only:
            endpoint = _place(network.name if network else ref, request)
        else:
            before = record.endpoints.get(network.name)
            others = {key: item for key, item in record.endpoints.items() if key != network.name}
            check_connect(replace(record, endpoints=others), network)
            self.release([before] if before else [])
            try:
                endpoint = self._reserve_more(record, network, request)
            except BaseException:
                if before:
                    self._take(before)
                raise
        endpoints = {**record.endpoints, endpoint.network_name: endpoint}
        self.book.save(replace(record, endpoints=endpoints))

    def _reserve_more(
        self, record: ContainerRecord, network: NetworkRecord, request: EndpointRequest
    ) -> Endpoint:
        try:
            return self.reserve(record, network, request)
        except InvalidInputError as error:
            # Where one network is meant, Docker does not name it.
            words = error.message.removeprefix(f"invalid config for network {network.name}: ")
            raise InvalidInputError(words, hint=error.hint) from error

    async def disconnect(self, ref: str, container: str, force: bool = False) -> None:
        """Take a container out of a network; raises NotFoundError, ConflictError when it is not in it."""
        network = self.resolve(ref)
        found = self.book.find(container)
        if found is None:
            if force:
                raise NotFoundError(f"endpoint {container} not found")
            raise NotFoundError(f"No such container: {container}")
        async with self.book.live(found.id).lock:
            record = self.book.container(found.id)
            if record.spec.network_mode == "host" and network.driver == "host":
                raise InvalidInputError(
                    "container cannot be disconnected from host network or connected to host network"
                )
            endpoint = record.endpoints.get(network.name)
            if endpoint is None:
                which = "" if record.status in lifecycle.LIVE else "the "
                raise ConflictError(
                    f"container {record.id} is not connected to {which}network {network.name}"
                )
            if record.status in lifecycle.LIVE:
                record = await self._sandboxes.leave(record, network, endpoint)
            else:
                left = {key: item for key, item in record.endpoints.items() if key != network.name}
                record = replace(record, endpoints=left)
            self.book.save(record)
            self.release([endpoint])

    def renamed(self, record: ContainerRecord) -> ContainerRecord:
        """Return the record with the names its networks answer to brought in line with its own."""
        endpoints = {
            key: replace(item, dns_names=_dns_names(record, item.aliases))
            if item.dns_names
            else item
            for key, item in record.endpoints.items()
        }
        return replace(record, endpoints=endpoints)

    def _event(self, action: str, record: NetworkRecord) -> None:
        self.events.publish(
            "network", action, record.id, {"name": record.name, "type": record.driver}
        )


def _place(name: str, request: EndpointRequest) -> Endpoint:
    """Return a place in a network that is not there yet."""
    return Endpoint(
        network_id="",
        network_name=name,
        endpoint_id="",
        mac_address=request.mac_address,
        aliases=request.aliases,
        links=request.links,
        driver_opts=dict(request.driver_opts),
        gw_priority=request.gw_priority,
        requested_ipv4=request.ipv4_address,
        requested_ipv6=request.ipv6_address,
        link_local_ips=request.link_local_ips,
    )


def _again(endpoint: Endpoint) -> EndpointRequest:
    """Return what was asked for when the endpoint was made."""
    asked = endpoint.mac_address
    if endpoint.endpoint_id and asked == addresses.mac_address(endpoint.endpoint_id):
        asked = ""
    return EndpointRequest(
        network=endpoint.network_name,
        aliases=endpoint.aliases,
        links=endpoint.links,
        ipv4_address=endpoint.requested_ipv4,
        ipv6_address=endpoint.requested_ipv6,
        mac_address=asked,
        driver_opts=endpoint.driver_opts,
        gw_priority=endpoint.gw_priority,
        link_local_ips=endpoint.link_local_ips,
    )


def _bridge_subnet(address: str) -> Subnet:
    return addresses.complete(Subnet(subnet=address, gateway=address.partition("/")[0]))


def _plain(ref: str) -> str:
    return "bridge" if ref == "default" else ref


def _ordered(
    requests: Mapping[str, EndpointRequest], mode: str
) -> list[tuple[str, EndpointRequest]]:
    return sorted(requests.items(), key=lambda item: (item[0] != mode, item[0]))


def _dns_names(container: ContainerRecord, aliases: Sequence[str]) -> tuple[str, ...]:
    names = (container.name, *aliases, short_id(container.id), container.hostname)
    return tuple(dict.fromkeys(name for name in names if name))


def _lacks(endpoint: Endpoint, network: NetworkRecord) -> bool:
    """Tell whether an endpoint's addresses were taken back."""
    has_some = bool(endpoint.ipv4_address or endpoint.ipv6_address)
    return not has_some and bool(network.subnets) and network.driver not in NO_KERNEL


def _without_addresses(endpoint: Endpoint) -> Endpoint:
    return replace(
        endpoint,
        ipv4_address="",
        ipv4_prefix=0,
        gateway="",
        ipv6_address="",
        ipv6_prefix=0,
        ipv6_gateway="",
    )


def _chosen(family: Sequence[Subnet], wanted: str, taken: set[str]) -> tuple[Subnet, str]:
    """Return an address and its subnet; raises ForbiddenError where it is taken, or all are."""
    if wanted:
        return addresses.check_static(wanted, family, taken), wanted
    address = _pick(family, taken)
    return next((item for item in family if addresses.contains(item, address)), family[0]), address


def _pick(family: Sequence[Subnet], taken: set[str]) -> str:
    for subnet in family[:-1]:
        try:
            return addresses.pick_address(subnet, taken)
        except ForbiddenError:
            continue
    return addresses.pick_address(family[-1], taken)


def _is_isolated(subnet: Subnet, request: NetworkRequest) -> bool:
    """Tell whether the bridge has no address in a subnet: the host is then not on the network."""
    return request.options.get(GATEWAY_MODE[addresses.is_ipv6(subnet.subnet)]) == "isolated"


def _without_gateway(subnet: Subnet) -> Subnet:
    return replace(subnet, gateway="")
