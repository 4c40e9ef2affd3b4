"""What is refused at create for contradicting itself or the host, in Docker's words, and what Docker warns of; pure."""

import ipaddress
from collections.abc import Collection
from dataclasses import replace

from stackctl.api.codec import Reader
from stackctl.contracts.container import ContainerSpec
from stackctl.engine.security import parse_security_opt, pick_capabilities
from stackctl.engine.signals import signal_number
from stackctl.engine.world import HostFacts
from stackctl.errors import InvalidInputError

# What clients that know containerd call runc.
_CONTAINERD_RUNC = "io.containerd.runc.v2"
_LONGEST_HOSTNAME = 64
# Field, what an error calls it, the words it may be, whether it may be container:NAME.
_MODES = (
    ("pid_mode", "PID", ("", "host"), True),
    ("ipc_mode", "IPC", ("", "none", "private", "shareable", "host"), True),
    ("uts_mode", "UTS", ("", "host"), False),
    ("userns_mode", "user namespace", ("", "host"), False),
    ("cgroupns_mode", "cgroup namespace", ("", "private", "host"), False),
)
_WEIGHT = "Your kernel does not support Block I/O {0} or the cgroup is not mounted. {1} discarded."


def check(spec: ContainerSpec) -> None:
    """Raise InvalidInputError for what no container could be made of."""
    if spec.auto_remove and spec.restart_policy.name not in ("", "no"):
        raise InvalidInputError("can't create 'AutoRemove' container with restart policy")
    if spec.hostname:
        _check_hostname(spec.hostname)
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise InvalidInputError(
            f"invalid WorkingDir: the working directory '{spec.working_dir[:200]}' is invalid, "
            "it needs to be an absolute path"
        )
    if spec.stop_signal:
        signal_number(spec.stop_signal)
    if "" in spec.annotations:
        raise InvalidInputError(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )
    if "" in spec.volumes_from:
        raise InvalidInputError("volumes-from specification cannot be an empty string")
    if "" in spec.links:
        raise InvalidInputError("invalid HostConfig.Links: empty string specified for links")
    parse_security_opt(spec.security_opt)
    pick_capabilities(drop=spec.cap_drop)
    pick_capabilities(add=spec.cap_add)
    _check_modes(spec)
    _check_names(spec)
    _check_network_mode(spec)


def check_runtime(spec: ContainerSpec, known: Collection[str]) -> None:
    """Raise InvalidInputError for a runtime that is not among those ``known``."""
    if spec.runtime and spec.runtime not in (*known, _CONTAINERD_RUNC):
        raise InvalidInputError(
            f"unknown or invalid runtime name: {spec.runtime[:80]}",
            hint=f"HostConfig.Runtime may be {', '.join(sorted(known))}",
        )


def _check_hostname(text: str) -> None:
    # The kernel takes nearly anything, and names with underscores are common; /etc/hosts takes no blanks.
    if len(text.encode()) > _LONGEST_HOSTNAME or not text.isprintable() or " " in text:
        raise InvalidInputError(f"invalid Hostname: invalid hostname format: {text[:80]}")


def _check_modes(spec: ContainerSpec) -> None:
    for field, title, words, shared in _MODES:
        mode: str = getattr(spec, field)
        kind, colon, name = mode.partition(":")
        if mode in words or (shared and kind == "container" and colon and name):
            continue
        raise InvalidInputError(f"invalid {title} mode: {mode[:80]}")


def _check_names(spec: ContainerSpec) -> None:
    for server in spec.dns:
        if not _is_address(server):
            raise InvalidInputError(
                f"invalid HostConfig.Dns: bad nameserver address {server[:80]}",
                hint="give IP addresses",
            )
    for entry in spec.extra_hosts:
        name, colon, address = entry.partition(":")
        if not (name and colon):
            raise InvalidInputError(
                f'invalid HostConfig.ExtraHosts: bad format for add-host: "{entry[:80]}"',
                hint="write it as name:address",
            )
        if address != "host-gateway" and not _is_address(address):
            raise InvalidInputError(
                f'invalid HostConfig.ExtraHosts: invalid IP address in add-host: "{address[:80]}"'
            )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_network_mode(spec: ContainerSpec) -> None:
    mode = spec.network_mode
    if mode.startswith("container:"):
        if not mode.removeprefix("container:"):
            raise InvalidInputError(
                "invalid network mode: invalid container format container:<name|id>"
            )
        conflicts = (
            (spec.hostname, "hostname and the network mode"),
            (
                spec.links,
                "container type network can't be used with links. This would result in undefined behavior",
            ),
            (spec.dns, "dns and the network mode"),
            (spec.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (spec.mac_address, "mac-address and the network mode"),
            (
                spec.port_bindings or spec.publish_all_ports,
                "port publishing and the container type network mode",
            ),
            (spec.exposed_ports, "port exposing and the container type network mode"),
        )
        for present, words in conflicts:
            if present:
                raise InvalidInputError(f"conflicting options: {words}")
    if mode == "host" and spec.links:
        raise InvalidInputError(
            "conflicting options: host type networking can't be used with links. "
            "This would result in undefined behavior"
        )
    if spec.uts_mode == "host" and spec.hostname:
        raise InvalidInputError("conflicting options: hostname and the UTS mode")
    if mode != "host" and any(item.network == "host" for item in spec.endpoints):
        raise InvalidInputError(
            "failed to set up container networking: cannot connect container to host network - "
            "container must be created in host network mode"
        )


def settle(
    spec: ContainerSpec, body: Reader, host: HostFacts
) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return the container as this host can make it, and what its user should know of that."""
    warnings: list[str] = []
    if spec.memory > 0 and spec.memory_swap == 0:
        spec = replace(spec, memory_swap=2 * spec.memory)
    if body.child("HostConfig").integer("CpuPercent") > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
    if spec.blkio_weight and not host.blkio_weight:
        warnings.append(_WEIGHT.format("weight", "Weight"))
        spec = replace(spec, blkio_weight=0)
    weighted = [item for item in spec.blkio_devices if item.kind == "weightDevice"]
    if weighted and not host.blkio_weight:
        warnings.append(_WEIGHT.format("weight_device", "Weight-device"))
        kept = tuple(item for item in spec.blkio_devices if item not in weighted)
        spec = replace(spec, blkio_devices=kept)
    if any(mount.type == "image" for mount in spec.mounts):
        warnings.append("Image mount is an experimental feature")
    if spec.mac_address:
        warnings.append(
            "The container-wide MacAddress field is now deprecated. It should be specified in "
            "EndpointsConfig instead."
        )
    return spec, tuple(warnings)
