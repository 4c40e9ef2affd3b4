"""Network bodies; pure."""

import ipaddress
from collections.abc import Mapping, Sequence

from stackctl.api import times
from stackctl.api.codec import Reader
from stackctl.api.filters import Filters, fits, labels_match
from stackctl.contracts.container import ContainerRecord, Endpoint
from stackctl.contracts.state import NetworkRecord, Subnet
from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

KEYS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PREDEFINED = frozenset({"bridge", "host", "none"})


def read_subnets(body: Reader) -> tuple[Subnet, ...]:
    """Return IPAM.Config; raises InvalidInputError naming the field."""
    return tuple(
        _subnet(item) for item in body.child("IPAM").children("Config") if any(item.names())
    )


def _subnet(item: Reader) -> Subnet:
    subnet, ip_range = _cidr(item, "Subnet"), _cidr(item, "IPRange")
    gateway = item.text("Gateway").partition("/")[0]
    auxiliary = item.text_map("AuxiliaryAddresses") or item.text_map("AuxAddress")
    if not subnet:
        if gateway or ip_range or auxiliary:
            raise item.fail("Subnet", "a gateway, range or address needs the subnet it is in")
        return Subnet(subnet="")
    whole = ipaddress.ip_network(subnet, strict=False)
    if not whole.prefixlen or whole.is_multicast or whole.is_loopback or whole.is_unspecified:
        raise item.fail(
            "Subnet", f"invalid subnet {subnet}: no container can have an address in it"
        )
    if str(whole) != str(ipaddress.ip_interface(subnet)):
        raise item.fail(
            "Subnet", f"invalid network config: invalid subnet {subnet}: it should be {whole}"
        )
    for name, address in (
        ("Gateway", gateway),
        *(("AuxiliaryAddresses", text) for text in auxiliary.values()),
    ):
        if address and _address(item, name, address) not in whole:
            raise item.fail(name, f"invalid gateway {address}: not in subnet {subnet}")
    if ip_range:
        part = ipaddress.ip_network(ip_range, strict=False)
        if (
            part.version != whole.version
            or part.prefixlen < whole.prefixlen
            or part[0] not in whole
        ):
            raise item.fail("IPRange", f"invalid ip-range {ip_range}: not in subnet {subnet}")
    return Subnet(subnet=subnet, gateway=gateway, ip_range=ip_range, auxiliary_addresses=auxiliary)


def _cidr(item: Reader, name: str) -> str:
    text = item.text(name)
    if not text:
        return ""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise item.fail(name, f'"{text[:80]}" is not a CIDR such as 10.5.0.0/24') from error
    if "/" not in text:
        raise item.fail(name, f'"{text}" lacks a prefix length')
    return text


def _address(item: Reader, name: str, text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise item.fail(name, f'"{text[:80]}" is not an IP address') from error


Members = Sequence[tuple[ContainerRecord, Endpoint]]


def network_body(
    record: NetworkRecord, members: Members | None, *, extra: Mapping[str, Json] | None = None
) -> JsonObject:
    """Return one network as listed or, with its members, as inspected."""
    subnets = record.subnets or record.requested_subnets
    containers: JsonObject = {
        container.id: {
            "Name": container.name,
            "EndpointID": endpoint.endpoint_id,
            "MacAddress": endpoint.mac_address,
            "IPv4Address": _with_prefix(endpoint.ipv4_address, endpoint.ipv4_prefix),
            "IPv6Address": _with_prefix(endpoint.ipv6_address, endpoint.ipv6_prefix),
        }
        for container, endpoint in members or ()
    }
    return {
        "Name": record.name,
        "Id": record.id,
        "Created": times.rfc3339(record.created),
        "Scope": "local",
        "Driver": record.driver,
        "EnableIPv4": record.enable_ipv4,
        "EnableIPv6": record.enable_ipv6,
        "IPAM": {
            "Driver": record.ipam_driver,
            "Options": {**record.ipam_options} or None,
            "Config": [_subnet_body(subnet) for subnet in subnets],
        },
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": containers,
        "Options": {**record.options},
        "Labels": {**record.labels},
        **(extra or {}),
    }


def _with_prefix(address: str, prefix: int) -> str:
    return f"{address}/{prefix}" if address else ""


def _subnet_body(subnet: Subnet) -> JsonObject:
    body: JsonObject = {"Subnet": subnet.subnet}
    if subnet.ip_range:
        body["IPRange"] = subnet.ip_range
    if subnet.gateway:
        body["Gateway"] = subnet.gateway
    if subnet.auxiliary_addresses:
        body["AuxiliaryAddresses"] = {**subnet.auxiliary_addresses}
    return body


def matches(record: NetworkRecord, filters: Filters, *, used: bool) -> bool:
    """Tell whether a list's filters hold; ``used`` says that containers are on it. Raises InvalidInputError."""
    predefined = record.name in PREDEFINED
    kinds = {"builtin" if predefined else "custom"}
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidInputError(f"invalid filter: 'type'='{value}'")
    checks = (
        ("driver", lambda value: value == record.driver),
        ("name", lambda value: fits(value, record.name)),
        ("id", lambda value: fits(value, record.id)),
        ("scope", lambda value: value == "local"),
        ("type", lambda value: value in kinds),
    )
    dangling = _dangling(filters.get("dangling", ()))
    if dangling is not None and dangling != (not used and not predefined):
        return False
    return labels_match(filters.get("label", ()), record.labels) and all(
        any(check(value) for value in filters[key]) for key, check in checks if filters.get(key)
    )


def _dangling(values: Sequence[str]) -> bool | None:
    """Return the filter's value, None when there is none; raises InvalidInputError."""
    if not values:
        return None
    if len(values) > 1:
        raise InvalidInputError('got more than one value for filter key "dangling"')
    if values[0] not in ("0", "1", "false", "true"):
        raise InvalidInputError(
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        )
    return values[0] in ("1", "true")
