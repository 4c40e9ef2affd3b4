"""What the parts of a plan in the making share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.model.service import Dependency, Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.graph import COMPLETED, HEALTHY, READY, STARTED, in_order
from stackctl.orchestrator.planning.observed import Observed, ObservedContainer
from stackctl.orchestrator.planning.options import Options
from stackctl.orchestrator.planning.plan import (
    Draft,
    Operation,
    Plan,
    RunHook,
    StopContainer,
    WaitContainers,
)


@dataclass(slots=True, kw_only=True)
class Work:
    """One reconciliation: what goes in, and what is decided so far.

    ``images``, ``networks`` and ``volumes`` map references and keys to the operations that provide them.
    ``uncertain`` are the image operations whose result may be the image that is there. ``rebuilt_networks`` and
    ``rebuilt_volumes`` map keys to the operation that removes the old one. ``recreated`` maps services to the
    ``when_changed`` of their recreation, ``starts``, ``stops`` and ``updates`` to their operations,
    ``cleared`` to the removals of what an interrupted change left, ``prepared`` to those after which what is run once for all replicas has been run.
    """

    stack: Stack
    observed: Observed
    options: Options
    inputs: Inputs
    selected: list[str]
    draft: Draft = field(default_factory=Draft)
    images: dict[str, str] = field(default_factory=dict)
    uncertain: dict[str, str] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    rebuilt_networks: dict[str, str] = field(default_factory=dict)
    rebuilt_volumes: dict[str, str] = field(default_factory=dict)
    recreated: dict[str, tuple[str, ...]] = field(default_factory=dict)
    starts: dict[str, list[str]] = field(default_factory=dict)
    stops: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    updates: dict[str, list[str]] = field(default_factory=dict)
    cleared: dict[str, list[str]] = field(default_factory=dict)
    prepared: dict[str, list[str]] = field(default_factory=dict)

    def services(self) -> Iterable[Service]:
        return (self.stack.services[name] for name in self.selected)

    def containers(self, service: str) -> list[ObservedContainer]:
        """Return the replicas of a service, one-off containers left out."""
        return [
            item for item in self.observed.containers if item.service == service and not item.oneoff
        ]

    def first_container(self, service: str) -> str:
        """Return the ID of a service's first container, "" where it has none."""
        found = sorted(self.containers(service), key=lambda item: item.number)
        return found[0].id if found else ""


def image_reference(stack: Stack, service: Service) -> str:
    """Return the reference of a service's image: its own, or the one a build without a name gets."""
    return service.image or stack.named(service.name)


def container_name(stack: Stack, service: Service, number: int) -> str:
    """Return the name of replica ``number``, as docker compose gives it."""
    return service.container_name or stack.named(service.name, number)


def stop_with_hooks(
    draft: Draft,
    container: ObservedContainer,
    service: Service | None,
    reason: str,
    after: list[str] | tuple[str, ...] = (),
    *,
    timeout: float | None = None,
    when_changed: tuple[str, ...] = (),
) -> str:
    """Add the stop of a container, its ``pre_stop`` hooks before it; return the stop's ID."""
    hooks = service.pre_stop if service else ()
    after = run_hooks(draft, container, "pre_stop", hooks, after, when_changed=when_changed)
    stop = StopContainer(
        name=container.name, service=container.service, id=container.id, timeout=timeout
    )
    return draft.add(stop, reason, after, when_changed=when_changed)


def run_hooks(
    draft: Draft,
    container: ObservedContainer,
    point: str,
    hooks: Sequence[Hook],
    after: Sequence[str],
    *,
    when_changed: tuple[str, ...] = (),
) -> list[str]:
    """Add the hooks of a container one after the other; return what comes after them."""
    last = list(after)
    for index, hook in enumerate(hooks):
        action = RunHook(
            name=container.name,
            service=container.service,
            id=container.id,
            point=point,
            hook=hook,
        )
        detail = f"{point} {index + 1}"
        last = [draft.add(action, point, last, when_changed=when_changed, detail=detail)]
    return last


def wait_for(
    draft: Draft,
    service: Service,
    containers: Iterable[str],
    dependency: Dependency,
    after: Iterable[str],
) -> str:
    """Add the wait of a dependent for a service; return its ID.

    A service with ``x-ready`` counts as started when it is ready.
    """
    condition = READY if dependency.condition == STARTED else dependency.condition
    ready = None if condition == COMPLETED else service.ready
    limit = dependency.timeout
    if limit is None:
        limit = ready.timeout if ready else 0.0
    goal = {HEALTHY: "to be healthy", COMPLETED: "to complete"}.get(condition, "to be ready")
    within = f" within {limit:g} s" if dependency.timeout else ""
    action = WaitContainers(
        name=service.name,
        service=service.name,
        containers=tuple(containers),
        condition=condition,
        required=dependency.required,
        ready=ready,
        timeout=limit,
    )
    detail = f"{goal}{within}{'' if dependency.required else ' (optional)'}"
    return draft.add(action, "others depend on it", tuple(after), detail=detail)


def finish(stack: str, draft: Draft, *, orphans: Iterable[str] = ()) -> Plan:
    """Return the plan: every operation after those it names, otherwise in the order they were thought of.

    Raises InvalidInputError naming the cycle, if services depend on one another.
    """
    order = in_order({key: item.after for key, item in draft.operations.items()})
    known = set(order)
    operations = tuple(
        Operation(
            id=item.id,
            action=item.action,
            cause=item.cause,
            after=tuple(key for key in item.after if key in known),
            when_changed=item.when_changed,
        )
        for item in (draft.operations[key] for key in order)
    )
    return Plan(
        stack=stack,
        operations=operations,
        orphans=tuple(orphans),
        warnings=tuple(draft.warnings),
    )
