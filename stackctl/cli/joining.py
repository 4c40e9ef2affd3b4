"""Plans made and carried out: what the commands of a stack's life share."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stackctl.cli.planned import DownRequest, OneOff, UpRequest
from stackctl.errors import ConflictError, NotFoundError, StackctlError
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.observe import observe, relieves, with_ages
from stackctl.orchestrator.model.build import Build, SshKey
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.orchestrator.planning.graph import dependencies
from stackctl.orchestrator.planning.options import DestroyOptions, Options
from stackctl.orchestrator.planning.plan import BuildImage, Cause, Operation, Plan
from stackctl.orchestrator.planning.reconcile import reconcile

if TYPE_CHECKING:
    from stackctl.cli.context import Session
    from stackctl.cli.planfile import Kept
    from stackctl.orchestrator.apply.contract import Engine
    from stackctl.orchestrator.apply.progress import ProgressEvent
    from stackctl.orchestrator.watch.service import Cancel


def plan_up(
    engine: "Engine",
    stack: Stack,
    request: UpRequest,
    key: bytes,
    *,
    keep: str = "",
    kept: "Kept | None" = None,
    dependent: str = "",
) -> Plan:
    """Return what ``up`` would do; ``keep`` it in a file, or see that it is the one that was ``kept``.

    A ``dependent`` is a service whose dependencies are waited for as if it were started then.
    """
    options = Options(
        services=request.services,
        force_recreate=request.force_recreate,
        no_recreate=request.no_recreate,
        always_recreate_deps=request.always_recreate_deps,
        renew_anon_volumes=request.renew_anon_volumes,
        remove_orphans=request.remove_orphans,
        no_deps=request.no_deps,
        no_start=request.no_start,
        scale=request.scale,
        build=request.build,
        no_build=request.no_build,
        pull="" if request.pull == "policy" else request.pull,
        timeout=request.timeout,
        wait=request.wait,
        wait_timeout=request.wait_timeout,
        relieves=relieves(engine, stack),
        dependent=dependent,
    )
    observed = with_ages(engine, stack, observe(engine, stack.name))
    inputs = read_inputs(stack, key)
    plan = reconcile(stack, observed, options, inputs=inputs)
    if keep or kept is not None:
        from stackctl.cli import planfile

        sealed = planfile.seals(stack, observed, inputs)
        if kept is not None:
            planfile.check(kept, plan, sealed)
        else:
            planfile.write(keep, plan, request, sealed)
    return plan


def plan_down(engine: "Engine", project: str, stack: Stack | None, request: DownRequest) -> Plan:
    """Return what ``down`` would do."""
    from stackctl.orchestrator.planning.destroy import destroy

    options = DestroyOptions(
        services=request.services,
        volumes=request.volumes,
        images=request.images,
        remove_orphans=request.remove_orphans,
        timeout=request.timeout,
    )
    return destroy(project, stack, observe(engine, project), options)


def apply(session: "Session", plan: Plan, stack: Stack | None) -> None:
    """Carry a plan out, showing its progress; say so when there is nothing to do."""
    for text in plan.warnings:
        session.warn(text)
    if stack is not None:
        session.tie(stack)
    if not plan.operations:
        session.note(f"{plan.stack}: nothing to do")
        return
    from stackctl.cli.render.progress import Progress
    from stackctl.cli.trace import Trace
    from stackctl.orchestrator.apply.executor import execute

    progress = Progress(
        plan,
        mode=session.progress_mode,
        colour=session.colour_of_progress,
        quiet_pull=session.quiet_pull,
        quiet_build=session.quiet_build,
    )
    trace = Trace(session.trace, plan, session.spans) if session.trace else None

    def tell(event: "ProgressEvent") -> None:
        progress.tell(event)
        if session.on_event is not None:
            session.on_event(event)
        if trace is not None:
            trace.tell(event)

    try:
        execute(
            plan,
            session.engine(),
            stack=stack,
            inputs=read_inputs(stack, session.key()) if stack is not None else None,
            on_event=tell,
            parallel=session.options.parallel,
        )
    finally:
        progress.close()
        if trace is not None:
            for line in trace.write():
                session.note(line)


def start(session: "Session", project: str, services: tuple[str, ...]) -> None:
    """Start what is stopped, dependencies first."""
    from stackctl.orchestrator.planning import lifecycle

    stack = session.stack_or_none(project)
    observed = observe(session.engine(), project)
    session.apply(lifecycle.start(project, stack, observed, services), stack)


def stop(session: "Session", project: str, services: tuple[str, ...], timeout: int | None) -> None:
    """Stop what runs, dependents first."""
    from stackctl.orchestrator.planning import lifecycle

    # Its pre_stop hooks are all that the file would add; who names the stack alone goes without.
    known = session.given_name and not session.options.files
    stack = None if known else session.stack_or_none(project)
    observed = observe(session.engine(), project)
    session.apply(lifecycle.stop(project, stack, observed, services, timeout=timeout), stack)


def restart(
    session: "Session",
    project: str,
    services: tuple[str, ...],
    *,
    timeout: int | None = None,
    no_deps: bool = False,
) -> None:
    """Stop and start containers as they are, those that are to be restarted with them too."""
    with session.lock(project):
        if services and not no_deps:
            services = _with_dependents(session, services)
        stop(session, project, services, timeout)
        start(session, project, services)


def _with_dependents(session: "Session", services: tuple[str, ...]) -> tuple[str, ...]:
    """Return the services and those that are to be restarted with them, as their containers' labels say."""
    needs: dict[str, set[str]] = {}
    for one in session.containers((), every=False):
        label = one.labels.get("com.docker.compose.depends_on", "")
        entries = [entry.split(":") for entry in label.split(",")]
        needs[one.service] = {parts[0] for parts in entries if parts[2:] == ["true"]}
    chosen = dict.fromkeys(services)
    pending = list(services)
    while pending:
        name = pending.pop()
        for other, needed in needs.items():
            if name in needed and other not in chosen:
                chosen[other] = None
                pending.append(other)
    return tuple(chosen)


