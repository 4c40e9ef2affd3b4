"""stackctl scale."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest, parse_scale

EPILOG = "Examples: stackctl scale web=3    stackctl scale web=3 worker=5    stackctl scale web=0"


def command(
    ctx: typer.Context,
    pairs: Annotated[list[str], typer.Argument(metavar="SERVICE=NUMBER…", help="How many.")],
    no_deps: Annotated[bool, typer.Option(help="Leave what they depend on alone.")] = False,
) -> None:
    """Set the number of containers of services."""
    session = Session.of(ctx)
    wanted = parse_scale(pairs)
    request = UpRequest(services=tuple(wanted), scale=wanted, no_deps=no_deps)
    stack = session.stack_to_start(request.services, no_deps=no_deps)
    with session.lock(stack.name):
        session.apply(session.agreed(session.plan_up(stack, request)), stack)
        session.agents.tell(stack, request)
