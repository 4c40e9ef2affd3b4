"""What Compose accepts and no engine can do: ports claimed twice, targets mounted twice, addresses that do not fit.

``config`` warns of them; who starts the services refuses. Each doubt comes with its path in the stack.
"""

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping

from stackctl.orchestrator.stackfile.marks import Map, Mark, Raw, Where, entries, mark_of
from stackctl.orchestrator.stackfile.portspec import is_address
from stackctl.orchestrator.stackfile.volumes import volume_target

Doubt = tuple[Where, str]
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]+)?")
_EXPOSE = re.compile(
    r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?", re.IGNORECASE | re.ASCII
)
_MAC = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4})", re.IGNORECASE | re.ASCII)
_WINDOWS = re.compile(r"[A-Za-z]:|\\\\")


def doubts(
    tree: Map,
    services: Mapping[str, Raw],
    networks: Mapping[str, Raw],
    doubled: Mapping[int, tuple[Mark, str]],
) -> list[Doubt]:
    """Return what cannot work though Compose accepts it, among these services and networks in normal form.

    ``tree`` is the marked tree they were made from, ``doubled`` what ``doubled_targets`` found in the files.
    """
    found = _port_conflicts(services)
    subnets = {name: _subnets(name, network, found) for name, network in networks.items()}
    _overlaps(subnets, found)
    _addresses(services, subnets, found)
    for name, service in services.items():
        node = (tree.get("services") or {}).get(name)
        if isinstance(node, Map):
            found.extend(_doubled(name, node, doubled))
        found.extend(_service(name, service))
    return found


# Targets mounted twice --------------------------------------------------------------------------------------------


def doubled_targets(tree: Map) -> Iterator[tuple[Mark, str]]:
    """Yield the entries of one list as it is written that mount where an earlier one does; Compose drops the earlier.

    That an override file or an extending service has another mount for a target is what merging is for.
    """
    services = tree.get("services")
    for name, service in services.items() if isinstance(services, dict) else ():
        for key, target_of in _TARGETS.items() if isinstance(service, dict) else ():
            items = service.get(key)
            seen: dict[str, int] = {}
            for index, (item, mark) in enumerate(entries(items if isinstance(items, list) else ())):
                target = target_of(item)
                if target is None:
                    continue
                first = seen.setdefault(target, index)
                if first != index and item != items[first] and mark is not None:
                    message = (
                        f'service "{name}": {target} is mounted twice, first by {key}[{first}]'
                    )
                    yield mark, message


def _mount_target(item: Raw) -> str | None:
    target = item.get("target") if isinstance(item, dict) else item
    if isinstance(item, str):
        target = volume_target(item)
    return posixpath.normpath(target) if isinstance(target, str) and target else None


def _file_target(directory: str) -> Callable[[Raw], str | None]:
    def target_of(item: Raw) -> str | None:
        source = item.get("source") if isinstance(item, dict) else item
        target = item.get("target", source) if isinstance(item, dict) else source
        return posixpath.join(directory, target) if isinstance(target, str) else None

    return target_of


_TARGETS: dict[str, Callable[[Raw], str | None]] = {
    "volumes": _mount_target,
    "configs": _file_target("/"),
    "secrets": _file_target("/run/secrets"),
}


def _doubled(name: str, service: Map, doubled: Mapping[int, tuple[Mark, str]]) -> Iterator[Doubt]:
    for key in _TARGETS if doubled else ():
        for index in range(len(service.get(key) or ())):
            mark = mark_of(service[key], index)
            if mark is not None and id(mark) in doubled:
                yield ("services", name, key, index), doubled[id(mark)][1]


# One service by itself ----------------------------------------------------------------------------------------------


def _service(name: str, service: Raw) -> Iterator[Doubt]:
    base: Where = ("services", name)
    whose = f'service "{name}":'
    restart = service.get("restart")
    if restart and not _RESTART.fullmatch(restart):
        known = "no, always, unless-stopped, on-failure or on-failure:TIMES"
        yield (*base, "restart"), f"{whose} {restart!r} is not a restart policy: {known}"
    for index, text in enumerate(service.get("expose") or ()):
        if not _is_port(text):
            yield (*base, "expose", index), f"{whose} {text!r} is not a port to expose"
    for index, text in enumerate(service.get("dns") or ()):
        if not is_address(text.partition("%")[0]):
            yield (*base, "dns", index), f"{whose} {text!r} is not the address of a DNS server"
    for index, mount in enumerate(service.get("volumes") or ()):
        target = mount.get("target", "")
        if target and not target.startswith("/") and not _WINDOWS.match(target):
            yield (
                (*base, "volumes", index),
                f"{whose} the target {target!r} is not an absolute path",
            )
    mac = service.get("mac_address")
    if mac and not _MAC.fullmatch(mac):
        yield (*base, "mac_address"), f"{whose} {mac!r} is not a MAC address"
    for limit, value in (service.get("ulimits") or {}).items():
        if isinstance(value, dict) and 0 <= value.get("hard", 0) < value.get("soft", 0):
            where = (*base, "ulimits", limit)
            yield where, f"{whose} the soft limit of {limit} is above the hard limit"


