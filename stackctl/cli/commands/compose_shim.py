"""stackctl compose-shim: a docker-compose that is stackctl."""

from typing import Annotated

import typer

from stackctl.cli import shim
from stackctl.cli.context import Session

EPILOG = "Examples: stackctl compose-shim ~/bin    stackctl compose-shim    docker-compose up -d    stackctl compose-shim --remove"


def command(
    ctx: typer.Context,
    folder: Annotated[
        str, typer.Argument(help="Where to put it; a folder on the PATH.")
    ] = "/usr/local/bin",
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Replace a docker-compose that is not ours.")
    ] = False,
) -> None:
    """Put a `docker-compose` in front of stackctl, so that scripts that type it use stackctl.

    It takes docker compose's arguments: those of stackctl are the same. Only the built-in engine or the one that
    STACKCTL_SOCKET, DOCKER_HOST or the docker context names is used, as everywhere.
    """
    shim.put(Session.of(ctx), folder, "docker-compose", "stackctl", remove=remove, force=force)
