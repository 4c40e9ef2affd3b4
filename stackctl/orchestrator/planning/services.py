"""What to do about each container of a service."""

import re

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.orchestrator.model.mounts import VolumeMount
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning.current import (
    missing_networks,
    parent_recreated,
    uncertain_images,
    why_recreate,
)
from stackctl.orchestrator.planning.draft import (
    Work,
    container_name,
    image_reference,
    stop_with_hooks,
    wait_for,
)
from stackctl.orchestrator.planning.fingerprint import Fingerprint, service_fingerprint
from stackctl.orchestrator.planning.graph import (
    COMPLETED,
    HEALTHY,
    dependencies,
    namespace_parents,
)
from stackctl.orchestrator.planning.observed import ObservedContainer
from stackctl.orchestrator.planning.plan import (
    Cause,
    ConnectNetwork,
    CreateContainer,
    RemoveContainer,
    RenameContainer,
    RunHook,
    StartContainer,
    UnpauseContainer,
)
from stackctl.orchestrator.planning.updates import is_updated, plan_removals, plan_update

_TEMPORARY = re.compile(r"^[0-9a-f]{12}_")


@frozen
class _Verdict:
    """A container and why it has to be made anew: for certain (``cause``) or if an image changed."""

    container: ObservedContainer
    cause: Cause | None
    when_changed: tuple[str, ...] = ()


def plan_service(work: Work, service: Service) -> None:
    """Add what the replicas of a service need; its dependencies have been planned already."""
    work.starts.setdefault(service.name, [])
    work.stops.setdefault(service.name, [])
    work.names.setdefault(service.name, [])
    if service.provider is not None:
        raise InvalidInputError(
            f"service {service.name!r}: provider services are not supported yet",
            hint="Run what it provides by hand and leave the service out.",
        )
    want = work.options.scale.get(service.name, service.scale)
    if want > 1 and service.container_name:
        raise InvalidInputError(
            f"service {service.name!r} cannot have {want} replicas: container_name "
            f"{service.container_name!r} is one container's",
        )
    fingerprint = service_fingerprint(work.stack, service, work.inputs)
    verdicts = [
        _judge(work, service, container, fingerprint) for container in _replicas(work, service)
    ]
    verdicts.sort(key=lambda item: (item.cause is not None, item.container.number))
    for verdict in verdicts[want:]:
        _remove(work, service, verdict.container, f"scaled down to {want}")
    kept = sorted(verdicts[:want], key=lambda item: item.container.number)
    if any(item.cause for item in kept):
        work.recreated[service.name] = ()
    elif maybe := next((item.when_changed for item in kept if item.when_changed), ()):
        work.recreated[service.name] = maybe
    for verdict in kept:
        _plan_replica(work, service, verdict)
    if service.name in work.updates:
        plan_removals(
            work,
            service,
            [
                (item.container, item.when_changed)
                for item in kept
                if _replaced(work, service, item)
            ],
        )
    taken = {item.container.number for item in kept}
    free = (number for number in range(1, want + len(taken) + 1) if number not in taken)
    for _ in range(want - len(kept)):
        _create(work, service, next(free))


def _replaced(work: Work, service: Service, verdict: _Verdict) -> bool:
    changed = verdict.cause is not None or bool(verdict.when_changed)
    return changed and is_updated(work, service, verdict.container)


def _replicas(work: Work, service: Service) -> list[ObservedContainer]:
    """Return one container per number; what an interrupted exchange left is removed."""
    by_number: dict[int, list[ObservedContainer]] = {}
    for container in work.containers(service.name):
        by_number.setdefault(container.number, []).append(container)
    found = []
    for number in sorted(by_number):
        same = sorted(
            by_number[number],
            key=lambda item: (bool(_TEMPORARY.match(item.name)), not item.running),
        )
        found.append(same[0])
        for container in same[1:]:
            removed = _remove(work, service, container, "left over from an interrupted change")
            # It may have the name that the next container is created under.
            work.cleared.setdefault(service.name, []).append(removed)
    return found