def build(
    session: "Session",
    stack: Stack,
    services: Sequence[str],
    *,
    no_cache: bool,
    pull: bool,
    args: Mapping[str, str | None],
    ssh: Mapping[str, str],
    output: Mapping[str, str],
    asked: Mapping[str, str],
) -> None:
    """Build the images of services, showing what each step says."""
    keys = tuple(SshKey(id=name, path=path) for name, path in ssh.items())

    def asked_for(build: Build) -> Build:
        kept = (*(key for key in build.ssh if key.id not in ssh), *keys)
        return replace(build, args={**build.args, **args}, ssh=kept)

    changed = replace(
        stack,
        services={
            name: replace(service, build=asked_for(service.build))
            if service.build is not None and (args or ssh)
            else service
            for name, service in stack.services.items()
        },
    )
    operations = tuple(
        Operation(
            id=f"build image {image_name(stack, name)}",
            action=BuildImage(
                name=image_name(stack, name),
                service=name,
                pull=pull,
                no_cache=no_cache,
                output=tuple(sorted(output.items())),
                asked=_asked(stack, name, asked),
            ),
            cause=Cause(reason="asked for"),
        )
        for name in services
    )
    session.apply(Plan(stack=stack.name, operations=operations), changed)


def _asked(stack: Stack, name: str, asked: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what is asked of one service's build: a push only where it makes the images of several platforms."""
    service = stack.services[name]
    several = service.build is not None and len(service.build.platforms) > 1
    pushes = several and bool(service.image)  # without a name of its own it goes nowhere
    return tuple(
        (key, value) for key, value in sorted(asked.items()) if value and (pushes or key != "push")
    )


def rebuild(
    session: "Session", stack: Stack, service: str, cancel: "Cancel", *, prune: bool = True
) -> None:
    """Build a service's image anew and replace its containers; the build ends when it is cancelled.

    With ``prune`` the image that it had goes, unless something uses or names it.
    """
    from stackctl.orchestrator.apply.operations import build_service

    engine = session.engine()
    before = _image_id(engine, stack, service) if prune else ""
    build_service(engine, stack, service, on_open=cancel.opened)
    if cancel.requested:
        raise ConflictError("something newer changed")
    with session.lock(stack.name):
        plan = plan_up(engine, stack, UpRequest(services=(service,), no_deps=True), session.key())
        if plan.operations:
            session.apply(plan, stack)
    if before and before != _image_id(engine, stack, service):
        # It stays where it has another name or a container.
        with contextlib.suppress(StackctlError):
            if not engine.inspect_image(before).get("RepoTags"):
                engine.remove_image(before)


def _image_id(engine: "Engine", stack: Stack, service: str) -> str:
    try:
        return str(engine.inspect_image(image_name(stack, service)).get("Id") or "")
    except NotFoundError:
        return ""


def prepare_one_off(session: "Session", stack: Stack, request: UpRequest) -> None:
    """Bring up what a one-off container of a service needs; the service itself is not started.

    The plan is that of ``up`` for its dependencies, and of ``up --no-start`` with no replicas for itself, which makes
    the image, the networks and the volumes.
    """
    service = stack.services[request.services[0]]
    needed = tuple(name for name in dependencies(service) if name in stack.services)
    engine = session.engine()
    if needed and not request.no_deps:
        first = UpRequest(services=needed)
        plan = plan_up(engine, stack, first, session.key(), dependent=service.name)
        if plan.operations:
            session.apply(plan, stack)
    itself = UpRequest(
        services=request.services,
        no_deps=True,
        no_start=True,
        no_recreate=True,
        build=request.build,
        pull=request.pull,
        remove_orphans=request.remove_orphans,
        scale={service.name: 0} if not _has_containers(session, stack, service.name) else {},
    )
    plan = plan_up(engine, stack, itself, session.key())
    if plan.operations:
        session.apply(plan, stack)


def _has_containers(session: "Session", stack: Stack, service: str) -> bool:
    return any(one.service == service for one in observe(session.engine(), stack.name).containers)


def create_one_off(session: "Session", stack: Stack, request: OneOff) -> str:
    """Create the container of ``run`` and return its ID."""
    import secrets

    from stackctl.orchestrator.apply.oneoff import Changes, create

    changes = Changes(
        name=request.name or stack.named(request.service, "run", secrets.token_hex(6)),
        command=request.command,
        entrypoint=request.entrypoint,
        environment=request.env,
        tty=request.tty,
        stdin=request.stdin,
        user=request.user,
        working_dir=request.working_dir,
        volumes=request.volumes,
        publish=request.publish,
        service_ports=request.service_ports,
        use_aliases=request.use_aliases,
        labels=request.labels,
        cap_add=request.cap_add,
        cap_drop=request.cap_drop,
    )
    return create(session.engine(), stack, request.service, changes, key=session.key())
