"""The container of ``run``: a service's, changed for one command."""

import shlex
from dataclasses import dataclass, replace

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.apply.bodies import container_body, container_labels
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.operations import Run, put_files
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.images import image_reference
from stackctl.orchestrator.planning.plan import CreateContainer
from stackctl.values import Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a one-off container has other than its service says.

    ``environment`` entries are NAME=VALUE; ``volumes`` SOURCE:TARGET[:MODE]; ``publish`` [IP:]HOST:CONTAINER[/PROTOCOL].
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


def create(engine: Engine, stack: Stack, name: str, changes: Changes, *, key: bytes) -> str:
    """Create the container and return its ID; it is not started.

    Its labels are the service's with ``oneoff`` True, so that ``up`` and ``ps`` leave it alone and ``down`` removes it.
    """
    service = changed(stack.services[name], changes)
    reference = image_reference(stack, stack.services[name])
    inputs = read_inputs(stack, key, [name])
    run = Run(engine=engine, stack=stack, inputs=inputs)
    action = CreateContainer(
        name=changes.name, service=name, number=1, created_as=changes.name, image=reference
    )
    body = container_body(
        stack,
        service,
        action,
        image_id=run.image_id(reference),
        container_of=run.container_of,
        inputs=inputs,
        one_network=True,
    )
    host = body["HostConfig"]
    if not isinstance(host, dict):
        raise InvalidInputError("a container body has no HostConfig")
    labels: dict[str, Json] = {
        **container_labels(
            stack, service, action, image_id=run.image_id(reference), inputs=inputs, oneoff=True
        )
    }
    host |= _ports(host, changes)
    host["RestartPolicy"] = {"Name": "no"}
    binds = host.get("Binds")
    host["Binds"] = [*(binds if isinstance(binds, list) else []), *map(_absolute, changes.volumes)]
    exposed = body.get("ExposedPorts")
    published = host["PortBindings"]
    body |= {
        "Labels": labels,
        "StdinOnce": changes.stdin,
        "AttachStdin": changes.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "ExposedPorts": {
            **(exposed if isinstance(exposed, dict) else {}),
            **({key_0: {} for key_0 in published} if isinstance(published, dict) else {}),
        },
    }
    identity = str(engine.create_container(changes.name, body, platform=service.platform)["Id"])
    try:
        put_files(run, identity, service)
    except BaseException:
        engine.remove_container(identity, force=True, volumes=True)
        raise
    return identity


def changed(service: Service, changes: Changes) -> Service:
    """Return the service as the one-off container should be."""
    environment: dict[str, str | None] = dict(service.environment)
    for pair in changes.environment:
        variable, _, value = pair.partition("=")
        environment[variable] = value
    entrypoint = service.entrypoint
    if changes.entrypoint is not None:
        entrypoint = tuple(shlex.split(changes.entrypoint))
    command = changes.command if changes.command is not None else service.command
    if changes.entrypoint is not None and changes.command is None:
        command = ()
    return replace(
        service,
        command=command,
        entrypoint=entrypoint,
        environment=environment,
        tty=changes.tty,
        stdin_open=changes.stdin,
        user=changes.user or service.user,
        working_dir=changes.working_dir or service.working_dir,
        ports=service.ports if changes.service_ports else (),
        # Another container has the service's names already.
        networks={
            network: replace(endpoint, aliases=(), ipv4_address="", ipv6_address="", mac_address="")
            for network, endpoint in service.networks.items()
        },
        container_name="",
        restart="",
        healthcheck=service.healthcheck,
    )


def _ports(host: JsonObject, changes: Changes) -> JsonObject:
    bindings = host.get("PortBindings")
    found: dict[str, Json] = dict(bindings) if isinstance(bindings, dict) else {}
    for entry in changes.publish:
        target, binding = _published(entry)
        held = found.get(target)
        found[target] = [*(held if isinstance(held, list) else []), binding]
    return {"PortBindings": found}


def _published(entry: str) -> tuple[str, JsonObject]:
    head, _, container = entry.rpartition(":")
    port, slash, protocol = container.partition("/")
    address, _, host = head.rpartition(":")
    if not port.isdigit() or (host and not host.isdigit()):
        raise InvalidInputError(
            f'--publish: "{entry}" is not a port', hint="such as 8080:80 or 127.0.0.1:8080:80/tcp"
        )
    return f"{port}/{protocol if slash else 'tcp'}", {
        "HostIp": address.strip("[]"),
        "HostPort": host,
    }


def _absolute(entry: str) -> str:
    source, colon, rest = entry.partition(":")
    if not colon:
        raise InvalidInputError(f'--volume: "{entry}" has no target', hint="SOURCE:TARGET")
    if source.startswith((".", "~")):
        from pathlib import Path

        return f"{Path(source).expanduser().resolve()}:{rest}"
    return entry
