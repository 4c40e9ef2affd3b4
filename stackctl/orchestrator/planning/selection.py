"""Which services a command touches: names and their dependencies."""

from collections.abc import Iterable, Sequence

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.graph import dependencies, in_order


def select(stack: Stack, names: Sequence[str] = (), *, with_dependencies: bool = True) -> list[str]:
    """Return the services in dependency order: those named and what they need; all when none is named.

    Raises NotFoundError for a name that the stack does not have, InvalidInputError for a dependency that is not
    active although it is required.
    """
    for name in names:
        if name not in stack.services:
            raise _unknown(stack, name)
    wanted: dict[str, None] = {}
    waiting = list(names or stack.services)
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted[name] = None
        if with_dependencies:
            waiting += _needed(stack, name)
    edges = {
        name: list(dependencies(stack.services[name])) for name in stack.services if name in wanted
    }
    return in_order(edges)


def _needed(stack: Stack, name: str) -> list[str]:
    found = []
    for target, dependency in dependencies(stack.services[name]).items():
        if target in stack.services:
            found.append(target)
        elif dependency.required:
            profiles = target in stack.disabled_services
            raise InvalidInputError(
                f"service {name!r} depends on {target!r}, which is not active",
                hint="Its profile is not switched on: use --profile." if profiles else "",
            )
    return found


def _unknown(stack: Stack, name: str) -> NotFoundError:
    if name in stack.disabled_services:
        profiles = ", ".join(stack.disabled_services[name].profiles)
        return NotFoundError(
            f"service {name!r} is not active",
            hint=f"It belongs to the profile {profiles}: use --profile.",
        )
    from difflib import get_close_matches

    close = get_close_matches(name, list(stack.services), n=1)
    hint = f"Did you mean {close[0]!r}?" if close else _listed(stack.services)
    return NotFoundError(f"stack {stack.name!r} has no service {name!r}", hint=hint)


def _listed(names: Iterable[str]) -> str:
    return f"It has: {', '.join(names)}."
