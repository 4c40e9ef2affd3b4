"""stackctl pull."""

from typing import Annotated

import typer

from stackctl.cli.context import Session


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    ignore_buildable: Annotated[bool, typer.Option(help="Leave out what can be built.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Pull the images of services."""
    session = Session.of(ctx, quiet=quiet)
    stack = session.stack(tuple(services or ()))
    wanted = [
        service.image
        for service in stack.services.values()
        if service.image
        and not (service.build and ignore_buildable)
        and (not services or service.name in services)
    ]
    for image in dict.fromkeys(wanted):
        session.pull(image)
