"""A plan as text: a sign, what, why; the fields that changed under it."""

from collections import Counter

from stackctl.orchestrator.planning.plan import (
    CreateContainer,
    Operation,
    Plan,
    RemoveContainer,
    RenameContainer,
    StartContainer,
    StopContainer,
    WaitContainers,
)

COLOURS = {"+": "32", "-": "31", "~": "33", "±": "33"}
NOTHING = "Nothing to do: stack {stack} is as its file says.\n"


def text(plan: Plan, *, colour: bool) -> str:
    """Return what ``stackctl plan`` prints."""
    if not plan.has_changes:
        return NOTHING.format(stack=plan.stack) + _orphans(plan)
    lines = [f"Plan for stack {plan.stack}:", ""]
    folded = _folded(plan)
    for operation in plan:
        if operation.id not in folded:
            lines += _lines(operation, colour=colour)
    lines += ["", _summary(plan)]
    return "\n".join(lines) + "\n" + _orphans(plan)


def _folded(plan: Plan) -> set[str]:
    """Return the steps that a recreation implies: its one line says them all."""
    replaced = {
        operation.action.name
        for operation in plan
        if isinstance(operation.action, CreateContainer) and operation.action.replaces
    }
    return {
        operation.id
        for operation in plan
        if operation.action.name in replaced
        and isinstance(
            operation.action, StopContainer | RemoveContainer | RenameContainer | StartContainer
        )
    }


def _lines(operation: Operation, *, colour: bool) -> list[str]:
    first, *rest = str(operation).split("\n")
    sign = operation.action.sign
    if type(operation.action) is CreateContainer and operation.action.replaces:
        sign = "±"
        first = first.replace("+ create", "± recreate", 1)
    code = COLOURS.get(sign)
    if colour and code:
        first = f"\033[{code}m{first}\033[0m"
    return [f"  {first}", *(f"  {line}" for line in rest)]


def _summary(plan: Plan) -> str:
    folded = _folded(plan)
    counts = Counter(
        f"{_verb(operation)} {operation.action.kind}"
        for operation in plan
        if operation.id not in folded and not isinstance(operation.action, WaitContainers)
    )
    parts = [f"{count} × {what}" for what, count in counts.items()]
    warning = "\nThis removes volumes and the data in them." if plan.destroys_data else ""
    return f"To do: {', '.join(parts)}.{warning}"


def _verb(operation: Operation) -> str:
    action = operation.action
    return "recreate" if type(action) is CreateContainer and action.replaces else action.verb


def _orphans(plan: Plan) -> str:
    if not plan.orphans:
        return ""
    return f"Not in the stack file: {', '.join(plan.orphans)} (up --remove-orphans removes them).\n"
