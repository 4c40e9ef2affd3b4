"""The points of a container's life at which the stack file runs something of its own."""

from stackctl.errors import NotFoundError, StackctlError
from stackctl.orchestrator.apply.bodies import endpoint_body, ordered_networks
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.files import files_archive
from stackctl.orchestrator.apply.waiting import exit_reason, log_tail
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.values import Json, JsonObject

_SEVERAL_NETWORKS = (1, 44)


def run_inside(engine: Engine, identity: str, *, service: str, point: str, hook: Hook) -> None:
    """Run a hook in a running container; raises StackctlError with what it said when it fails."""
    body: JsonObject = {
        "Cmd": list(hook.command),
        "User": hook.user,
        "Privileged": hook.privileged,
        "WorkingDir": hook.working_dir,
        "Env": _environment(hook),
        "AttachStdout": True,
        "AttachStderr": True,
    }
    started = engine.create_exec(identity, body)
    output = b"".join(data for _, data in engine.start_exec(started))
    code = engine.inspect_exec(started).get("ExitCode")
    if code != 0:
        said = output.decode(errors="replace").strip()
        raise StackctlError(
            f"service {service!r}: {point} hook {' '.join(hook.command)!r} "
            f"ended with exit code {code}{': ' + said if said else ''}"
        )


def run_before(engine: Engine, stack: Stack, service: Service, identity: str, hook: Hook) -> None:
    """Run a ``pre_start`` hook: a container of its own, with the networks and volumes of the one to be started.

    Raises StackctlError with its last log lines when it fails.
    """
    name = f"service {service.name!r}: pre_start hook {' '.join(hook.command) or hook.image!r}"
    body = _body(stack, service, identity, hook)
    several = engine.api_version >= _SEVERAL_NETWORKS
    keys = ordered_networks(service)
    endpoints = {key: _endpoint(service, key) for key in keys}
    body["NetworkingConfig"] = {
        "EndpointsConfig": {
            stack.networks[key].name: endpoints[key] for key in (keys if several else keys[:1])
        }
    }
    made = str(engine.create_container("", body, platform=service.platform)["Id"])
    try:
        for key in () if several else keys[1:]:
            endpoint: Json = endpoints[key]
            engine.connect_network(
                stack.networks[key].name, {"Container": made, "EndpointConfig": endpoint}
            )
        archive = files_archive(stack, service)
        if archive:
            engine.put_archive(made, "/", archive)
        engine.start_container(made)
        engine.wait_container(made)
        state = engine.inspect_container(made).get("State")
        if isinstance(state, dict) and state.get("ExitCode") != 0:
            lines = log_tail(engine, made, terminal=False)
            text = "".join(f"\n    {line}" for line in lines)
            raise StackctlError(
                f"{name} {exit_reason(state)}{chr(10) + '  last log lines:' + text if text else ''}"
            )
    finally:
        _remove(engine, made)


def _body(stack: Stack, service: Service, identity: str, hook: Hook) -> JsonObject:
    """Return its container: of the service what the hook does not say, where it has the service's image."""
    own = bool(hook.image)
    variables = [
        f"{key}={value}" for key, value in service.environment.items() if value is not None
    ]
    networks = ordered_networks(service)
    mode = stack.networks[networks[0]].name if networks else "none"
    shared = service.network_mode
    body: JsonObject = {
        "Image": hook.image or image_name(stack, service.name),
        "Env": [*variables, *_environment(hook)],
        "Labels": {
            labels.PROJECT: stack.name,
            labels.SERVICE: service.name,
            labels.ONEOFF: "True",
            labels.HOOK: "pre_start",
            labels.VERSION: labels.COMPOSE_VERSION,
        },
        "HostConfig": {
            "NetworkMode": shared if shared in ("host", "none") else mode,
            "Privileged": hook.privileged,
            "VolumesFrom": [identity],
        },
    }
    optional: dict[str, Json] = {
        "Cmd": list(hook.command),
        "User": hook.user or ("" if own else service.user),
        "WorkingDir": hook.working_dir or ("" if own else service.working_dir),
    }
    return body | {key: value for key, value in optional.items() if value}


def _endpoint(service: Service, key: str) -> JsonObject:
    """Return how it stands in a network: without the service's names and addresses."""
    found = endpoint_body(service, "", service.networks[key])
    return {name: value for name, value in found.items() if name in ("DriverOpts", "GwPriority")}


def _environment(hook: Hook) -> list[Json]:
    return [f"{key}={value}" for key, value in hook.environment.items() if value is not None]


def _remove(engine: Engine, identity: str) -> None:
    try:
        engine.remove_container(identity, force=True, volumes=True)
    except NotFoundError:
        return
