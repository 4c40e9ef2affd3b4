"""Every decision of ``down``: dependents go first, then what they depended on, then networks, volumes, images."""

from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.draft import finish, image_reference, stop_with_hooks
from stackctl.orchestrator.planning.graph import dependencies
from stackctl.orchestrator.planning.observed import Observed, ObservedContainer, familiar
from stackctl.orchestrator.planning.options import DestroyOptions
from stackctl.orchestrator.planning.plan import (
    Draft,
    Plan,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
)

NO_OPTIONS = DestroyOptions()


def destroy(
    name: str,
    desired: Stack | None,
    observed: Observed,
    options: DestroyOptions = NO_OPTIONS,
) -> Plan:
    """Return what has to be done so that nothing of the stack ``name`` is left; pure.

    Without a stack file the labels of what is there say what belongs to the stack and in which order it goes.
    """
    draft = Draft()
    chosen, orphans = _choose(desired, observed, options)
    removals = _containers(draft, desired, chosen, options)
    left = [item for item in observed.containers if item not in chosen]
    _networks(draft, name, desired, observed, left, removals, options)
    if options.volumes:
        _volumes(draft, name, desired, observed, removals, options)
    if options.images:
        _images(draft, name, desired, chosen, observed, removals, options)
    return finish(name, draft, orphans=(item.name for item in orphans))


def order_of(containers: list[ObservedContainer], desired: Stack | None) -> dict[str, list[str]]:
    """Return each service's dependencies, by the stack file where it knows the service, else by label."""
    edges: dict[str, list[str]] = {}
    for item in containers:
        service = _service(desired, item.service)
        known = dependencies(service) if service else item.depends_on
        edges.setdefault(item.service, [])
        edges[item.service] += [name for name in known if name not in edges[item.service]]
    return edges


def _service(desired: Stack | None, name: str) -> Service | None:
    if desired is None:
        return None
    return desired.services.get(name) or desired.disabled_services.get(name)


def _choose(
    desired: Stack | None, observed: Observed, options: DestroyOptions
) -> tuple[list[ObservedContainer], list[ObservedContainer]]:
    chosen: list[ObservedContainer] = []
    orphans: list[ObservedContainer] = []
    for item in observed.containers:
        if options.services:
            if item.service in options.services:
                chosen.append(item)
        elif desired is None or options.remove_orphans or _service(desired, item.service):
            chosen.append(item)
        else:
            orphans.append(item)
    return chosen, orphans


def _containers(
    draft: Draft,
    desired: Stack | None,
    chosen: list[ObservedContainer],
    options: DestroyOptions,
) -> dict[str, list[str]]:
    """Add stops and removals; return the removals by container ID."""
    edges = order_of(chosen, desired)
    last: dict[str, list[str]] = {}
    stops: dict[str, list[str]] = {}
    for item in chosen:
        after: list[str] = []
        if item.running:
            service = _service(desired, item.service)
            stop = stop_with_hooks(draft, item, service, "down", timeout=options.timeout)
            stops.setdefault(item.service, []).append(stop)
            after = [stop]
        removal = RemoveContainer(name=item.name, service=item.service, id=item.id, volumes=True)
        last[item.id] = [draft.add(removal, "down", after)]
    for dependent, targets in edges.items():
        for target in targets:
            for key in stops.get(target, []):
                if target != dependent:
                    draft.follow(key, stops.get(dependent, []))
    return last


def _networks(
    draft: Draft,
    name: str,
    desired: Stack | None,
    observed: Observed,
    left: list[ObservedContainer],
    removals: dict[str, list[str]],
    options: DestroyOptions,
) -> None:
    in_use = {network for item in left for network in item.networks}
    external = (
        {item.name for item in desired.networks.values() if item.external} if desired else set()
    )
    for network in observed.networks.values():
        if network.labels.get(labels.PROJECT) != name or network.name in external:
            continue
        if network.name in in_use or (options.services and left):
            continue
        members = [
            key
            for item in observed.containers
            if network.name in item.networks
            for key in removals.get(item.id, [])
        ]
        draft.add(
            RemoveNetwork(name=network.name, id=network.id, keep_if_used=True), "down", members
        )


def _volumes(
    draft: Draft,
    name: str,
    desired: Stack | None,
    observed: Observed,
    removals: dict[str, list[str]],
    options: DestroyOptions,
) -> None:
    external = (
        {item.name for item in desired.volumes.values() if item.external} if desired else set()
    )
    users: dict[str, list[ObservedContainer]] = {}
    for item in observed.containers:
        for mount in item.mounts or ():
            if mount.type == "volume":
                users.setdefault(mount.source, []).append(item)
    for volume in observed.volumes.values():
        if volume.labels.get(labels.PROJECT) != name or volume.name in external:
            continue
        if options.services and any(item.id not in removals for item in users.get(volume.name, [])):
            continue
        after = [key for item in users.get(volume.name, []) for key in removals.get(item.id, [])]
        if any(item.mounts is None for item in observed.containers):
            after = [key for keys in removals.values() for key in keys]
        draft.add(RemoveVolume(name=volume.name, keep_if_used=True), "down with volumes", after)


def _images(
    draft: Draft,
    name: str,
    desired: Stack | None,
    chosen: list[ObservedContainer],
    observed: Observed,
    removals: dict[str, list[str]],
    options: DestroyOptions,
) -> None:
    wanted: dict[str, list[str]] = {}
    for item in chosen:
        reference = item.image
        service = _service(desired, item.service)
        if service is not None and desired is not None:
            reference = image_reference(desired, service)
        own = desired.named(item.service) if desired else f"{name}-{item.service}"
        unnamed = familiar(reference) == familiar(own)
        if options.images == "all" or unnamed:
            wanted.setdefault(reference, []).extend(removals[item.id])
    if desired is not None and not options.services:
        for service in desired.services.values():
            if options.images == "all" or not service.image:
                wanted.setdefault(image_reference(desired, service), [])
    for reference, after in wanted.items():
        if observed.image(reference) is not None:
            draft.add(RemoveImage(name=reference), f"down with {options.images} images", after)
