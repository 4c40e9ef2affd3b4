"""stackctl plan: print the plan and change nothing."""

import json
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import DownRequest, UpRequest, check_recreate, parse_scale
from stackctl.cli.render import plan as render
from stackctl.errors import InvalidInputError

EPILOG = (
    "Examples: stackctl plan    stackctl plan --detailed-exitcode || echo changes    stackctl plan --destroy"
    "    Review, then do exactly that: stackctl plan -o p.json; stackctl up -d --plan p.json"
)


def command(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Only these services and what they need.")
    ] = None,
    layout: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    output: Annotated[
        str,
        typer.Option(
            "-o", "--output", help="Keep the plan in a file (0600, no secrets) for up --plan."
        ),
    ] = "",
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit 0 for no changes, 2 for changes, 1 for an error."
        ),
    ] = False,
    destroy: Annotated[bool, typer.Option("--destroy", help="What down would do.")] = False,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="With --destroy: volumes too.")
    ] = False,
    build: Annotated[bool, typer.Option("--build", help="As up --build.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="As up --no-build.")] = False,
    pull: Annotated[str, typer.Option(help="As up --pull.")] = "",
    force_recreate: Annotated[bool, typer.Option(help="As up --force-recreate.")] = False,
    no_recreate: Annotated[bool, typer.Option(help="As up --no-recreate.")] = False,
    always_recreate_deps: Annotated[bool, typer.Option(help="As up's.")] = False,
    remove_orphans: Annotated[bool, typer.Option(help="As up --remove-orphans.")] = False,
    renew_anon_volumes: Annotated[
        bool, typer.Option("-V", "--renew-anon-volumes", help="As up's.")
    ] = False,
    no_deps: Annotated[bool, typer.Option(help="As up --no-deps.")] = False,
    no_start: Annotated[bool, typer.Option(help="As up --no-start.")] = False,
    scale: Annotated[list[str] | None, typer.Option(help="As up --scale.")] = None,
    timeout: Annotated[int | None, typer.Option("-t", "--timeout", help="As up --timeout.")] = None,
    wait: Annotated[bool, typer.Option(help="As up --wait.")] = False,
) -> None:
    """Show what up would do, and why. Changes nothing."""
    if layout not in ("text", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of text, json')
    check_recreate(force_recreate, no_recreate, build, no_build, pull)
    if output and destroy:
        raise InvalidInputError("-o keeps plans of up; down needs none")
    session = Session.of(ctx)
    if destroy:
        plan = session.plan_down(DownRequest(volumes=volumes, remove_orphans=True))
    else:
        request = UpRequest(
            services=tuple(services or ()),
            wait=wait,
            build=build,
            no_build=no_build,
            pull=pull,
            force_recreate=force_recreate,
            no_recreate=no_recreate,
            always_recreate_deps=always_recreate_deps,
            remove_orphans=remove_orphans or session.flag("COMPOSE_REMOVE_ORPHANS"),
            renew_anon_volumes=renew_anon_volumes,
            no_deps=no_deps,
            no_start=no_start,
            scale=parse_scale(scale or ()),
            timeout=timeout,
        )
        plan = session.plan_up(
            session.stack_to_start(request.services, no_deps=no_deps), request, keep=output
        )
    if layout == "json":
        session.out(json.dumps(plan.to_json(), indent=2) + "\n")
    else:
        session.out(render.text(plan, colour=session.colour))
    if detailed_exitcode and plan.has_changes:
        raise typer.Exit(2)