def _judge(
    work: Work, service: Service, container: ObservedContainer, fingerprint: Fingerprint
) -> _Verdict:
    options = work.options
    named = not options.services or service.name in options.services
    cause: Cause | None = None
    maybe: tuple[str, ...] = ()
    if options.force_recreate and (named or options.always_recreate_deps):
        cause = Cause(reason="asked for (force recreate)")
    elif options.always_recreate_deps and not named:
        cause = Cause(reason="asked for (always recreate dependencies)")
    elif not options.no_recreate:
        cause = why_recreate(work, service, container, fingerprint)
        cause = cause or parent_recreated(work, service)
        maybe = () if cause else uncertain_images(work, service)
    return _Verdict(container=container, cause=cause, when_changed=maybe)


def _plan_replica(work: Work, service: Service, verdict: _Verdict) -> None:
    container = verdict.container
    if verdict.cause is not None:
        _recreate(work, service, container, verdict.cause)
        return
    name = container.name
    after: list[str] = []
    if _TEMPORARY.match(name):
        final = container_name(work.stack, service, container.number)
        rename = RenameContainer(name=final, service=service.name, current=name)
        after.append(work.draft.add(rename, "left over from an interrupted change"))
        name = final
    work.names[service.name].append(name)
    for key in missing_networks(work, service, container):
        network = work.stack.networks[key].name
        connect = ConnectNetwork(name=name, service=service.name, key=key, network=network)
        after.append(work.draft.add(connect, "was disconnected", after, detail=f"to {network}"))
    identity = "" if verdict.when_changed else container.id
    _bring_to_life(work, service, container, name, after, identity)
    if verdict.when_changed:
        cause = Cause(reason="its image is pulled or built")
        _recreate(work, service, container, cause, when_changed=verdict.when_changed)


def _bring_to_life(
    work: Work,
    service: Service,
    container: ObservedContainer,
    name: str,
    after: list[str],
    identity: str,
) -> None:
    """Add what lets an existing, current container run."""
    if work.options.no_start or container.state == "restarting":
        return
    if container.state == "paused":
        unpause = UnpauseContainer(name=name, service=service.name, id=identity)
        key = work.draft.add(unpause, "was paused", after)
        work.starts[service.name].append(key)
    elif container.state == "running":
        restart_with_dependencies(work, service, container)
    elif not _job_done(work, service, container):
        reason = "never started" if container.state == "created" else _exited(container)
        fresh = container.state == "created"
        _start(work, service, name, reason, after, identity=identity, fresh=fresh)


def _exited(container: ObservedContainer) -> str:
    return f"not running (exited with code {container.exit_code})"


def _job_done(work: Work, service: Service, container: ObservedContainer) -> bool:
    """Tell whether it is a one-shot job that others wait for, done, and done with what it is made from now."""
    return (
        container.state == "exited"
        and container.exit_code == 0
        and any(
            other.depends_on[service.name].condition == COMPLETED
            for other in work.stack.services.values()
            if service.name in other.depends_on
        )
    )


def restart_with_dependencies(work: Work, service: Service, container: ObservedContainer) -> None:
    """Stop before and start after the dependencies with ``restart: true`` that are made anew."""
    parents = [
        name
        for name, dependency in service.depends_on.items()
        if dependency.restart and name in work.recreated
    ]
    if not parents:
        return
    when = () if any(not work.recreated[name] for name in parents) else work.recreated[parents[0]]
    reason = f"restarts with {', '.join(parents)}"
    stop = stop_with_hooks(
        work.draft,
        container,
        service,
        reason,
        timeout=work.options.timeout,
        when_changed=when,
    )
    for name in parents:
        for key in work.stops[name]:
            work.draft.follow(key, [stop])
        # What is exchanged without a gap is stopped for by nobody: its dependents follow when it is done.
        work.draft.follow(stop, work.updates.get(name, []))
    _start(work, service, container.name, reason, [stop], identity=container.id, when_changed=when)


