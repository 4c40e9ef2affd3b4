"""stackctl unpause."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl unpause    stackctl unpause web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
) -> None:
    """Let paused containers go on."""
    session = Session.of(ctx)
    engine = session.engine()
    with session.lock(session.project()):
        for one in session.containers(services or (), every=False):
            if one.state == "paused":
                engine.unpause_container(one.id)
                session.did(f"resumed {one.name}")
