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
    subnet, ip_range, gateway = item.text("Subnet"), item.text("IPRange"), item.text("Gateway")
    auxiliary = item.text_map("AuxiliaryAddresses") or item.text_map("AuxAddress")
    if not subnet and not (gateway or ip_range or auxiliary):
        return Subnet(subnet="")
    whole = _block(item, "Subnet", "subnet", subnet)
    if not whole.prefixlen or whole.is_multicast or whole.is_loopback or whole.is_unspecified:
        raise _bad(
            item, "Subnet", f"invalid subnet {subnet}: no container can have an address in it"
        )
    if str(whole) != str(ipaddress.ip_interface(subnet)):
        raise _bad(item, "Subnet", f"invalid subnet {subnet}: it should be {whole}")
    if ip_range:
        part = _block(item, "IPRange", "ip-range", ip_range)
        bigger = part.version != whole.version or part.prefixlen < whole.prefixlen
        if bigger or part[0] not in whole:
            why = (
                f"CIDR block is bigger than its parent subnet {whole}"
                if bigger
                else f"parent subnet {whole} doesn't contain ip-range"
            )
            raise _bad(item, "IPRange", f"invalid ip-range {part}: {why}")
    gateway = gateway.partition("/")[0]
    for name, what, address in (
        ("Gateway", f"gateway {gateway[:80]}", gateway),
        *(
            ("AuxiliaryAddresses", f"auxiliary address {key[:80]}", text)
            for key, text in auxiliary.items()
        ),
    ):
        if address and not _is_address(address):
            raise _bad(item, name, f"invalid {what}: invalid address")
        if address and ipaddress.ip_address(address) not in whole:
            raise _bad(
                item, name, f"invalid {what}: parent subnet {whole} doesn't contain this address"
            )
    return Subnet(subnet=subnet, gateway=gateway, ip_range=ip_range, auxiliary_addresses=auxiliary)


def _bad(item: Reader, name: str, words: str) -> InvalidInputError:
    """Return the error of a field of IPAM.Config, in Docker's words."""
    return item.fail(name, f"invalid network config:\n{words}")


def _block(
    item: Reader, name: str, what: str, text: str
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        if "/" in text:
            return ipaddress.ip_network(text, strict=False)
    except ValueError:
        pass
    raise _bad(item, name, f"invalid {what} {text[:80]}: invalid CIDR block notation")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Members = Sequence[tuple[ContainerRecord, Endpoint]]


def network_body(
    record: NetworkRecord, members: Members | None, *, extra: Mapping[str, Json] | None = None
) -> JsonObject:
    """Return one network as listed or, with its members, as inspected."""
    asked = [item for item in record.requested_subnets if item.subnet]
    known = {str(ipaddress.ip_network(item.subnet, strict=False)) for item in asked}
    # What was asked for is shown as it was; what the engine chose comes after it.
    subnets = [*asked, *(item for item in record.subnets if item.subnet not in known)]
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
            "Options": None if record.ipam_options is None else {**record.ipam_options},
            "Config": [_subnet_body(subnet) for subnet in subnets] or None,
        },
        "Internal": record.internal,
        "Attachable": record.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": record.config_from},
        "ConfigOnly": record.config_only,
        "Containers": containers,
        "Options": {**_default_options(record), **record.options},
        "Labels": {**record.labels},
        **(extra or {}),
    }


def _default_options(record: NetworkRecord) -> JsonObject:
    """Return what the predefined bridge is like, which Docker shows of that one alone."""
    if record.name != "bridge":
        return {}
    prefix = "com.docker.network.bridge"
    return {
        f"{prefix}.default_bridge": "true",
        f"{prefix}.enable_icc": "true",
        f"{prefix}.enable_ip_masquerade": "true",
        f"{prefix}.host_binding_ipv4": "0.0.0.0",
        f"{prefix}.name": record.bridge,
        "com.docker.network.driver.mtu": "1500",
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
