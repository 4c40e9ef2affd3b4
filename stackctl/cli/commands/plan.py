"""stackctl plan: print the plan and change nothing."""

import json
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import DownRequest, UpRequest
from stackctl.cli.render import plan as render
from stackctl.errors import InvalidInputError

EPILOG = "Examples: stackctl plan    stackctl plan --detailed-exitcode || echo changes    stackctl plan --destroy"


def command(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Only these services and what they need.")
    ] = None,
    layout: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit 0 for no changes, 2 for changes, 1 for an error."
        ),
    ] = False,
    destroy: Annotated[bool, typer.Option(help="What down would do.")] = False,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="With --destroy: volumes too.")
    ] = False,
    build: Annotated[bool, typer.Option("--build", help="As up --build.")] = False,
    force_recreate: Annotated[bool, typer.Option(help="As up --force-recreate.")] = False,
    remove_orphans: Annotated[bool, typer.Option(help="As up --remove-orphans.")] = False,
) -> None:
    """Show what up would do, and why. Changes nothing."""
    if layout not in ("text", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of text, json')
    session = Session.of(ctx)
    if destroy:
        plan = session.plan_down(DownRequest(volumes=volumes, remove_orphans=True))
    else:
        request = UpRequest(
            services=tuple(services or ()),
            build=build,
            force_recreate=force_recreate,
            remove_orphans=remove_orphans,
        )
        plan = session.plan_up(session.stack(request.services), request)
    if layout == "json":
        session.out(json.dumps(plan.to_json(), indent=2) + "\n")
    else:
        session.out(render.text(plan, colour=session.colour))
    if detailed_exitcode and plan.has_changes:
        raise typer.Exit(2)
