"""stackctl rm."""

import sys
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError

EPILOG = "Examples: stackctl rm -f    stackctl rm -sfv web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    stop: Annotated[bool, typer.Option("-s", "--stop", help="Stop them first.")] = False,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="Their anonymous volumes too.")
    ] = False,
) -> None:
    """Remove stopped containers."""
    session = Session.of(ctx)
    engine = session.engine()
    with session.lock(session.project()):
        if stop:
            session.stop_containers(session.project(), tuple(services or ()), timeout=None)
        found = [
            one
            for one in session.containers(services or (), every=True)
            if one.state not in ("running", "paused", "restarting")
        ]
        if found:
            session.agents.warn_of(session.project())
        if not found:
            session.note("no stopped containers")
            return
        if not force:
            if not sys.stdin.isatty():
                raise InvalidInputError(
                    "rm asks before it removes, and there is no terminal", hint="use -f"
                )
            typer.confirm(f"Remove {', '.join(one.name for one in found)}?", abort=True)
        for one in found:
            engine.remove_container(one.id, volumes=volumes)
            session.did(f"removed {one.name}")
