"""stackctl create."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest, check_recreate, parse_scale

EPILOG = "Examples: stackctl create    stackctl create --scale web=3    Start them: stackctl start"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    build: Annotated[bool, typer.Option("--build", help="Build images first.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="Never build.")] = False,
    pull: Annotated[str, typer.Option(help="Pull images: always, missing, never or build.")] = "",
    quiet_pull: Annotated[bool, typer.Option(help="Pull without progress.")] = False,
    force_recreate: Annotated[bool, typer.Option(help="Recreate what is unchanged too.")] = False,
    no_recreate: Annotated[bool, typer.Option(help="Keep what exists though it changed.")] = False,
    remove_orphans: Annotated[
        bool, typer.Option(help="Remove containers of services that the file no longer has.")
    ] = False,
    scale: Annotated[list[str] | None, typer.Option(help="SERVICE=NUMBER of replicas.")] = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Create the stack's images, networks, volumes and containers; start nothing."""
    check_recreate(force_recreate, no_recreate, build, no_build, pull)
    session = Session.of(ctx)
    session.quiet_pull = quiet_pull
    request = UpRequest(
        services=tuple(services or ()),
        build=build,
        no_build=no_build,
        pull=pull,
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        remove_orphans=remove_orphans or session.flag("COMPOSE_REMOVE_ORPHANS"),
        no_start=True,
        scale=parse_scale(scale or ()),
    )
    stack = session.stack_to_start(request.services)
    with session.lock(stack.name):
        session.apply(session.agreed(session.plan_up(stack, request), yes=yes), stack)
