"""A copy of a stack that meets no other: names, ports and addresses of its own; pure.

The copy's own name is on containers, networks and volumes already. What the file fixes beside it is let go: published
ports become any free ones, ``container_name`` gets the copy's name behind it (and stays as an alias), fixed names of
networks and volumes become the copy's, fixed addresses are chosen by the engine. Images are shared: they are built
once, under the stack's own name. What lies outside of the stack (external networks and volumes, bind mounts, the
host's network) stays as it is, and is told where copies would meet there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from stackctl.frozen import frozen
from stackctl.orchestrator.model.network import Endpoint, Ipam, Network
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack

AUTO = "auto"
_MAC_BASED = ("macvlan", "ipvlan")
_BRIDGE = "com.docker.network.bridge.name"
_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9]+")


@frozen
class Isolated:
    """The copy, and what its user should know of it."""

    stack: Stack
    notes: tuple[str, ...] = ()


def unique_name(original: str, token: str) -> str:
    """Return the name of a copy; ``token`` is what makes it unique."""
    return f"{original}-{token}"


def isolate(stack: Stack, original: str) -> Isolated:
    """Return a stack that was read under the copy's name as a copy of ``original``."""
    notes: list[str] = []
    names = {
        service.container_name: f"{service.container_name}-{stack.name}"
        for service in (*stack.services.values(), *stack.disabled_services.values())
        if service.container_name
    }
    networks = {key: _network(stack, item, notes) for key, item in stack.networks.items()}
    volumes = {
        key: item if item.external else replace(item, name=f"{stack.name}_{key}")
        for key, item in stack.volumes.items()
    }
    for key, volume in volumes.items():
        if volume.external:
            notes.append(f"volume {key} is external: every copy uses {volume.name}")

    def each(services: Mapping[str, Service]) -> dict[str, Service]:
        return {
            name: _service(service, original, names, networks, notes)
            for name, service in services.items()
        }

    copy = replace(
        stack,
        services=each(stack.services),
        disabled_services=each(stack.disabled_services),
        networks=networks,
        volumes=volumes,
    )
    return Isolated(stack=copy, notes=tuple(dict.fromkeys(notes)))


def _network(stack: Stack, network: Network, notes: list[str]) -> Network:
    if network.external:
        notes.append(f"network {network.key} is external: every copy is in {network.name}")
        return network
    options = {key: value for key, value in network.driver_opts.items() if key != _BRIDGE}
    renamed = replace(network, name=f"{stack.name}_{network.key}", driver_opts=options)
    if network.driver in _MAC_BASED:
        notes.append(f"network {network.key} ({network.driver}) keeps its addresses")
        return renamed
    if not network.ipam.config:
        return renamed
    notes.append(f"network {network.key}: its subnet is chosen anew in the copy")
    ipam = Ipam(driver=network.ipam.driver, options=network.ipam.options)
    return replace(renamed, ipam=ipam)


def _service(
    service: Service,
    original: str,
    names: Mapping[str, str],
    networks: Mapping[str, Network],
    notes: list[str],
) -> Service:
    if service.network_mode == "host" and (service.ports or service.expose):
        notes.append(f"service {service.name} uses the host's network: its ports are not moved")
    image = service.image
    if service.build is not None and not image:
        image = f"{original}-{service.name}"
    return replace(
        service,
        image=image,
        container_name=names.get(service.container_name, ""),
        ports=tuple(replace(port, published="") for port in service.ports),
        networks={
            key: _endpoint(service, endpoint, networks.get(key))
            for key, endpoint in service.networks.items()
        },
        network_mode=_renamed(service.network_mode, names),
        ipc=_renamed(service.ipc, names),
        pid=_renamed(service.pid, names),
        volumes_from=tuple(_renamed(entry, names) for entry in service.volumes_from),
    )


def _endpoint(service: Service, endpoint: Endpoint, network: Network | None) -> Endpoint:
    aliases = endpoint.aliases
    if service.container_name and service.container_name not in aliases:
        # Others may know it by the name that its container cannot have in every copy.
        aliases = (*aliases, service.container_name)
    if network is None or network.external or network.driver in _MAC_BASED:
        return replace(endpoint, aliases=aliases)
    return replace(endpoint, aliases=aliases, ipv4_address="", ipv6_address="", mac_address="")


def _renamed(mode: str, names: Mapping[str, str]) -> str:
    """Return container:NAME with the name that the copy's container has; anything else as it is."""
    kind, colon, rest = mode.partition(":")
    name, more, tail = rest.partition(":")
    return (
        f"{kind}:{names[name]}{more}{tail}"
        if colon and name in names and kind == "container"
        else mode
    )


@frozen
class Published:
    """One published port of one replica of a service."""

    service: str
    number: int
    target: int
    protocol: str
    host: str
    port: int


def ports_env(name: str, ports: Sequence[Published]) -> str:
    """Return variables that name a stack and say where its ports are, a line each.

    ``WEB_PORT_80`` and ``WEB_HOST_80``; ``DNS_PORT_53_UDP`` for another protocol, ``WEB_2_PORT_80`` for the second
    replica. COMPOSE_PROJECT_NAME makes whoever reads the file mean this stack in later commands.
    """
    lines = {"COMPOSE_PROJECT_NAME": name}
    for one in sorted(
        ports, key=lambda one: (one.service, one.number, one.target, ":" in one.host)
    ):
        head = _NOT_IN_VARIABLE.sub("_", one.service.upper())
        head = head if one.number < 2 else f"{head}_{one.number}"
        tail = str(one.target) if one.protocol == "tcp" else f"{one.target}_{one.protocol.upper()}"
        lines.setdefault(f"{head}_HOST_{tail}", one.host)
        lines.setdefault(f"{head}_PORT_{tail}", str(one.port))
    return "".join(f"{key}={value}\n" for key, value in lines.items())
