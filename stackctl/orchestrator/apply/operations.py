"""One operation, one engine call (or the few that make one step)."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    UnsupportedError,
)
from stackctl.orchestrator.apply import hooks
from stackctl.orchestrator.apply.bodies import (
    container_body,
    endpoint_body,
    network_body,
    ordered_networks,
    volume_body,
)
from stackctl.orchestrator.apply.context import build_query, local_body, pack
from stackctl.orchestrator.apply.contract import Engine, OnOpen
from stackctl.orchestrator.apply.files import files_archive
from stackctl.orchestrator.apply.run import Run, Tell
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.common import EMPTY
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.bake import asks_for
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.orchestrator.planning.plan import (
    BuildImage,
    ConnectNetwork,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    DisconnectNetwork,
    KillContainer,
    Operation,
    PauseContainer,
    PullImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RunHook,
    StartContainer,
    StopContainer,
    UnpauseContainer,
    UpdateContainer,
)
from stackctl.values import Json, JsonObject

SEVERAL_NETWORKS = (1, 44)


def perform(run: Run, operation: Operation, tell: Tell) -> None:
    """Do one operation; ``tell`` gets the engine's progress messages. Raises what the engine raises."""
    match operation.action:
        case PullImage() as action:
            _pull(run, operation, action, tell)
        case BuildImage() as action:
            _build(run, operation, action, tell)
        case RemoveImage() as action:
            _remove_image(run, action, tell)
        case CreateNetwork() as action:
            _create_network(run, action)
        case RemoveNetwork() as action:
            _remove_network(run, action, tell)
        case ConnectNetwork() as action:
            _connect(run, action)
        case DisconnectNetwork() as action:
            _disconnect(run, action)
        case CreateVolume() as action:
            _create_volume(run, action)
        case RemoveVolume() as action:
            _remove_volume(run, action, tell)
        case UpdateContainer() as action:
            from stackctl.orchestrator.apply.exchange import update  # few plans need it

            update(run, action, tell)
        case CreateContainer() as action:
            create_container(run, action, tell)
        case RenameContainer() as action:
            _rename(run, action)
        case StartContainer() as action:
            _start(run, action)
        case StopContainer() as action:
            _stop(run, action)
        case KillContainer() as action:
            _kill(run, action)
        case PauseContainer() as action:
            _pause(run, action)
        case UnpauseContainer() as action:
            _unpause(run, action)
        case RemoveContainer() as action:
            _remove_container(run, action)
        case RunHook() as action:
            _run_hook(run, action)
        case _:
            raise InvalidInputError(f"cannot do {operation.id!r}")


def _pull(run: Run, operation: Operation, action: PullImage, tell: Tell) -> None:
    try:
        run.engine.pull_image(action.name, platform=action.platform, on_progress=tell)
    except StackctlError as error:
        raise type_of(error)(
            f"service {action.service!r}: cannot pull {action.name}: {error.message}",
            hint=error.hint,
        ) from error
    if action.timed and "@" not in action.name:
        run.engine.tag_image(action.name, *_name_and_tag(action.name))
    _note_image(run, operation, action.name, action.present)


def _name_and_tag(reference: str) -> tuple[str, str]:
    head, _, tag = reference.rpartition(":")
    tagged = bool(head) and "/" not in tag
    return (head, tag) if tagged else (reference, "latest")


def type_of(error: StackctlError) -> type[StackctlError]:
    """Return the error's kind where it can be made from a message alone, else the root kind."""
    kind = type(error)
    return kind if kind.__init__ is StackctlError.__init__ else StackctlError


def _build(run: Run, operation: Operation, action: BuildImage, tell: Tell) -> None:
    _build_image(run.engine, run.wanted(), action, {}, tell)
    _note_image(run, operation, action.name, action.present)


