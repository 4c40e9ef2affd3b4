"""What to do about each named volume."""

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.mounts import VolumeMount
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.draft import Work
from stackctl.orchestrator.planning.fingerprint import changes, volume_fingerprint
from stackctl.orchestrator.planning.plan import Cause, CreateVolume, RemoveVolume


def plan_volumes(work: Work) -> None:
    """Add what the volumes of the selected services need; raises NotFoundError for an external one not there."""
    used = dict.fromkeys(
        mount.source
        for service in work.services()
        for mount in service.volumes
        if isinstance(mount, VolumeMount) and mount.source
    )
    for key in used:
        volume = work.stack.volumes.get(key)
        if volume is not None:
            _plan_volume(work, volume)


def _plan_volume(work: Work, volume: Volume) -> None:
    present = work.observed.volumes.get(volume.name)
    if volume.external:
        if present is None:
            raise NotFoundError(
                f"volume {volume.name!r} is external and is not there",
                hint=f"Create it: docker volume create {volume.name}",
            )
        return
    action = CreateVolume(name=volume.name, key=volume.key)
    if present is None:
        work.volumes[volume.key] = work.draft.add(action, "not there")
        return
    if present.labels.get(labels.PROJECT) != work.stack.name:
        work.draft.warnings.append(
            f"volume {volume.name!r} was not made for this stack; it is used as it is"
        )
        return
    before = present.labels.get(labels.FINGERPRINT, "")
    fingerprint = volume_fingerprint(volume)
    if not before or before == fingerprint.digest:
        return
    if work.options.keep_volumes:
        work.draft.warnings.append(
            f"volume {volume.name!r} is kept although its definition changed"
        )
        return
    differences = changes(present.labels.get(labels.DEFINITION, ""), fingerprint.definition)
    cause = Cause(reason="definition changed; its data is lost", changes=differences)
    removal = work.draft.add(RemoveVolume(name=volume.name), cause)
    work.rebuilt_volumes[volume.key] = removal
    work.volumes[volume.key] = work.draft.add(action, cause, [removal])
