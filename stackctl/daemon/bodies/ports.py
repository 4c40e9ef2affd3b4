"""Ports: exposed ports, port bindings and their ranges (HostConfig.PortBindings); pure."""

import ipaddress
import re
from collections.abc import Iterable, Sequence

from stackctl.api.codec import Reader
from stackctl.contracts.container import ContainerRecord, PortBinding, PublishedPort
from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([a-zA-Z]+))?")
PROTOCOLS = ("tcp", "udp", "sctp")


def parse_port(text: str, *, at: str) -> tuple[int, int, str]:
    """Return first port, last port and protocol of "80", "80/udp" or "80-90/tcp"; raises InvalidInputError."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f'invalid {at}: "{text[:80]}" is not a port', hint="write it as 80/tcp"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    protocol = (match[3] or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"invalid {at}: invalid proto: {match[3]}")
    if not 1 <= first <= last <= 65535:
        raise InvalidInputError(f'invalid {at}: invalid port specification: "{text}"')
    return first, last, protocol


def read_exposed(reader: Reader, name: str) -> tuple[str, ...]:
    """Return Config.ExposedPorts as "80/tcp", ranges spelled out."""
    ports: dict[str, None] = {}
    for key in reader.child(name).names():
        first, last, protocol = parse_port(key, at=reader.path(name))
        ports.update((f"{port}/{protocol}", None) for port in range(first, last + 1))
    return tuple(ports)


def read_bindings(reader: Reader, name: str) -> tuple[PortBinding, ...]:
    """Return HostConfig.PortBindings; raises InvalidInputError naming the binding."""
    bindings = reader.child(name)
    found: list[PortBinding] = []
    for key in bindings.names():
        first, last, protocol = parse_port(key, at=reader.path(name))
        entries = bindings.children(key) or (Reader({}, bindings.path(key)),)
        for entry in entries:
            found.extend(_bindings(entry, first, last, protocol))
    return tuple(found)


def _bindings(entry: Reader, first: int, last: int, protocol: str) -> Iterable[PortBinding]:
    host_ip = _address(entry)
    low, high = _host_range(entry)
    count = last - first + 1
    if count == 1:
        end = high if high > low else 0
        yield PortBinding(
            container_port=first,
            protocol=protocol,
            host_ip=host_ip,
            host_port=low,
            host_port_end=end,
        )
        return
    if low and high - low + 1 != count:
        raise entry.fail("HostPort", f"{count} container ports need {count} host ports")
    for offset in range(count):
        yield PortBinding(
            container_port=first + offset,
            protocol=protocol,
            host_ip=host_ip,
            host_port=low + offset if low else 0,
        )


def _address(entry: Reader) -> str:
    text = entry.text("HostIp")
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError as error:
        raise entry.fail("HostIp", f'"{text[:80]}" is not an IP address') from error


def _host_range(entry: Reader) -> tuple[int, int]:
    raw = entry.raw("HostPort")
    text = (
        str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else entry.text("HostPort")
    )
    if text in ("", "0"):
        return 0, 0
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    low = int(match[1]) if match else 0
    high = int(match[2] or low) if match else 0
    if not 1 <= low <= high <= 65535:
        raise entry.fail("HostPort", f'invalid port specification: "{text[:80]}"')
    return low, high


def bindings_body(bindings: Sequence[PortBinding]) -> JsonObject:
    """Return HostConfig.PortBindings as asked for."""
    body: dict[str, list[Json]] = {}
    for item in bindings:
        port = str(item.host_port) if item.host_port else ""
        if item.host_port_end:
            port = f"{item.host_port}-{item.host_port_end}"
        key = f"{item.container_port}/{item.protocol}"
        body.setdefault(key, []).append({"HostIp": item.host_ip, "HostPort": port})
    return {**body}


def settings_ports(record: ContainerRecord, published: Sequence[PublishedPort]) -> JsonObject:
    """Return NetworkSettings.Ports: what is published now, null for what is only exposed."""
    body: dict[str, Json] = dict.fromkeys(record.exposed_ports)
    for item in published:
        key = f"{item.container_port}/{item.protocol}"
        entries = body.get(key)
        entry: Json = {"HostIp": item.host_ip, "HostPort": str(item.host_port or "")}
        body[key] = [*entries, entry] if isinstance(entries, list) else [entry]
    return body


def list_ports(record: ContainerRecord, published: Sequence[PublishedPort]) -> list[Json]:
    """Return the Ports of a list entry."""
    shown: list[Json] = []
    taken: set[str] = set()
    for item in published:
        taken.add(f"{item.container_port}/{item.protocol}")
        shown.append(
            {
                "IP": item.host_ip,
                "PrivatePort": item.container_port,
                # One of a network that is routed has no port on the host.
                **({"PublicPort": item.host_port} if item.host_port else {}),
                "Type": item.protocol,
            }
        )
    for port in record.exposed_ports:
        if port not in taken:
            number, _, protocol = port.partition("/")
            shown.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return shown
