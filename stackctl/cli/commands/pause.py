"""stackctl pause."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl pause    stackctl pause web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
) -> None:
    """Freeze running containers; `unpause` lets them go on."""
    session = Session.of(ctx)
    engine = session.engine()
    session.agents.warn_of(session.project())
    with session.lock(session.project()):
        for one in session.containers(services or (), every=False):
            if one.state == "running":
                engine.pause_container(one.id)
                session.did(f"paused {one.name}")
