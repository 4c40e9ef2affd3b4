"""stackctl watch."""

import sys
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest
from stackctl.errors import InvalidInputError

EPILOG = (
    "Examples: stackctl watch    stackctl watch --no-up web    stackctl watch --format json"
    "    In the stack file: develop: {watch: [{action: sync, path: ./src, target: /app}]}."
    " Actions: sync, rebuild, restart, sync+restart, sync+exec."
)


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    no_up: Annotated[
        bool, typer.Option("--no-up", help="Do not bring the stack up first.")
    ] = False,
    build: Annotated[bool, typer.Option("--build", help="Build images first.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "-y",
            "--yes",
            help="Apply what changes of the stack file, env files and Dockerfiles ask for.",
        ),
    ] = False,
    prune: Annotated[bool, typer.Option(help="Remove the image that a rebuild replaced.")] = True,
    layout: Annotated[
        str, typer.Option("--format", help="text, or json: one object a line.")
    ] = "text",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress of builds.")] = False,
) -> None:
    """Bring files into running containers as they are saved (develop.watch), until Ctrl-C."""
    if layout not in ("text", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of text, json')
    from stackctl.cli.watching import Watching

    session = Session.of(ctx, quiet=quiet or layout == "json")
    request = UpRequest(services=tuple(services or ()), build=build)
    stack = session.stack_to_start(request.services, no_deps=request.no_deps)
    if session.options.dry_run:
        raise InvalidInputError(
            "watch has no dry run", hint="stackctl plan shows what it would bring up"
        )
    watching = Watching(
        session, stack, request.services, yes=yes, say=_line, layout=layout, prune=prune
    )
    if not no_up:
        with session.lock(stack.name):
            plan = session.plan_up(stack, request)
            if plan.operations:
                session.apply(plan, stack)
    watching.run()


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
