"""stackctl up."""

import contextlib
from typing import TYPE_CHECKING, Annotated

from stackctl.cli import declare as typer
from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest, check_recreate, parse_scale
from stackctl.errors import InvalidInputError

if TYPE_CHECKING:
    from stackctl.orchestrator.model.stack import Stack

EPILOG = (
    "Examples: stackctl up    stackctl up -d --wait    stackctl up -d --build web"
    "    See first what it would do: stackctl plan    Exactly that: stackctl plan -o p.json; stackctl up -d --plan p.json"
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
    quiet_build: Annotated[bool, typer.Option(help="Build without output.")] = False,
    pull: Annotated[str, typer.Option(help="Pull images: always, missing or never.")] = "",
    quiet_pull: Annotated[bool, typer.Option(help="Pull without progress.")] = False,
    force_recreate: Annotated[bool, typer.Option(help="Recreate what is unchanged too.")] = False,
    no_recreate: Annotated[bool, typer.Option(help="Keep what exists though it changed.")] = False,
    always_recreate_deps: Annotated[
        bool, typer.Option(help="Recreate what the named services depend on.")
    ] = False,
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
    yes: Annotated[
        bool,
        typer.Option(
            "-y",
            "--yes",
            help="Agree to operations that remove data; with --watch, to changes of the file.",
        ),
    ] = False,
    plan_file: Annotated[
        str,
        typer.Option(
            "--plan", help="Do exactly what this file of `plan -o` says, or refuse; flags are its."
        ),
    ] = "",
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile",
            help="Keep it so: an agent brings back what dies or drifts; implies -d. See `stackctl agent`.",
        ),
    ] = False,
    trace: Annotated[
        str,
        typer.Option(
            help="Write a trace here (Chrome's format) and name the slowest of the critical path."
        ),
    ] = "",
    attach: Annotated[list[str] | None, typer.Option(help="Show only this service's log.")] = None,
    no_attach: Annotated[list[str] | None, typer.Option(help="Do not show its log.")] = None,
    attach_dependencies: Annotated[
        bool, typer.Option(help="Show the logs of what the named services need as well.")
    ] = False,
    abort_on_exit: Annotated[
        bool, typer.Option("--abort-on-container-exit", help="Stop all when one stops.")
    ] = False,
    abort_on_failure: Annotated[
        bool, typer.Option("--abort-on-container-failure", help="Stop all when one fails.")
    ] = False,
    exit_code_from: Annotated[
        str, typer.Option(help="Exit with this service's code; implies --abort-on-container-exit.")
    ] = "",
    menu: Annotated[  # noqa: ARG001 - there is no menu to switch
        bool, typer.Option("--menu/--no-menu", help="For docker compose's users.", hidden=True)
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Logs without colours.")] = False,
    no_log_prefix: Annotated[
        bool, typer.Option("--no-log-prefix", help="Log lines without the container's name.")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="Log lines with their time.")] = False,
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="Bring changed files in while it runs (develop.watch)."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Create and start the stack, or bring it to what the file says now."""
    check_recreate(force_recreate, no_recreate, build, no_build, pull)
    aborts = abort_on_exit or abort_on_failure or bool(exit_code_from)
    if reconcile and no_start:
        raise InvalidInputError("--reconcile and --no-start exclude each other")
    if (detach or reconcile or wait) and (aborts or attach or no_attach or attach_dependencies):
        raise InvalidInputError(
            "-d, --reconcile and --wait exclude what is about attached containers"
        )
    if abort_on_exit and abort_on_failure:
        raise InvalidInputError(
            "--abort-on-container-exit and --abort-on-container-failure exclude each other"
        )
    if always_recreate_deps and no_recreate:
        raise InvalidInputError("--always-recreate-deps and --no-recreate exclude each other")
    if attach and attach_dependencies:
        raise InvalidInputError("--attach and --attach-dependencies exclude each other")
    if watch and (detach or reconcile or wait or no_start):
        raise InvalidInputError(
            "--watch goes on until Ctrl-C, so it excludes --detach, --reconcile, --wait and --no-start",
            hint="stackctl up -d, then stackctl watch",
        )
    session = Session.of(ctx, quiet=quiet)
    session.quiet_pull, session.quiet_build, session.trace = quiet_pull, quiet_build, trace
    request = UpRequest(
        services=tuple(services or ()),
        wait=wait,
        wait_timeout=wait_timeout,
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
    if plan_file:
        request = session.keep_to(plan_file, given=request)
    stack = session.stack_to_start(request.services, no_deps=request.no_deps)
    if not (detach or reconcile or request.wait or request.no_start or session.options.dry_run):
        from stackctl.cli import attached

        look = attached.Look(
            prefix=not no_log_prefix, timestamps=timestamps, colour=session.colour and not no_color
        )
        look_at = attached.Watch(
            only=tuple(attach or ()),
            never=tuple(no_attach or ()),
            dependencies=attach_dependencies,
            abort="failure" if abort_on_failure else "exit" if aborts else "",
            exit_code_from=exit_code_from,
            yes=yes,
            alongside=_watching(session, stack, request, yes=yes) if watch else None,
        )
        raise typer.Exit(attached.up(session, stack, request, look, look_at))
    with session.lock(stack.name):
        session.apply(session.agreed(session.plan_up(stack, request), yes=yes), stack)
        session.tell_agent(stack, request)
    if reconcile and not session.options.dry_run:
        session.start_agent(stack, request)


def _watching(
    session: Session, stack: "Stack", request: UpRequest, *, yes: bool
) -> "contextlib.AbstractContextManager[None]":
    from stackctl.cli.watching import Watching

    return Watching(session, stack, request.services, yes=yes, say=session.note).alongside()
