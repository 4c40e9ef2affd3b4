"""What networks and places in them may not be; pure. Raises what Docker answers, in its words."""

import json
import posixpath
import re
from contextlib import suppress

from stackctl.contracts.container import ContainerRecord, EndpointRequest
from stackctl.contracts.state import GATEWAY_MODE, NetworkRecord
from stackctl.engine import addresses
from stackctl.engine.requests import NetworkRequest
from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnsupportedError,
)

PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}
_SWITCHES = frozenset(
    {"bridge.enable_icc", "bridge.enable_ip_masquerade", "bridge.default_bridge"}
    | {"bridge.inhibit_ipv4"}
)
_TRUTHS = frozenset({"1", "t", "true", "0", "f", "false"})
_GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")
NO_KERNEL = frozenset({"host", "null"})


def network_mode(mode: str) -> str:
    """Return the network mode with "default" spelt out."""
    return "bridge" if mode in ("", "default") else mode


def check_request(request: NetworkRequest) -> None:
    """Refuse a network that cannot be made; raises InvalidInputError, ForbiddenError, NotFoundError, UnsupportedError."""
    name = request.name
    if not name:
        raise InvalidInputError("invalid name: name is empty")
    if name in PREDEFINED or name == "default":
        raise ForbiddenError(f"operation is not permitted on predefined {name} network ")
    if posixpath.basename(name) != name or name.startswith("container:"):
        raise InvalidInputError(f"invalid network name: {name!r}")
    if request.config_only or request.config_from:
        _check_configuration(request)
        if request.config_only:
            return
    if request.ingress:
        raise ForbiddenError("Ingress network can only be global scope network")
    if request.scope == "swarm":
        raise ForbiddenError("cannot create a swarm scoped network when swarm is not active")
    driver = request.driver or "bridge"
    if driver in ("host", "null"):
        raise ForbiddenError(f'only one instance of "{driver}" network is allowed')
    if driver == "overlay":
        raise UnsupportedError(
            "the overlay driver is not offered: it needs swarm mode",
            hint="Use the bridge driver for containers of one machine.",
        )
    if driver not in ("bridge", "macvlan"):
        raise NotFoundError(f'plugin "{driver}" not found')
    if request.ipam_driver == "null":
        raise InvalidInputError(
            "ipv4 pool is empty" if request.enable_ipv4 else "ipv6 pool is empty"
        )
    if request.ipam_driver not in ("", "default"):
        raise NotFoundError(f'plugin "{request.ipam_driver}" not found')
    check_options(request)
    if not request.enable_ipv4 and not request.enable_ipv6:
        raise InvalidInputError("IPv4 or IPv6 must be enabled")


def _check_configuration(request: NetworkRequest) -> None:
    """Refuse what a network of settings cannot say, and what one that is made by such a one must not say itself."""
    if request.config_only and (
        request.ingress or request.internal or request.attachable or request.scope
    ):
        raise ForbiddenError(
            "configuration network can only contain network specific fields. Network operator fields like "
            "[ ingress | internal | attachable | scope ] are not supported."
        )
    if not request.config_from:
        return
    if request.config_only:
        raise ForbiddenError(
            "a configuration network cannot depend on another configuration network"
        )
    if (
        request.ipam_driver not in ("", "default")
        or not request.enable_ipv4
        or request.enable_ipv6
        or request.labels
        or request.ipam_options
        or request.subnets
    ):
        raise ForbiddenError(
            "user specified configurations are not supported if the network depends on a configuration network"
        )
    if request.options:
        raise ForbiddenError(
            "network driver options are not supported if the network depends on a configuration network"
        )


def check_options(request: NetworkRequest) -> None:
    """Refuse values that the bridge cannot take, in Docker's words."""
    for name, value in request.options.items():
        key = name.removeprefix("com.docker.network.")
        text = json.dumps(value[:80], ensure_ascii=False)
        if key == "driver.mtu" and not re.fullmatch("[+-]?[0-9]{1,7}", value):
            reason = f"strconv.Atoi: parsing {text}: invalid syntax"
        elif key == "driver.mtu" and int(value) < 0:
            raise InvalidInputError(f"invalid MTU number: {value}")
        elif key in _SWITCHES and value.lower() not in _TRUTHS:
            reason = f"strconv.ParseBool: parsing {text}: invalid syntax"
        elif name in GATEWAY_MODE and value not in _GATEWAY_MODES:
            reason = f"unknown gateway mode {value[:80]}"
        elif key == "bridge.host_binding_ipv4" and not _is_address(value):
            reason = "nil ip"
        else:
            continue
        raise InvalidInputError(f"failed to parse {name} value: {value[:80]} ({reason})")
    if not request.internal and "isolated" in [request.options.get(key) for key in GATEWAY_MODE]:
        raise InvalidInputError("gateway mode 'isolated' can only be used for an internal network")


def _is_address(text: str) -> bool:
    with suppress(InvalidInputError):
        return bool(addresses.parse_address(text))
    return False


def check_endpoint(network: NetworkRecord, request: EndpointRequest, *, user_defined: bool) -> None:
    """Refuse aliases and addresses that a place in the network cannot have; raises InvalidInputError."""
    if network.driver in NO_KERNEL:
        return
    if not user_defined and request.aliases:
        raise InvalidInputError(
            f"invalid config for network {network.name}: invalid endpoint settings:\n"
            "network-scoped alias is supported only for containers in user defined networks"
        )
    for address in (request.ipv4_address, request.ipv6_address):
        if not address:
            continue
        addresses.parse_address(address)
        if not user_defined:
            wrong = ["user specified IP address is supported on user defined networks only"]
            if not any(addresses.contains(item, address) for item in network.subnets):
                wrong.append(f"no configured subnet or ip-range contain the IP address {address}")
            lines = wrong if len(wrong) == 1 else [f"* {line}" for line in wrong]
            raise InvalidInputError(
                "invalid config for network bridge: invalid endpoint settings:\n" + "\n".join(lines)
            )
        asked = [item for item in network.requested_subnets if item.subnet]
        version6 = ":" in address
        if not any(addresses.is_ipv6(item.subnet) == version6 for item in asked):
            raise InvalidInputError(
                f"invalid config for network {network.name}: invalid endpoint settings:\n"
                "user specified IP address is supported only when connecting to networks with "
                "user configured subnets"
            )


def check_connect(record: ContainerRecord, network: NetworkRecord) -> None:
    """Refuse a further network; raises ConflictError, InvalidInputError, ForbiddenError when it is in it."""
    mode = network_mode(record.spec.network_mode)
    if record.status.value in ("removing", "dead"):
        raise ConflictError(
            f"container is marked for removal and cannot be connected or disconnected to the network {network.name}"
        )
    if mode.startswith("container:") or (mode == "host" and "host" in record.endpoints):
        raise InvalidInputError(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )
    if network.driver == "host":
        raise InvalidInputError(
            "cannot connect container to host network - container must be created in host network mode"
        )
    if "none" in record.endpoints and network.name != "none":
        raise InvalidInputError(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )
    if network.driver == "null":
        raise InvalidInputError(
            "container cannot be connected to multiple networks with one of the networks in "
            "private (none) mode"
        )
    if network.name in record.endpoints:
        raise ForbiddenError(
            f"endpoint with name {record.name} already exists in network {network.name}"
        )
