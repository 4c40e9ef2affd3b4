"""stackctl stop."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl stop    stackctl -p NAME stop -t 3 web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    timeout: Annotated[
        int | None, typer.Option("-t", "--timeout", help="Seconds before they are killed.")
    ] = None,
) -> None:
    """Stop running containers, dependents first; nothing is removed."""
    session = Session.of(ctx)
    session.agents.warn_of(session.project())
    with session.lock(session.project()):
        session.stop_containers(session.project(), tuple(services or ()), timeout=timeout)
