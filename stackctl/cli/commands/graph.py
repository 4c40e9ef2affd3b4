"""stackctl graph: what depends on what."""

from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import graph as render
from stackctl.errors import InvalidInputError, StackctlError

EPILOG = (
    "Examples: stackctl graph    stackctl graph --format svg -o stack.svg"
    "    stackctl graph --format dot | dot -Tpng > stack.png"
)


def command(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Only these services and what they need.")
    ] = None,
    layout: Annotated[str, typer.Option("--format", help="text, dot, mermaid or svg.")] = "text",
    output: Annotated[str, typer.Option("-o", "--output", help="File to write to.")] = "",
    no_state: Annotated[
        bool, typer.Option("--no-state", help="Leave out how the services are; asks no engine.")
    ] = False,
) -> None:
    """Draw the services and what each waits for, with their state when the stack runs."""
    if layout not in render.LAYOUTS:
        raise InvalidInputError(f'--format: "{layout}" is not one of {", ".join(render.LAYOUTS)}')
    session = Session.of(ctx)
    stack = session.stack(tuple(services or ()))
    chosen = session.with_dependencies(stack, tuple(services or ()), True)
    states = {} if no_state else _states(session)
    text = render.LAYOUTS[layout](render.of(stack, chosen, states), session.colour)
    if output:
        Path(output).write_text(text)
    else:
        session.out(text)


def _states(session: Session) -> dict[str, str]:
    """Return what each service is doing; nothing when no engine runs, which is not started for a drawing."""
    found: dict[str, list[str]] = {}
    try:
        entries = session.containers((), every=True, start=False)
    except StackctlError:
        return {}
    for one in entries:
        found.setdefault(one.service, []).append(one.health or one.state)
    return {
        name: words[0] if len(set(words)) == 1 else ", ".join(sorted(set(words)))
        for name, words in found.items()
    }
