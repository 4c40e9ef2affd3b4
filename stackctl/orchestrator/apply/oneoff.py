"""The container of ``stackctl run``: a service's, with the changes of one command."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stackctl.frozen import frozen
from stackctl.orchestrator.apply.bodies import (
    container_body,
    container_labels,
    endpoint_body,
    endpoints,
    ordered_networks,
)
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.files import files_archive
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.operations import SEVERAL_NETWORKS
from stackctl.orchestrator.apply.run import Run
from stackctl.orchestrator.model.mounts import BindMount, Mount, TmpfsMount, VolumeMount
from stackctl.orchestrator.model.network import Endpoint
from stackctl.orchestrator.model.ports import Port
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.orchestrator.planning.plan import CreateContainer
from stackctl.orchestrator.stackfile.portspec import parse_ports
from stackctl.orchestrator.stackfile.volumes import parse_volume
from stackctl.values import Json, JsonObject

SLUG = "com.docker.compose.slug"


@frozen
class Changes:
    """What the container has other than the service says; empty or None: as the service says.

    ``environment`` entries are ``NAME=VALUE``, ``volumes`` and ``publish`` in the short forms of the stack file.
    """

    name: str
    command: tuple[str, ...] | None = None
    entrypoint: str | None = None
    environment: tuple[str, ...] = ()
    tty: bool = False
    stdin: bool = True
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    service_ports: bool = False
    use_aliases: bool = False
    labels: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()


def create(engine: Engine, stack: Stack, name: str, changes: Changes, *, key: bytes = b"") -> str:
    """Create the container, not started, and return its ID; image, networks and volumes must be there."""
    service = changed(stack, stack.services[name], changes)
    inputs = read_inputs(stack, key, (name,))
    run = Run(engine=engine, stack=stack, inputs=inputs)
    action = CreateContainer(
        name=changes.name,
        service=name,
        number=1,
        created_as=changes.name,
        image=image_name(stack, name),
    )
    image_id = run.image_id(action.image)
    one_network = engine.api_version < SEVERAL_NETWORKS
    body: JsonObject = container_body(
        stack,
        service,
        action,
        image_id=image_id,
        container_of=run.container_of,
        inputs=inputs,
        one_network=one_network,
    )
    # One that runs a single command does not answer for the service.
    body["NetworkingConfig"] = {
        "EndpointsConfig": {
            network: {**endpoint, "Aliases": _aliases(service, endpoint, changes)}
            for network, endpoint in endpoints(stack, service, action, one_network).items()
            if isinstance(endpoint, dict)
        }
    }
    carried = container_labels(
        stack,
        service,
        action,
        image_id=image_id,
        inputs=inputs,
        container_of=run.container_of,
        oneoff=True,
    )
    carried |= dict(label.partition("=")[::2] for label in changes.labels)
    carried[SLUG] = changes.name.rpartition("-")[2]
    body["Labels"] = dict(carried)
    if changes.stdin:
        body |= {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    body |= {"AttachStdout": True, "AttachStderr": True}
    identity = str(engine.create_container(changes.name, body, platform=service.platform)["Id"])
    try:
        for extra in ordered_networks(service)[1:] if one_network else ():
            endpoint = endpoint_body(service, changes.name, service.networks[extra])
            engine.connect_network(
                stack.networks[extra].name, {"Container": identity, "EndpointConfig": endpoint}
            )
        archive = files_archive(stack, service)
        if archive:
            engine.put_archive(identity, "/", archive)
    except BaseException:
        engine.remove_container(identity, force=True, volumes=True)
        raise
    return identity


def changed(stack: Stack, service: Service, changes: Changes) -> Service:
    """Return the service with the changes of the command.

    It is not restarted, publishes the service's ports only on request, and does not answer for the service unless
    asked to: no fixed name, address or alias of it.
    """
    environment = dict(service.environment)
    for entry in changes.environment:
        variable, _, value = entry.partition("=")
        environment[variable] = value
    ports = service.ports if changes.service_ports else ()
    ports += tuple(port for text in changes.publish for port in _ports(text))
    targets = {mount.target: mount for mount in service.volumes}
    for text in changes.volumes:
        mount = _mount(stack, text)
        targets[mount.target] = mount
    entrypoint, command = service.entrypoint, service.command
    if changes.entrypoint is not None:
        # The service's command belongs to its own entrypoint.
        entrypoint, command = tuple(shlex.split(changes.entrypoint)), ()
    if changes.command is not None:
        command = changes.command
    return replace(
        service,
        command=command,
        entrypoint=entrypoint,
        environment=environment,
        ports=ports,
        volumes=tuple(targets.values()),
        user=changes.user or service.user,
        working_dir=changes.working_dir or service.working_dir,
        tty=changes.tty,
        stdin_open=changes.stdin,
        restart="no",
        container_name="",
        networks=_endpoints(service, aliases=changes.use_aliases),
        cap_add=(*service.cap_add, *changes.cap_add),
        cap_drop=(*service.cap_drop, *changes.cap_drop),
        healthcheck=service.healthcheck,
    )


def _aliases(service: Service, endpoint: JsonObject, changes: Changes) -> list[Json]:
    """Return the names it answers to: its own, and the service's on request."""
    if not changes.use_aliases:
        return [changes.name]
    known = endpoint.get("Aliases")
    given: list[Json] = list(known) if isinstance(known, list) else []
    return [changes.name, *(name for name in (service.name, *given) if name != changes.name)]


def _endpoints(service: Service, *, aliases: bool) -> Mapping[str, Endpoint]:
    return {
        key: replace(
            endpoint,
            aliases=endpoint.aliases if aliases else (),
            ipv4_address="",
            ipv6_address="",
            mac_address="",
        )
        for key, endpoint in service.networks.items()
    }


def _ports(text: str) -> list[Port]:
    return [
        Port(
            target=int(str(entry["target"])),
            published=str(entry.get("published") or ""),
            host_ip=str(entry.get("host_ip") or ""),
            protocol=str(entry.get("protocol") or "tcp"),
        )
        for entry in parse_ports(text)
    ]


def _mount(stack: Stack, text: str) -> Mount:
    entry = parse_volume(text)
    target = str(entry["target"])
    source = str(entry.get("source") or "")
    read_only = bool(entry.get("read_only"))
    match entry.get("type"):
        case "bind":
            path = Path(source).expanduser()
            place = path if path.is_absolute() else Path(stack.working_dir) / path
            return BindMount(source=str(place.resolve()), target=target, read_only=read_only)
        case "tmpfs":
            return TmpfsMount(target=target, read_only=read_only)
        case _:
            return VolumeMount(source=source, target=target, read_only=read_only)
