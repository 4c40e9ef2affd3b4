"""stackctl version."""

import json
from typing import Annotated

import typer

from stackctl import __version__
from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.values import JsonObject

EPILOG = "Examples: stackctl version    stackctl version --short"


def command(
    ctx: typer.Context,
    layout: Annotated[
        str, typer.Option("-f", "--format", help="text (or pretty) or json.")
    ] = "text",
    short: Annotated[bool, typer.Option(help="Only the number.")] = False,
) -> None:
    """Show the versions of stackctl and of the engine it drives."""
    if layout not in ("text", "pretty", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of text, pretty, json')
    session = Session.of(ctx)
    if short:
        session.out(f"{__version__}\n")
        return
    answer: JsonObject = {"stackctl": __version__}
    try:
        engine = session.engine(start=False)
        about = engine.version()
        answer["engine"] = about.get("Version")
        answer["api"] = about.get("ApiVersion")
        answer["address"] = session.address()
    except StackctlError as error:
        answer["engine"] = None
        answer["reason"] = str(error)
    if layout == "json":
        session.out(json.dumps(answer) + "\n")
        return
    session.out(f"stackctl {__version__}\n")
    if answer["engine"]:
        session.out(f"engine {answer['engine']}, API {answer['api']}, {answer['address']}\n")
    else:
        session.out(f"engine not reached: {answer['reason']}\n")