def _create(work: Work, service: Service, number: int) -> None:
    name = container_name(work.stack, service, number)
    action = CreateContainer(
        name=name,
        service=service.name,
        number=number,
        created_as=name,
        image=image_reference(work.stack, service),
    )
    key = work.draft.add(action, "not there", _needs(work, service))
    work.names[service.name].append(name)
    if not work.options.no_start:
        _start(work, service, name, "new", [key], fresh=True)


def _recreate(
    work: Work,
    service: Service,
    old: ObservedContainer,
    cause: Cause,
    *,
    when_changed: tuple[str, ...] = (),
) -> None:
    """Add the exchange of a container: create beside it, stop, remove, rename, start.

    Where a network or volume is made anew, the old container has to go first.
    """
    name = container_name(work.stack, service, old.number)
    rebuilt = _rebuilt(work, service)
    options = work.options
    inherited = () if options.renew_anon_volumes else _anonymous_volumes(service, old)
    if not rebuilt and is_updated(work, service, old):
        key = plan_update(
            work,
            service,
            old,
            cause,
            needs=[*_needs(work, service), *await_dependencies(work, service)],
            inherited=inherited,
            when_changed=when_changed,
        )
        work.starts[service.name].append(key)
        if name not in work.names[service.name]:
            work.names[service.name].append(name)
        return
    action = CreateContainer(
        name=name,
        service=service.name,
        number=old.number,
        created_as=name if rebuilt else f"{old.id[:12]}_{name}",
        image=image_reference(work.stack, service),
        replaces=old.id,
        inherited=inherited,
    )
    before_stop: list[str] = []
    needs = _needs(work, service)
    if not rebuilt:
        before_stop = [work.draft.add(action, cause, needs, when_changed=when_changed)]
    gone = before_stop
    if old.running:
        stop = stop_with_hooks(
            work.draft,
            old,
            service,
            cause.reason,
            before_stop,
            timeout=options.timeout,
            when_changed=when_changed,
        )
        work.stops[service.name].append(stop)
        gone = [stop]
    removal = RemoveContainer(
        name=old.name, service=service.name, id=old.id, volumes=options.renew_anon_volumes
    )
    # The new container's name must not be taken for the old one's operation.
    removed = work.draft.add(removal, cause.reason, gone, when_changed=when_changed)
    if rebuilt:
        for key in rebuilt:
            work.draft.follow(key, [removed])
        last = work.draft.add(action, cause, [*needs, removed], when_changed=when_changed)
    else:
        rename = RenameContainer(name=name, service=service.name, current=action.created_as)
        last = work.draft.add(rename, cause.reason, [removed], when_changed=when_changed)
    if name not in work.names[service.name]:
        work.names[service.name].append(name)
    if not options.no_start:
        _start(work, service, name, "new", [last], when_changed=when_changed, fresh=True)


def _rebuilt(work: Work, service: Service) -> list[str]:
    networks = [
        work.rebuilt_networks[key] for key in service.networks if key in work.rebuilt_networks
    ]
    volumes = [
        work.rebuilt_volumes[mount.source]
        for mount in service.volumes
        if isinstance(mount, VolumeMount) and mount.source in work.rebuilt_volumes
    ]
    return networks + volumes


def _anonymous_volumes(service: Service, old: ObservedContainer) -> tuple[tuple[str, str], ...]:
    declared = {
        mount.target.rstrip("/")
        for mount in service.volumes
        if not (isinstance(mount, VolumeMount) and not mount.source)
    } | {entry.partition(":")[0].rstrip("/") for entry in service.tmpfs}
    return tuple(
        (mount.target, mount.source)
        for mount in old.mounts or ()
        if mount.type == "volume" and mount.target.rstrip("/") not in declared
    )


