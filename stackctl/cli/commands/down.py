"""stackctl down."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import DownRequest
from stackctl.errors import InvalidInputError

EPILOG = (
    "Examples: stackctl down    stackctl down -v    stackctl -p NAME down (without the stack file)"
)


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    volumes: Annotated[
        bool,
        typer.Option("-v", "--volumes", help="Remove the stack's named and anonymous volumes too."),
    ] = False,
    images: Annotated[
        str, typer.Option("--rmi", help="Remove images: local (those built here) or all.")
    ] = "",
    remove_orphans: Annotated[
        bool, typer.Option(help="Containers of unknown services too.")
    ] = False,
    timeout: Annotated[
        int | None, typer.Option("-t", "--timeout", help="Seconds to let containers stop in.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Stop and remove the stack's containers and networks; its agent, where it has one, first."""
    if images not in ("", "local", "all"):
        raise InvalidInputError(f'--rmi: "{images}" is not one of local, all')
    session = Session.of(ctx, quiet=quiet)
    request = DownRequest(
        services=tuple(services or ()),
        volumes=volumes,
        images=images,
        remove_orphans=remove_orphans,
        timeout=timeout,
    )
    if request.services:
        session.agents.warn_of(session.project())
    else:
        session.agents.stop(session.project())
    with session.lock(session.project()):
        session.apply(session.plan_down(request), None)
