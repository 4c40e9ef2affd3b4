"""stackctl export."""

import sys
from typing import Annotated

import typer

from stackctl.cli import outfile
from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError

EPILOG = "Examples: stackctl export web -o web.tar    stackctl export web | tar t"


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="File to write to.")] = "",
) -> None:
    """Write a container's file system as a tar archive."""
    if not output and sys.stdout.isatty():
        raise InvalidInputError("an archive is nothing for a terminal", hint="-o FILE, or a pipe")
    session = Session.of(ctx)
    one = session.container(service, index=index, running=False)
    stream = session.engine().export_container(one.id)
    if not output:
        for piece in stream:
            sys.stdout.buffer.write(piece)
        return
    with outfile.whole(output) as file:
        for piece in stream:
            file.write(piece)
