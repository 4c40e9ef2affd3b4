"""Rolling updates: which services are exchanged by ``deploy.update_config``, in which order, how many at a time.

Such a replica is exchanged in one operation that can be undone until the new container is ready; its former container
stays, stopped, until the service's last replica is exchanged, so that all can go back to it.
"""

from stackctl.orchestrator.model.deploy import UpdateConfig
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning.draft import Work, container_name, image_reference
from stackctl.orchestrator.planning.observed import ObservedContainer
from stackctl.orchestrator.planning.plan import Cause, RemoveContainer, UpdateContainer

START_FIRST = "start-first"
STOP_FIRST = "stop-first"
RELIEF = "containers.relieve"  # the feature of an engine that start-first needs


def wants_start_first(service: Service) -> bool:
    """Tell whether the stack file asks for the new container beside the old one."""
    config = update_config(service)
    return config is not None and config.order == START_FIRST


def update_config(service: Service) -> UpdateConfig | None:
    return service.deploy.update_config if service.deploy else None


def is_updated(work: Work, service: Service, old: ObservedContainer) -> bool:
    """Tell whether a container that changed is exchanged by its update_config: one that serves now."""
    return (
        update_config(service) is not None and old.state == "running" and not work.options.no_start
    )


def plan_update(
    work: Work,
    service: Service,
    old: ObservedContainer,
    cause: Cause,
    *,
    needs: list[str],
    inherited: tuple[tuple[str, str], ...],
    when_changed: tuple[str, ...],
) -> str:
    """Add the exchange of one replica, after those of the groups before; return its ID."""
    config = update_config(service) or UpdateConfig()
    name = container_name(work.stack, service, old.number)
    before = work.updates.setdefault(service.name, [])
    size = 1 if config.parallelism is None else config.parallelism
    group = len(before) // size if size else 0
    action = UpdateContainer(
        name=name,
        service=service.name,
        number=old.number,
        created_as=f"{old.id[:12]}_{name}",
        image=image_reference(work.stack, service),
        replaces=old.id,
        inherited=inherited,
        former=old.name,
        order=_order(work, service, config),
        delay=config.delay if group else 0.0,
        timeout=work.options.timeout,
        prepares=not before,
        strategy=config,
    )
    images = [work.images[hook.image] for hook in service.pre_start if hook.image in work.images]
    after = [*needs, *images, *before[: group * size]]
    key = work.draft.add(action, cause, after, when_changed=when_changed)
    before.append(key)
    return key


def plan_removals(
    work: Work, service: Service, replaced: list[tuple[ObservedContainer, tuple[str, ...]]]
) -> None:
    """Remove the former containers when every replica is exchanged."""
    for old, when_changed in replaced:
        removal = RemoveContainer(
            name=old.name,
            service=service.name,
            id=old.id,
            volumes=work.options.renew_anon_volumes,
        )
        updates = work.updates[service.name]
        work.draft.add(removal, "was replaced", updates, when_changed=when_changed)


def _order(work: Work, service: Service, config: UpdateConfig) -> str:
    if config.order != START_FIRST:
        return STOP_FIRST
    why = ""
    if not work.options.relieves:
        why = "this engine cannot hand ports and names over"
    elif service.network_mode.startswith(("service:", "container:")):
        why = "both would listen in one network namespace"
    elif service.mac_address or any(
        end.ipv4_address or end.ipv6_address or end.mac_address for end in service.networks.values()
    ):
        why = "it has a fixed address, which only one container can have"
    if not why:
        return START_FIRST
    warning = f"service {service.name!r}: each container is stopped before the new one starts, not start-first: {why}"
    if warning not in work.draft.warnings:
        work.draft.warnings.append(warning)
    return STOP_FIRST
