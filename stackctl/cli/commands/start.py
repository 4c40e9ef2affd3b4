"""stackctl start."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl start    stackctl start web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
) -> None:
    """Start stopped containers, in the order of their dependencies."""
    session = Session.of(ctx)
    with session.lock(session.project()):
        session.start_containers(session.project(), tuple(services or ()))
