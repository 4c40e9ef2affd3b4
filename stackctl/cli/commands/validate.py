"""stackctl validate: every mistake of stack files, without an engine."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from stackctl import __version__
from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError, StackFileError

if TYPE_CHECKING:
    from stackctl.errors import Problem

EPILOG = (
    "Examples: stackctl validate    stackctl validate */stack.yaml    stackctl -f a.yaml -f b.yaml validate"
    "    For a code host: stackctl validate --format sarif > stack.sarif"
)


def command(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Stack files, each a stack of its own; none for that of -f or of here."
        ),
    ] = None,
    layout: Annotated[str, typer.Option("--format", help="text, json or sarif.")] = "text",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the exit code.")] = False,
) -> None:
    """Print every mistake of the stack file; exit 1 when there is any.

    Stricter than config: host ports claimed twice, addresses outside their subnet and what else cannot work count.
    """
    if layout not in ("text", "json", "sarif"):
        raise InvalidInputError(f'--format: "{layout}" is not one of text, json, sarif')
    session = Session.of(ctx)
    found: list[Problem] = []
    for chosen in [(name,) for name in files] if files else [()]:
        try:
            loaded = session.load(files=chosen, strict=True, warn=False)
        except StackFileError as error:
            found.extend(problem for problem in error.problems if problem not in found)
            continue
        if not quiet:
            for text in loaded.warnings:
                session.warn(text)
    if not quiet:
        session.out(_text(found, layout))
    if found:
        raise typer.Exit(1)


def _text(found: "list[Problem]", layout: str) -> str:
    from stackctl.orchestrator.stackfile import report

    if layout == "json":
        return json.dumps(report.to_json(found), indent=2, ensure_ascii=False) + "\n"
    if layout == "sarif":
        log = report.to_sarif(found, version=__version__)
        return json.dumps(log, indent=2, ensure_ascii=False) + "\n"
    return "".join(f"{problem}\n" for problem in found)
