"""stackctl up."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from stackctl.cli.context import GlobalOptions, Session
from stackctl.cli.planned import UpRequest, check_recreate, parse_scale
from stackctl.errors import InvalidInputError

if TYPE_CHECKING:
    from stackctl.cli.reload import Switch
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
    menu: Annotated[
        bool | None,
        typer.Option(
            "--menu/--no-menu",
            help="Keys while attached on a terminal: watch, logs, restart, plan, detach, quit.",
            show_default="COMPOSE_MENU, else on",
        ),
    ] = None,
    no_color: Annotated[bool, typer.Option("--no-color", help="Logs without colours.")] = False,
    no_log_prefix: Annotated[
        bool, typer.Option("--no-log-prefix", help="Log lines without the container's name.")
    ] = False,
    timestamps: Annotated[bool, typer.Option(help="Log lines with their time.")] = False,
    watch: Annotated[
        bool,
        typer.Option("-w", "--watch", help="Bring changed files in while it runs (develop.watch)."),
    ] = False,
    isolate: Annotated[
        bool,
        typer.Option(
            "--isolate",
            help="A copy that meets no other: a name of its own (printed; -p auto is the same), free host ports,"
            " own networks and volumes, images shared.",
        ),
    ] = False,
    ports_env: Annotated[
        str, typer.Option(help="Write where published ports are to this file: WEB_PORT_80=32768.")
    ] = "",
    lease: Annotated[
        bool,
        typer.Option(
            "--lease",
            help="Tie the stack to this process, with -d or --wait to the one that called it: when that is gone,"
            " even by kill -9, the engine removes the stack and the volumes made now.",
        ),
    ] = False,
    lease_pid: Annotated[int, typer.Option(help="As --lease, to the process of this number.")] = 0,
    ttl: Annotated[str, typer.Option(help="As --lease, to a time from now: 30m.")] = "",
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
    isolate = isolate or (ctx.find_object(GlobalOptions) or GlobalOptions()).project_name == "auto"
    if reconcile and (isolate or lease or lease_pid or ttl):
        raise InvalidInputError(
            "--reconcile keeps a stack up for good, so it excludes --isolate, --lease and --ttl"
        )
    owner = None
    if lease or lease_pid or ttl:
        from stackctl.cli import copies

        owner = copies.lease_owner(
            lease=lease, pid=lease_pid, ttl=ttl, lasting=not (detach or wait or no_start)
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
        if isolate:
            raise InvalidInputError("--plan is of one stack, so it excludes --isolate and -p auto")
        request = session.keep_to(plan_file, given=request)
    if isolate:
        from stackctl.cli import copies

        session = copies.copy_session(session)
    stack = session.stack_to_start(request.services, no_deps=request.no_deps)
    if owner is not None and not session.options.dry_run:
        from stackctl.cli import copies

        copies.require_leases(session, "--ttl" if ttl else "--lease")
        session.lease = owner
    if isolate:
        from stackctl.cli import copies

        session.note(f"copy {stack.name}: stackctl -p {stack.name} ps, logs, down -v")
        request = copies.build_once(session, stack, request)
    if not (detach or reconcile or request.wait or request.no_start or session.options.dry_run):
        from stackctl.cli import attached, keyboard

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
            reload=_reload(session, stack, request, yes=yes, prepared=watch),
            watching=watch,
            keys=keyboard.available() and _wants_menu(session, menu),
            started=partial(_write_ports, session, ports_env) if ports_env else None,
        )
        raise typer.Exit(attached.up(session, stack, request, look, look_at))
    with session.lock(stack.name):
        session.apply(session.agreed(session.plan_up(stack, request), yes=yes), stack)
        session.agents.tell(stack, request)
    if session.options.dry_run:
        return
    if reconcile:
        session.agents.start(stack, request)
    if ports_env:
        _write_ports(session, ports_env)
    if isolate:
        session.out(f"{stack.name}\n")


def _write_ports(session: Session, path: str) -> None:
    from stackctl.cli import copies

    copies.write_ports(session, path)


def _reload(
    session: Session, stack: "Stack", request: UpRequest, *, yes: bool, prepared: bool
) -> "Switch":
    from stackctl.cli.reload import Switch

    switch = Switch(session, request.services, yes=yes, say=session.note)
    if prepared:
        switch.prepare(stack)
    return switch


def _wants_menu(session: Session, flag: bool | None) -> bool:
    if flag is not None:
        return flag
    return "COMPOSE_MENU" not in session.environ or session.flag("COMPOSE_MENU")
