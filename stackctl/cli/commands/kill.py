"""stackctl kill."""

from typing import Annotated

import typer

from stackctl.cli.context import Session


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    signal: Annotated[str, typer.Option("-s", "--signal", help="Signal to send.")] = "SIGKILL",
) -> None:
    """Send a signal to running containers."""
    session = Session.of(ctx)
    session.kill_containers(session.project(), tuple(services or ()), signal=signal)
