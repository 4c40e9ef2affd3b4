"""Every decision of ``up``, in order: images, networks, volumes, services, orphans."""

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.draft import Work, finish, stop_with_hooks, wait_for
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.graph import COMPLETED, READY
from stackctl.orchestrator.planning.images import plan_images
from stackctl.orchestrator.planning.networks import plan_networks
from stackctl.orchestrator.planning.observed import Observed, ObservedContainer
from stackctl.orchestrator.planning.options import Options
from stackctl.orchestrator.planning.plan import Plan, RemoveContainer, WaitContainers
from stackctl.orchestrator.planning.selection import select
from stackctl.orchestrator.planning.services import (
    await_dependencies,
    plan_service,
    restart_with_dependencies,
)
from stackctl.orchestrator.planning.volumes import plan_volumes

NO_OPTIONS = Options()
NO_INPUTS = Inputs()


def reconcile(
    desired: Stack,
    observed: Observed,
    options: Options = NO_OPTIONS,
    *,
    inputs: Inputs = NO_INPUTS,
) -> Plan:
    """Return what has to be done so that the engine has what the stack file says; pure.

    Raises NotFoundError for an unknown service, or an external network or volume or an image that is not there and
    may not be made; InvalidInputError for services that depend on one another.
    """
    for name in options.scale:
        if name not in desired.services:
            raise NotFoundError(f"stack {desired.name!r} has no service {name!r} to scale")
    selected = select(desired, options.services, with_dependencies=not options.no_deps)
    work = Work(stack=desired, observed=observed, options=options, inputs=inputs, selected=selected)
    plan_images(work)
    plan_networks(work)
    plan_volumes(work)
    for service in work.services():
        plan_service(work, service)
    _remove_left_hooks(work)
    _wait_for_jobs(work)
    _restart_unselected(work)
    orphans = find_orphans(desired, observed)
    if options.remove_orphans:
        _remove_orphans(work, orphans)
    if options.dependent:
        await_dependencies(work, desired.services[options.dependent])
    if options.wait and not options.no_start:
        _wait_for_all(work)
    names = () if options.remove_orphans else tuple(item.name for item in orphans)
    return finish(desired.name, work.draft, orphans=names)


def find_orphans(desired: Stack, observed: Observed) -> list[ObservedContainer]:
    """Return the containers of services that the stack file does not have; running one-off ones are no orphans."""
    known = {*desired.services, *desired.disabled_services}
    return [
        item
        for item in observed.containers
        if item.service not in known and not (item.oneoff and item.running)
    ]


def _remove_orphans(work: Work, orphans: list[ObservedContainer]) -> None:
    reason = "its service is no longer in the stack file"
    for container in orphans:
        after = []
        if container.running:
            timeout = work.options.timeout
            after = [stop_with_hooks(work.draft, container, None, reason, timeout=timeout)]
        removal = RemoveContainer(name=container.name, service=container.service, id=container.id)
        work.draft.add(removal, reason, after)


def _restart_unselected(work: Work) -> None:
    """Restart dependents with ``restart: true`` that the user did not name, when their dependency is made anew."""
    for service in work.stack.services.values():
        if service.name in work.selected or not service.depends_on:
            continue
        for container in work.containers(service.name):
            if container.state == "running":
                restart_with_dependencies(work, service, container)


def _remove_left_hooks(work: Work) -> None:
    """Remove the containers of pre_start hooks that an interrupted ``up`` left."""
    for container in work.observed.containers:
        if labels.HOOK in container.labels:
            removal = RemoveContainer(
                name=container.name, service=container.service, id=container.id, volumes=True
            )
            work.draft.add(removal, "left over from an interrupted change")


def _wait_for_jobs(work: Work) -> None:
    """Wait for the one-shot jobs that are run: how they end is how ``up`` ends, whoever else is started."""
    if work.options.no_start:
        return
    for name in work.selected:
        dependents = [
            service.depends_on[name]
            for service in work.stack.services.values()
            if name in service.depends_on and service.depends_on[name].condition == COMPLETED
        ]
        if not dependents or not work.starts.get(name):
            continue
        # One that some may go on without is waited for all the same, and its failure a warning.
        first = max(dependents, key=lambda item: item.required)
        service, names = work.stack.services[name], work.names[name]
        wait_for(work.draft, service, names, first, work.starts[name])


def _wait_for_all(work: Work) -> None:
    waited_for = {
        name
        for service in work.stack.services.values()
        for name, dependency in service.depends_on.items()
        if dependency.condition == COMPLETED
    }
    for name in work.selected:
        ready = work.stack.services[name].ready
        starts = work.starts.get(name, [])
        names = work.names.get(name, [])
        if not names or (not starts and not ready and _all_ready(work, name)):
            continue
        action = WaitContainers(
            name=name,
            service=name,
            containers=tuple(names),
            condition=READY,
            exit_ok=name in waited_for,
            ready=ready,
            timeout=_least(work.options.wait_timeout, ready.timeout if ready else 0.0),
        )
        work.draft.add(action, "asked for (--wait)", starts, detail="to be ready")


def _least(*limits: float) -> float:
    """Return the shortest of times of which 0 means none."""
    return min((limit for limit in limits if limit), default=0.0)


def _all_ready(work: Work, name: str) -> bool:
    return all(
        (item.state == "running" and item.health in ("", "healthy"))
        or (item.state == "exited" and item.exit_code == 0)
        for item in work.containers(name)
    )
