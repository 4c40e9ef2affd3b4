"""A part of a plan: what can be done now, where some of it has to wait or is not wanted."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from stackctl.orchestrator.planning.plan import Operation, Plan, RunHook, StartContainer


def without(
    plan: Plan, services: AbstractSet[str] = frozenset(), done: AbstractSet[str] = frozenset()
) -> Plan:
    """Return the plan without what concerns some services, nor anything that comes after that.

    The containers of ``done`` (IDs) have done their work: they are not started again, and what waited for their start
    waits no more.
    """
    left_alone = _starts_of(plan, done)
    dropped: set[str] = set()
    kept: list[Operation] = []
    for item in plan.operations:
        if item.id in left_alone:
            continue
        if item.action.service in services or not dropped.isdisjoint(item.after):
            dropped.add(item.id)
            continue
        kept.append(_after(item, [key for key in item.after if key not in left_alone]))
    return Plan(
        stack=plan.stack, operations=tuple(kept), orphans=plan.orphans, warnings=plan.warnings
    )


def _starts_of(plan: Plan, done: AbstractSet[str]) -> set[str]:
    """Return the IDs of the starts of containers that are done, and of the hooks that follow them."""
    found: set[str] = set()
    names: set[str] = set()
    for item in plan.operations:
        match item.action:
            case StartContainer(id=identity, name=name) if identity in done:
                found.add(item.id)
                names.add(name)
            case RunHook(point="post_start", name=name) if name in names:
                found.add(item.id)
    return found


def _after(item: Operation, after: Iterable[str]) -> Operation:
    return Operation(
        id=item.id,
        action=item.action,
        cause=item.cause,
        after=tuple(after),
        when_changed=item.when_changed,
    )
