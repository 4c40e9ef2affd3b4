"""stackctl restart."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl restart    stackctl restart -t 3 web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    no_deps: Annotated[
        bool, typer.Option("--no-deps", help="Not those that depend on them with restart: true.")
    ] = False,
    timeout: Annotated[
        int | None, typer.Option("-t", "--timeout", help="Seconds before they are killed.")
    ] = None,
) -> None:
    """Stop and start containers as they are; a changed stack file needs `up`."""
    session = Session.of(ctx)
    from stackctl.cli import joining

    joining.restart(
        session, session.project(), tuple(services or ()), timeout=timeout, no_deps=no_deps
    )
