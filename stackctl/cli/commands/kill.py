"""stackctl kill."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl kill    stackctl kill -s SIGHUP web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    remove_orphans: Annotated[
        bool, typer.Option(help="Remove containers of services that the file no longer has.")
    ] = False,
    signal: Annotated[str, typer.Option("-s", "--signal", help="Signal to send.")] = "SIGKILL",
) -> None:
    """Send a signal to running containers."""
    session = Session.of(ctx)
    session.kill_containers(session.project(), tuple(services or ()), signal=signal)
    if not remove_orphans:
        return
    stack = session.stack()
    for one in session.containers((), every=True):
        if one.service not in {*stack.services, *stack.disabled_services}:
            session.engine().remove_container(one.id, force=True)
            session.did(f"removed {one.name}")