def _needs(work: Work, service: Service) -> list[str]:
    """Return the operations that must be done before a container of the service can be created."""
    found = [work.images.get(image_reference(work.stack, service))]
    found += [work.networks.get(key) for key in service.networks]
    for mount in service.volumes:
        found.append(work.images.get(getattr(mount, "source", "")))
        if isinstance(mount, VolumeMount):
            found.append(work.volumes.get(mount.source))
    needs = [key for key in found if key] + work.cleared.get(service.name, [])
    for parent in namespace_parents(service):
        needs += work.starts.get(parent, [])
    return needs


def _start(
    work: Work,
    service: Service,
    name: str,
    reason: str,
    after: list[str],
    *,
    identity: str = "",
    when_changed: tuple[str, ...] = (),
    fresh: bool = False,
) -> None:
    """Add the start of a container and the hooks around it; ``fresh``: it never ran, so it is prepared first."""
    action = StartContainer(name=name, service=service.name, id=identity)
    needs = [*after, *await_dependencies(work, service)]
    if fresh and service.pre_start:
        needs = _prepare(work, service, name, needs, identity=identity, when_changed=when_changed)
    key = work.draft.add(action, reason, needs, when_changed=when_changed)
    for index, hook in enumerate(service.post_start):
        run = RunHook(name=name, service=service.name, point="post_start", hook=hook)
        detail = f"post_start {index + 1}"
        key = work.draft.add(run, "post_start", [key], when_changed=when_changed, detail=detail)
    work.starts[service.name].append(key)


def _prepare(
    work: Work,
    service: Service,
    name: str,
    after: list[str],
    *,
    identity: str,
    when_changed: tuple[str, ...],
) -> list[str]:
    """Add the pre_start hooks, each when the one before has succeeded; return what the start comes after.

    Those that are not ``per_replica`` run once, with the first replica, before any is started.
    """
    first = service.name not in work.prepared
    after = [*after, *work.prepared.get(service.name, [])]
    for shared in (True, False):
        for index, hook in enumerate(service.pre_start):
            if hook.per_replica is shared or (shared and not first):
                continue
            run = RunHook(
                name=name, service=service.name, id=identity, point="pre_start", hook=hook
            )
            image = work.images.get(hook.image)
            detail = f"pre_start {index + 1}"
            needs = [*after, image] if image else after
            key = work.draft.add(run, "pre_start", needs, when_changed=when_changed, detail=detail)
            after = [key]
        if shared and first:
            work.prepared[service.name] = after
    return after


def await_dependencies(work: Work, service: Service) -> list[str]:
    """Return the operations after which the service's dependencies are as it needs them."""
    found: list[str] = []
    if work.options.no_deps:
        return found
    for name, dependency in dependencies(service).items():
        if name not in work.names:
            continue
        starts = work.starts[name]
        other = work.stack.services[name]
        conditional = dependency.condition in (HEALTHY, COMPLETED) or other.ready is not None
        if not conditional:
            found += starts
        elif starts or not _satisfied(work, other, dependency.condition):
            found.append(wait_for(work.draft, other, work.names[name], dependency, starts))
    return found


def _satisfied(work: Work, service: Service, condition: str) -> bool:
    containers = work.containers(service.name)
    if condition == COMPLETED:
        return all(item.state == "exited" and item.exit_code == 0 for item in containers)
    if service.ready is not None:
        return False  # nobody remembers what its probes said
    return all(item.state == "running" and item.health == "healthy" for item in containers)


def _remove(work: Work, service: Service, container: ObservedContainer, reason: str) -> str:
    after = []
    if container.running:
        after = [
            stop_with_hooks(work.draft, container, service, reason, timeout=work.options.timeout)
        ]
    removal = RemoveContainer(name=container.name, service=service.name, id=container.id)
    return work.draft.add(removal, reason, after)
