"""A plan as text: a sign, what, why; the fields that changed under it."""

from collections import Counter

from stackctl.orchestrator.planning.plan import Operation, Plan, WaitContainers

COLOURS = {"+": "32", "-": "31", "~": "33", "±": "33"}
NOTHING = "Nothing to do: stack {stack} is as its file says.\n"


def text(plan: Plan, *, colour: bool) -> str:
    """Return what ``stackctl plan`` prints."""
    if not plan.has_changes:
        return NOTHING.format(stack=plan.stack) + _orphans(plan)
    lines = [f"Plan for stack {plan.stack}:", ""]
    for operation in plan:
        lines += _lines(operation, colour=colour)
    lines += ["", _summary(plan)]
    return "\n".join(lines) + "\n" + _orphans(plan)


def _lines(operation: Operation, *, colour: bool) -> list[str]:
    first, *rest = str(operation).split("\n")
    code = COLOURS.get(operation.action.sign)
    if colour and code:
        first = f"\033[{code}m{first}\033[0m"
    return [f"  {first}", *(f"  {line}" for line in rest)]


def _summary(plan: Plan) -> str:
    counts = Counter(
        f"{operation.action.verb} {operation.action.kind}"
        for operation in plan
        if not isinstance(operation.action, WaitContainers)
    )
    parts = [f"{count} × {what}" for what, count in counts.items()]
    warning = "\nThis removes volumes and the data in them." if plan.destroys_data else ""
    return f"{len(plan)} operations: {', '.join(parts)}.{warning}"


def _orphans(plan: Plan) -> str:
    if not plan.orphans:
        return ""
    return f"Not in the stack file: {', '.join(plan.orphans)} (up --remove-orphans removes them).\n"
