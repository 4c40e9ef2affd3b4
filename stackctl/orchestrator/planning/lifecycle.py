"""Plans for start, stop, restart, kill, pause, unpause and rm: containers that are there, in dependency order.

``desired`` is None where the project is known without its stack file; labels give the order then. ``services`` empty
means all. Each raises NotFoundError for a service that has no container.
"""

from collections.abc import Sequence

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.destroy import order_of
from stackctl.orchestrator.planning.draft import finish, stop_with_hooks, wait_for
from stackctl.orchestrator.planning.graph import COMPLETED, HEALTHY, dependencies
from stackctl.orchestrator.planning.observed import Observed, ObservedContainer
from stackctl.orchestrator.planning.plan import (
    ContainerAction,
    Draft,
    KillContainer,
    PauseContainer,
    Plan,
    RemoveContainer,
    RestartContainer,
    StartContainer,
    UnpauseContainer,
)


def start(
    name: str, desired: Stack | None, observed: Observed, services: Sequence[str] = ()
) -> Plan:
    """Start what is stopped, dependencies first, waiting for their conditions."""
    chosen = choose(name, observed, services)
    draft = Draft()
    started: dict[str, list[str]] = {}
    for item in chosen:
        if not item.running:
            action = StartContainer(name=item.name, service=item.service, id=item.id)
            started.setdefault(item.service, []).append(draft.add(action, "asked for"))
    for item in chosen:
        for key in started.get(item.service, []):
            draft.follow(key, _after_dependencies(draft, desired, chosen, item, started))
    return finish(name, draft)


def stop(
    name: str,
    desired: Stack | None,
    observed: Observed,
    services: Sequence[str] = (),
    *,
    timeout: float | None = None,
) -> Plan:
    """Stop what runs, dependents first."""
    draft = Draft()
    chosen = [item for item in choose(name, observed, services) if item.running]
    stops: dict[str, list[str]] = {}
    for item in chosen:
        service = desired.services.get(item.service) if desired else None
        key = stop_with_hooks(draft, item, service, "asked for", timeout=timeout)
        stops.setdefault(item.service, []).append(key)
    _dependents_first(draft, order_of(chosen, desired), stops)
    return finish(name, draft)


def restart(
    name: str,
    desired: Stack | None,
    observed: Observed,
    services: Sequence[str] = (),
    *,
    timeout: float | None = None,
    no_deps: bool = False,
) -> Plan:
    """Restart the services, dependencies first, and the dependents that ask for it (``restart: true``)."""
    names = list(services)
    if desired is not None and names and not no_deps:
        for service in desired.services.values():
            follows = any(
                dependency.restart and target in names
                for target, dependency in service.depends_on.items()
            )
            running = any(
                item.service == service.name and item.running for item in observed.containers
            )
            if follows and running and service.name not in names:
                names.append(service.name)
    draft = Draft()
    chosen = choose(name, observed, names)
    keys: dict[str, list[str]] = {}
    for item in chosen:
        action = RestartContainer(name=item.name, service=item.service, id=item.id, timeout=timeout)
        keys.setdefault(item.service, []).append(draft.add(action, "asked for"))
    for service_name, targets in order_of(chosen, desired).items():
        for key in keys[service_name]:
            for target in targets:
                if target != service_name:
                    draft.follow(key, keys.get(target, []))
    return finish(name, draft)


def kill(
    name: str, observed: Observed, services: Sequence[str] = (), *, signal: str = "SIGKILL"
) -> Plan:
    """Send a signal to what runs, all at once."""
    draft = Draft()
    for item in choose(name, observed, services):
        if item.running:
            action = KillContainer(name=item.name, service=item.service, id=item.id, signal=signal)
            draft.add(action, "asked for")
    return finish(name, draft)


def pause(name: str, observed: Observed, services: Sequence[str] = ()) -> Plan:
    return _each(name, observed, services, "running", PauseContainer)


def unpause(name: str, observed: Observed, services: Sequence[str] = ()) -> Plan:
    return _each(name, observed, services, "paused", UnpauseContainer)


def remove(
    name: str,
    desired: Stack | None,
    observed: Observed,
    services: Sequence[str] = (),
    *,
    stop_first: bool = False,
    volumes: bool = False,
    timeout: float | None = None,
) -> Plan:
    """Remove what is stopped; with ``stop_first`` what runs too."""
    draft = Draft()
    chosen = choose(name, observed, services)
    stops: dict[str, list[str]] = {}
    for item in chosen:
        after: list[str] = []
        if item.running:
            if not stop_first:
                continue
            service = desired.services.get(item.service) if desired else None
            after = [stop_with_hooks(draft, item, service, "asked for", timeout=timeout)]
            stops.setdefault(item.service, []).extend(after)
        action = RemoveContainer(name=item.name, service=item.service, id=item.id, volumes=volumes)
        draft.add(action, "asked for", after)
    _dependents_first(draft, order_of(chosen, desired), stops)
    return finish(name, draft)


def choose(name: str, observed: Observed, services: Sequence[str]) -> list[ObservedContainer]:
    """Return the containers of the services, one-off ones left out; raises NotFoundError for a service without one."""
    there = [item for item in observed.containers if not item.oneoff]
    for service in services:
        if not any(item.service == service for item in there):
            raise NotFoundError(
                f"stack {name!r} has no container of service {service!r}",
                hint=f"Create it: stackctl up {service}",
            )
    return [item for item in there if not services or item.service in services]


def _each(
    name: str,
    observed: Observed,
    services: Sequence[str],
    state: str,
    kind: type[ContainerAction],
) -> Plan:
    draft = Draft()
    for item in choose(name, observed, services):
        if item.state == state:
            draft.add(kind(name=item.name, service=item.service, id=item.id), "asked for")
    return finish(name, draft)


def _dependents_first(
    draft: Draft, edges: dict[str, list[str]], stops: dict[str, list[str]]
) -> None:
    for dependent, targets in edges.items():
        for target in targets:
            for key in stops.get(target, []):
                if target != dependent:
                    draft.follow(key, stops.get(dependent, []))


def _after_dependencies(
    draft: Draft,
    desired: Stack | None,
    chosen: list[ObservedContainer],
    item: ObservedContainer,
    started: dict[str, list[str]],
) -> list[str]:
    found: list[str] = []
    needed = {name: Dependency(condition=condition) for name, condition in item.depends_on.items()}
    if desired is not None and item.service in desired.services:
        needed = dependencies(desired.services[item.service])
    for target, dependency in needed.items():
        keys = started.get(target, [])
        if not keys or target == item.service:
            continue
        known = desired.services.get(target) if desired is not None else None
        other = known or Service(name=target)
        if dependency.condition in (HEALTHY, COMPLETED) or other.ready is not None:
            names = [one.name for one in chosen if one.service == target]
            found.append(wait_for(draft, other, names, dependency, keys))
        else:
            found += keys
    return found
