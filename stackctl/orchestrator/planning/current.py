"""Whether a container is what the stack file asks for, and if not, why."""

from stackctl.orchestrator.model.mounts import BindMount, VolumeMount
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.compose_hash import compose_hash
from stackctl.orchestrator.planning.draft import Work, image_reference
from stackctl.orchestrator.planning.fingerprint import Fingerprint, changes
from stackctl.orchestrator.planning.graph import namespace_parents
from stackctl.orchestrator.planning.observed import ObservedContainer
from stackctl.orchestrator.planning.plan import Cause, Change


def why_recreate(
    work: Work, service: Service, container: ObservedContainer, fingerprint: Fingerprint
) -> Cause | None:
    """Return why the container must be made anew for certain, or None."""
    return (
        _removal(container)
        or _definition(work, service, container, fingerprint)
        or _image(work, service, container)
        or _rebuilt(work, service)
        or _drifted_networks(work, service, container)
        or _drifted_mounts(work, service, container)
    )


def uncertain_images(work: Work, service: Service) -> tuple[str, ...]:
    """Return the image operations that decide whether the container is current: its own and its parents'."""
    reference = image_reference(work.stack, service)
    found = [work.uncertain[reference]] if reference in work.uncertain else []
    for parent in namespace_parents(service):
        found += work.recreated.get(parent, ())
    return tuple(dict.fromkeys(found))


def parent_recreated(work: Work, service: Service) -> Cause | None:
    """Return the cause where a service whose namespaces this one shares is made anew for certain."""
    for parent, shared in namespace_parents(service).items():
        if work.recreated.get(parent, ("?",)) == ():
            return Cause(reason=f"shares the {shared} of {parent}, which is recreated")
    return None


def missing_networks(work: Work, service: Service, container: ObservedContainer) -> list[str]:
    """Return the keys of networks the container should be in and is not."""
    return [
        key
        for key in service.networks
        if key in work.stack.networks and work.stack.networks[key].name not in container.networks
    ]


def _removal(container: ObservedContainer) -> Cause | None:
    if container.state in ("dead", "removing"):
        return Cause(reason=f"the container is {container.state}")
    return None


def _definition(
    work: Work, service: Service, container: ObservedContainer, fingerprint: Fingerprint
) -> Cause | None:
    before = container.labels.get(labels.FINGERPRINT, "")
    if before == fingerprint.digest:
        return None
    if not before:
        theirs = container.labels.get(labels.CONFIG_HASH, "")
        if theirs and theirs == compose_hash(work.stack, service, work.first_container):
            return None
        return Cause(reason="definition changed")
    known = container.labels.get(labels.DEFINITION, "")
    differences = changes(known, fingerprint.definition)
    version = before.partition(":")[0]
    if not differences and known and version != fingerprint.digest.partition(":")[0]:
        return None  # only the form of the fingerprint is another
    return Cause(reason="definition changed", changes=differences)


def _image(work: Work, service: Service, container: ObservedContainer) -> Cause | None:
    reference = image_reference(work.stack, service)
    if reference in work.images:
        if reference in work.uncertain:
            return None
        return Cause(reason="image was removed")
    present = work.observed.image(reference)
    if present is None or not container.image_id or present.id == container.image_id:
        return None
    change = Change(field="image ID", before=_short(container.image_id), after=_short(present.id))
    return Cause(reason="image changed", changes=(change,))


def _rebuilt(work: Work, service: Service) -> Cause | None:
    for key in service.networks:
        if key in work.networks:
            return Cause(reason=f"network {work.stack.networks[key].name} is made anew")
    for mount in service.volumes:
        if isinstance(mount, VolumeMount) and mount.source in work.volumes:
            return Cause(reason=f"volume {work.stack.volumes[mount.source].name} is made anew")
    return None


def _drifted_networks(work: Work, service: Service, container: ObservedContainer) -> Cause | None:
    for key in service.networks:
        network = work.stack.networks.get(key)
        present = work.observed.networks.get(network.name) if network else None
        joined = container.networks.get(network.name, "") if network else ""
        if network and present and joined and present.id and joined != present.id:
            change = Change(field="network ID", before=_short(joined), after=_short(present.id))
            reason = f"network {network.name} is another one now"
            return Cause(reason=reason, changes=(change,))
    return None


def _drifted_mounts(work: Work, service: Service, container: ObservedContainer) -> Cause | None:
    if container.mounts is None:
        return None
    there = {mount.target.rstrip("/") or "/": mount for mount in container.mounts}
    for mount in service.volumes:
        wanted = ""
        if isinstance(mount, VolumeMount) and mount.source in work.stack.volumes:
            kind, wanted = "volume", work.stack.volumes[mount.source].name
        elif isinstance(mount, BindMount):
            kind, wanted = "bind", mount.source
        else:
            continue
        present = there.get(mount.target.rstrip("/") or "/")
        if present is None:
            change = Change(field=f"volumes.{mount.target}", before=None, after=wanted)
        elif present.type != kind or (kind == "volume" and present.source != wanted):
            change = Change(field=f"volumes.{mount.target}", before=present.source, after=wanted)
        else:
            continue
        return Cause(reason="mounts changed", changes=(change,))
    return None


def _short(identity: str) -> str:
    return identity.removeprefix("sha256:")[:12]
