"""stackctl logout: forget a registry's credentials."""

from typing import Annotated

import typer

from stackctl.cli.context import Session


def command(
    ctx: typer.Context,
    server: Annotated[str, typer.Argument(help="Registry, HOST[:PORT]; Docker Hub if none.")] = "",
) -> None:
    """Log out from a registry."""
    session = Session.of(ctx)
    credentials = session.credentials()
    key = credentials.registry_key(server)
    if credentials.forget(key, session.environ):
        session.note(f"logged out from {key}")
    else:
        session.note(f"not logged in to {key}")