def build_service(
    engine: Engine,
    stack: Stack,
    name: str,
    *,
    no_cache: bool = False,
    pull: bool = False,
    args: Mapping[str, str | None] = EMPTY,
    on_text: Callable[[str], None] | None = None,
    on_open: OnOpen | None = None,
) -> str:
    """Build the image of one service and return its reference; ``args`` go before those of the stack file.

    ``on_open`` is that of ``Engine.build_image``.
    """

    def tell(message: JsonObject) -> None:
        text = message.get("stream") or message.get("status")
        if on_text is not None and isinstance(text, str):
            on_text(text)

    action = BuildImage(name=image_name(stack, name), service=name, no_cache=no_cache, pull=pull)
    _build_image(engine, stack, action, args, tell, on_open)
    return action.name


def check_service(
    engine: Engine, stack: Stack, name: str, args: Mapping[str, str | None] = EMPTY
) -> None:
    """Have the Dockerfile of a service checked; raises InvalidInputError with what there is to find in it."""
    action = BuildImage(name=image_name(stack, name), service=name, asked=(("check", "1"),))
    _build_image(engine, stack, action, args, lambda _: None)


def _build_image(
    engine: Engine,
    stack: Stack,
    action: BuildImage,
    args: Mapping[str, str | None],
    tell: Tell,
    on_open: OnOpen | None = None,
) -> None:
    service = stack.services[action.service]
    if service.build is None:
        raise InvalidInputError(f"service {service.name!r} has no build")
    if args:
        build = replace(service.build, args={**service.build.args, **args})
        service = replace(service, build=build)
    asked = dict(action.asked)
    if service.build is not None and asked.get("check"):
        # What only steps need may be missing.
        plain = replace(service.build, secrets=(), ssh=(), cache_from=(), cache_to=())
        service = replace(service, build=plain)
    wanted = service.build or Build()
    body: JsonObject | None = None
    if engine.offers("build.local"):
        output: JsonObject = {**dict(action.output)}
        if asked.get("push"):
            output["push"] = "true"
        body = {**local_body(stack, service), "output": output, "check": bool(asked.get("check"))}
    elif action.output:
        raise UnsupportedError("--output is not offered by this engine")
    elif asked.get("check"):
        raise UnsupportedError(
            "--check is not offered by this engine", hint="the built-in engine checks Dockerfiles"
        )
    for key, value in (("provenance", wanted.provenance), ("sbom", wanted.sbom)):
        if asks_for(value) and not asked.get("check"):
            tell({"warning": f"{service.name}: build.{key} is left aside: no attestation is made"})
    query = build_query(stack, service, action, local=body is not None)
    with contextlib.ExitStack() as held:
        try:
            if body is not None:
                engine.build_local(body, query, on_progress=tell, on_open=on_open)
            else:
                context = held.enter_context(pack(wanted, service=service.name))
                engine.build_image(context, query, on_progress=tell, on_open=on_open)
        except StackctlError as error:
            if asked.get("check"):
                raise
            raise type_of(error)(
                f"service {service.name!r}: the build of {action.name} failed: {error.message}",
                hint=error.hint,
            ) from error
    for reference in wanted.tags if not asked.get("check") else ():
        engine.tag_image(action.name, *_name_and_tag(reference))


def _note_image(run: Run, operation: Operation, reference: str, present: str) -> None:
    with run.lock:
        run.images.pop(reference, None)
    if run.image_id(reference) == present:
        run.unchanged.add(operation.id)


def _remove_image(run: Run, action: RemoveImage, tell: Tell) -> None:
    try:
        run.engine.remove_image(action.name)
    except NotFoundError:
        return
    except ConflictError as error:
        # Another stack's container uses it: what is in use stays.
        tell({"warning": f"image {action.name} stays: {error.message}"})


def _create_network(run: Run, action: CreateNetwork) -> None:
    stack = run.wanted()
    run.engine.create_network(network_body(stack, stack.networks[action.key]))


def _remove_network(run: Run, action: RemoveNetwork, tell: Tell) -> None:
    try:
        run.engine.remove_network(action.id)
    except NotFoundError:
        return
    except (ConflictError, ForbiddenError) as error:
        if not action.keep_if_used:
            raise
        tell({"warning": f"network {action.name} stays: {error.message}"})


