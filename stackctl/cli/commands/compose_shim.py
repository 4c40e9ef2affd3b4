"""stackctl compose-shim: a docker-compose that is stackctl."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import ConflictError, InvalidInputError

EPILOG = "Examples: stackctl compose-shim ~/bin    stackctl compose-shim    docker-compose up -d    stackctl compose-shim --remove"
_MARK = "# Made by stackctl compose-shim."


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
    session = Session.of(ctx)
    place = Path(folder).expanduser() / "docker-compose"
    ours = place.is_file() and _MARK in place.read_text(errors="replace")
    if place.exists() and not ours and not force:
        raise ConflictError(
            f"{place} is there and was not made by this command", hint="-f replaces it"
        )
    if remove:
        if ours:
            place.unlink()
            session.note(f"removed {place}")
        return
    try:
        draft = place.with_name(f".docker-compose.{os.getpid()}")
        draft.write_text(_script())
        draft.chmod(0o755)
        draft.replace(place)
    except OSError as error:
        raise InvalidInputError(f"cannot write {place}: {error.strerror}") from error
    session.note(f"made {place}")


def _script() -> str:
    return f'#!/bin/sh\n{_MARK}\nexec "{sys.executable}" -m stackctl "$@"\n'