def _is_port(text: str) -> bool:
    match = _EXPOSE.fullmatch(text)
    return match is not None and 0 < int(match[1]) <= int(match[2] or match[1]) < 65536


# Ports --------------------------------------------------------------------------------------------------------------


def _port_conflicts(services: Mapping[str, Raw]) -> list[Doubt]:
    """A port without host address claims all addresses; ranges leave the engine a choice."""
    claims: dict[tuple[str, str], list[tuple[str, str]]] = {}
    found: list[Doubt] = []
    for name, service in services.items():
        for index, port in enumerate(service.get("ports") or ()):
            published = str(port.get("published", ""))
            if not published.isdigit() or published == "0":
                continue
            host = port.get("host_ip", "")
            known = claims.setdefault((published, port.get("protocol", "tcp").lower()), [])
            owner = next((other for other, address in known if _overlap(host, address)), None)
            if owner is not None:
                whose = "by itself" if owner == name else f'by service "{owner}"'
                message = (
                    f'service "{name}": port {published} of the host is claimed already {whose}'
                )
                found.append((("services", name, "ports", index), message))
            known.append((name, host))
    return found


def _overlap(first: str, second: str) -> bool:
    everywhere = ("", "0.0.0.0", "::")
    if ":" in first + second and "" not in (first, second) and (":" in first) != (":" in second):
        return False
    return first == second or first in everywhere or second in everywhere


# Addresses ----------------------------------------------------------------------------------------------------------

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def _subnets(name: str, network: Raw, found: list[Doubt]) -> list[Subnet]:
    subnets: list[Subnet] = []
    for index, pool in enumerate((network.get("ipam") or {}).get("config") or ()):
        where: Where = ("networks", name, "ipam", "config", index)
        text = pool.get("subnet")
        if not text:
            continue
        try:
            subnet = ipaddress.ip_network(text, strict=False)
        except ValueError:
            found.append(((*where, "subnet"), f'network "{name}": {text!r} is not a subnet'))
            continue
        subnets.append(subnet)
        gateway = pool.get("gateway")
        if gateway and not _inside(gateway, subnet):
            message = f'network "{name}": the gateway {gateway} is not an address in {subnet}'
            found.append(((*where, "gateway"), message))
        part = pool.get("ip_range")
        if part and not _is_part(part, subnet):
            message = f'network "{name}": the range {part} is not a part of {subnet}'
            found.append(((*where, "ip_range"), message))
        for host, address in (pool.get("aux_addresses") or {}).items():
            if not _inside(address, subnet):
                message = f'network "{name}": {address} is not an address in {subnet}'
                found.append(((*where, "aux_addresses", host), message))
    return subnets


def _inside(text: str, subnet: Subnet) -> bool:
    return is_address(text) and ipaddress.ip_address(text) in subnet


def _is_part(text: str, subnet: Subnet) -> bool:
    try:
        part = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return part.version == subnet.version and part.subnet_of(subnet)  # type: ignore[arg-type]


def _overlaps(subnets: Mapping[str, list[Subnet]], found: list[Doubt]) -> None:
    """Note subnets that share addresses; sorted, each need only look at the widest before it."""
    places = [
        (subnet, name, index)
        for name, listed in subnets.items()
        for index, subnet in enumerate(listed)
    ]
    places.sort(
        key=lambda place: (place[0].version, int(place[0].network_address), place[0].prefixlen)
    )
    widest: tuple[Subnet, str, int] | None = None
    for place in places:
        subnet, name, index = place
        if widest and widest[0].version == subnet.version and subnet.overlaps(widest[0]):
            message = (
                f'network "{name}": {subnet} overlaps with {widest[0]} of network "{widest[1]}"'
            )
            found.append((("networks", name, "ipam", "config", index, "subnet"), message))
        else:
            widest = place


def _addresses(
    services: Mapping[str, Raw], subnets: Mapping[str, list[Subnet]], found: list[Doubt]
) -> None:
    """Note addresses that do not fit their network, and those that two services claim."""
    owners: dict[tuple[str, str], str] = {}
    for name, service in services.items():
        for network, endpoint in (service.get("networks") or {}).items():
            base: Where = ("services", name, "networks", network)
            for key in ("ipv4_address", "ipv6_address"):
                address = (endpoint or {}).get(key)
                if not address:
                    continue
                reason = _misfit(address, key, subnets.get(network) or [])
                owner = owners.setdefault((network, address), name)
                if not reason and owner != name:
                    reason = f'is taken by service "{owner}"'
                if reason:
                    found.append(((*base, key), f'service "{name}": {address} {reason}'))
            mac = (endpoint or {}).get("mac_address")
            if mac and not _MAC.fullmatch(mac):
                message = f'service "{name}": {mac!r} is not a MAC address'
                found.append(((*base, "mac_address"), message))


def _misfit(text: str, key: str, subnets: list[Subnet]) -> str:
    """Say why an address does not fit its network, or nothing."""
    version = 4 if key == "ipv4_address" else 6
    if not is_address(text) or (address := ipaddress.ip_address(text)).version != version:
        return f"is not an IPv{version} address"
    same = [subnet for subnet in subnets if subnet.version == version]
    if same and not any(address in subnet for subnet in same):
        return f"is outside of {', '.join(map(str, same))}"
    return ""
