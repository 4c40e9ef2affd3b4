"""Plans for start, stop, kill, pause, unpause and rm: containers that are there, in dependency order.

``desired`` is None where the project is known without its stack file; labels give the order then. ``services`` empty
means all. Each raises NotFoundError for a service that has no container.
"""

from collections.abc import Mapping, Sequence

from stackctl.errors import NotFoundError
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.destroy import order_of
from stackctl.orchestrator.planning.draft import finish, run_hooks, stop_with_hooks, wait_for
from stackctl.orchestrator.planning.graph import COMPLETED, HEALTHY, dependencies
from stackctl.orchestrator.planning.observed import Observed, ObservedContainer
from stackctl.orchestrator.planning.plan import (
    ContainerAction,
    Draft,
    KillContainer,
    PauseContainer,
    Plan,
    RemoveContainer,
    StartContainer,
    UnpauseContainer,
)


def start(
    name: str, desired: Stack | None, observed: Observed, services: Sequence[str] = ()
) -> Plan:
    """Start what is stopped, dependencies first, waiting for their conditions; hooks run around it."""
    chosen = choose(name, observed, services)
    draft = Draft()
    first: dict[str, list[str]] = {}
    last: dict[str, list[str]] = {}
    for item in chosen:
        if not item.running:
            keys = _start_with_hooks(draft, _service(desired, item), item, first)
            first.setdefault(item.service, []).append(keys[0])
            last.setdefault(item.service, []).append(keys[-1])
    for item in chosen:
        for key in first.get(item.service, []):
            draft.follow(key, _after_dependencies(draft, desired, chosen, item, last))
    return finish(name, draft)


def _start_with_hooks(
    draft: Draft,
    service: Service | None,
    item: ObservedContainer,
    started: Mapping[str, list[str]],
) -> list[str]:
    """Add the start of a container and its hooks; return the first and the last operation."""
    before: list[str] = []
    if service is not None and item.state == "created":
        own = [
            hook for hook in service.pre_start if hook.per_replica or item.service not in started
        ]
        before = run_hooks(draft, item, "pre_start", own, ())
    first = next((key for key in draft.operations if f" {item.name} pre_start" in key), "")
    action = StartContainer(name=item.name, service=item.service, id=item.id)
    start = draft.add(action, "asked for", before)
    after = run_hooks(draft, item, "post_start", service.post_start if service else (), [start])
    return [first or start, *after]


def _service(desired: Stack | None, item: ObservedContainer) -> Service | None:
    return desired.services.get(item.service) if desired is not None else None


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
