"""stackctl up."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from stackctl.cli import attached
from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest, parse_scale
from stackctl.errors import InvalidInputError

if TYPE_CHECKING:
    from stackctl.orchestrator.model.stack import Stack

EPILOG = (
    "Examples: stackctl up    stackctl up -d --wait    stackctl up -d --build web"
    "    See first what it would do: stackctl plan"
)


def command(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Only these services and what they need.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Return when all is started.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Return when all are running, healthy or done; implies -d.")
    ] = False,
    wait_timeout: Annotated[
        float, typer.Option(help="Seconds that --wait may take; 0 for no limit.")
    ] = 0,
    build: Annotated[bool, typer.Option("--build", help="Build images first.")] = False,
    no_build: Annotated[bool, typer.Option("--no-build", help="Never build.")] = False,
    pull: Annotated[str, typer.Option(help="Pull images: always, missing or never.")] = "",
    force_recreate: Annotated[bool, typer.Option(help="Recreate what is unchanged too.")] = False,
    no_recreate: Annotated[bool, typer.Option(help="Keep what exists though it changed.")] = False,
    remove_orphans: Annotated[
        bool, typer.Option(help="Remove containers of services that the file no longer has.")
    ] = False,
    renew_anon_volumes: Annotated[
        bool, typer.Option("-V", "--renew-anon-volumes", help="Fresh anonymous volumes.")
    ] = False,
    no_deps: Annotated[bool, typer.Option(help="Leave what they depend on alone.")] = False,
    no_start: Annotated[bool, typer.Option(help="Create, start nothing.")] = False,
    scale: Annotated[list[str] | None, typer.Option(help="SERVICE=NUMBER of replicas.")] = None,
    timeout: Annotated[
        int | None, typer.Option("-t", "--timeout", help="Seconds to let containers stop in.")
    ] = None,
    abort_on_exit: Annotated[
        bool, typer.Option("--abort-on-container-exit", help="Stop all when one stops.")
    ] = False,
    exit_code_from: Annotated[
        str, typer.Option(help="Exit with this service's code; implies --abort-on-container-exit.")
    ] = "",
    no_log_prefix: Annotated[
        bool, typer.Option(help="Log lines without the container's name.")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="Log lines with their time.")] = False,
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="Bring changed files in while it runs (develop.watch)."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("-y", "--yes", help="With --watch: apply changes of the stack file.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Create and start the stack, or bring it to what the file says now."""
    if force_recreate and no_recreate:
        raise InvalidInputError("--force-recreate and --no-recreate exclude each other")
    if build and no_build:
        raise InvalidInputError("--build and --no-build exclude each other")
    if pull not in ("", "always", "missing", "never"):
        raise InvalidInputError(f'--pull: "{pull}" is not one of always, missing, never')
    session = Session.of(ctx, quiet=quiet)
    request = UpRequest(
        services=tuple(services or ()),
        wait=wait,
        wait_timeout=wait_timeout,
        build=build,
        no_build=no_build,
        pull=pull,
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        remove_orphans=remove_orphans,
        renew_anon_volumes=renew_anon_volumes,
        no_deps=no_deps,
        no_start=no_start,
        scale=parse_scale(scale or ()),
        timeout=timeout,
    )
    stack = session.stack(request.services)
    detached = detach or wait or no_start
    if watch and detached:
        raise InvalidInputError(
            "--watch goes on until Ctrl-C, so it excludes --detach, --wait and --no-start",
            hint="stackctl up -d, then stackctl watch",
        )
    if not detached:
        look = attached.Look(prefix=not no_log_prefix, timestamps=timestamps)
        code = attached.up(
            session,
            stack,
            request,
            look,
            stop_with_first=abort_on_exit or bool(exit_code_from),
            exit_code_from=exit_code_from,
            alongside=_watching(session, stack, request, yes=yes) if watch else None,
        )
        raise typer.Exit(code)
    with session.lock(stack.name):
        session.apply(session.plan_up(stack, request), stack)


def _watching(
    session: Session, stack: "Stack", request: UpRequest, *, yes: bool
) -> "contextlib.AbstractContextManager[None]":
    from stackctl.cli.watching import Watching

    return Watching(session, stack, request.services, yes=yes, say=session.note).alongside()