def _connect(run: Run, action: ConnectNetwork) -> None:
    service = run.service(action.service)
    endpoint = service.networks[action.key]
    run.engine.connect_network(
        action.network,
        {
            "Container": run.containers.get(action.name, action.name),
            "EndpointConfig": endpoint_body(service, action.name, endpoint),
        },
    )


def _disconnect(run: Run, action: DisconnectNetwork) -> None:
    run.engine.disconnect_network(action.network, action.id, force=True)


def _create_volume(run: Run, action: CreateVolume) -> None:
    stack = run.wanted()
    run.engine.create_volume(volume_body(stack, stack.volumes[action.key]))


def _remove_volume(run: Run, action: RemoveVolume, tell: Tell) -> None:
    try:
        run.engine.remove_volume(action.name)
    except NotFoundError:
        return
    except (ConflictError, ForbiddenError) as error:
        if not action.keep_if_used:
            raise
        tell({"warning": f"volume {action.name} stays: {error.message}"})


def create_container(run: Run, action: CreateContainer, tell: Tell) -> None:
    stack, service = run.wanted(), run.service(action.service)
    one_network = run.engine.api_version < SEVERAL_NETWORKS
    body = container_body(
        stack,
        service,
        action,
        image_id=run.image_id(action.image),
        container_of=run.container_of,
        inputs=run.inputs,
        one_network=one_network,
    )
    answer = run.engine.create_container(action.created_as, body, platform=service.platform)
    identity = str(answer["Id"])
    try:
        if one_network:
            for key in ordered_networks(service)[1:]:
                endpoint: Json = endpoint_body(service, action.name, service.networks[key])
                run.engine.connect_network(
                    stack.networks[key].name, {"Container": identity, "EndpointConfig": endpoint}
                )
        archive = files_archive(stack, service)
        if archive:
            _put_files(run.engine, service, identity, archive)
    except BaseException:
        run.engine.remove_container(identity, force=True, volumes=not action.inherited)
        raise
    run.containers[action.name] = identity
    if action.number == 1 or service.name not in run.services:
        run.services[service.name] = identity
    warnings = answer.get("Warnings")
    for text in cast(list[str], warnings if isinstance(warnings, list) else []):
        tell({"warning": text})


def _put_files(engine: Engine, service: Service, identity: str, archive: bytes) -> None:
    """Put configs and secrets in; Docker refuses it for a read-only container, even before its first start."""
    try:
        engine.put_archive(identity, "/", archive)
    except StackctlError as error:
        if not service.read_only:
            raise
        raise type_of(error)(
            f"service {service.name!r}: this engine puts no content of configs and secrets into a read_only container: "
            f"{error.message}",
            hint="Let the config or secret name a file instead, or use the built-in engine.",
        ) from error


def _rename(run: Run, action: RenameContainer) -> None:
    run.engine.rename_container(run.containers.get(action.name, action.current), action.name)


def _start(run: Run, action: StartContainer) -> None:
    run.engine.start_container(run.container(action))


def _stop(run: Run, action: StopContainer) -> None:
    try:
        run.engine.stop_container(
            run.container(action), timeout=action.timeout, signal=action.signal
        )
    except NotFoundError:
        return


def _kill(run: Run, action: KillContainer) -> None:
    run.engine.kill_container(run.container(action), signal=action.signal)


def _pause(run: Run, action: PauseContainer) -> None:
    run.engine.pause_container(run.container(action))


def _unpause(run: Run, action: UnpauseContainer) -> None:
    run.engine.unpause_container(run.container(action))


def _remove_container(run: Run, action: RemoveContainer) -> None:
    try:
        # By force: a restart policy may have started it again between its stop and now.
        run.engine.remove_container(run.container(action), force=True, volumes=action.volumes)
    except NotFoundError:
        return


def _run_hook(run: Run, action: RunHook) -> None:
    identity = run.container(action)
    if action.point == "pre_start":
        service = run.service(action.service)
        hooks.run_before(run.engine, run.wanted(), service, identity, action.hook)
        return
    hooks.run_inside(
        run.engine, identity, service=action.service, point=action.point, hook=action.hook
    )
