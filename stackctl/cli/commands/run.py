"""stackctl run."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli import interact
from stackctl.cli.context import Session
from stackctl.cli.planned import OneOff, UpRequest, check_recreate
from stackctl.errors import ConflictError, InvalidInputError, StackctlError

CONTEXT = {"allow_interspersed_args": False}
EPILOG = "Examples: stackctl run --rm web sh    stackctl run --rm -e DEBUG=1 app python3 manage.py migrate"


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND…]", help="Instead of its command.")
    ] = None,
    remove: Annotated[bool, typer.Option("--rm", help="Remove the container afterwards.")] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Print its ID and return.")
    ] = False,
    env: Annotated[list[str] | None, typer.Option("-e", "--env", help="NAME=VALUE.")] = None,
    entrypoint: Annotated[str | None, typer.Option(help="Instead of its entrypoint.")] = None,
    name: Annotated[str, typer.Option(help="Name of the container.")] = "",
    no_deps: Annotated[bool, typer.Option(help="Do not start what it depends on.")] = False,
    no_tty: Annotated[
        bool, typer.Option("-T", "--no-tty", "--no-TTY", help="No terminal.")
    ] = False,
    service_ports: Annotated[
        bool, typer.Option("-P", "--service-ports", help="Publish the service's ports.")
    ] = False,
    publish: Annotated[
        list[str] | None, typer.Option("-p", "--publish", help="Publish a port: HOST:CONTAINER.")
    ] = None,
    user: Annotated[str, typer.Option("-u", "--user", help="User or user:group.")] = "",
    volume: Annotated[
        list[str] | None, typer.Option("-v", "--volume", help="SOURCE:TARGET.")
    ] = None,
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Directory to start in.")] = "",
    build: Annotated[bool, typer.Option("--build", help="Build its image first.")] = False,
    quiet_build: Annotated[bool, typer.Option(help="Build without output.")] = False,
    pull: Annotated[str, typer.Option(help="Pull its image: always, missing or never.")] = "",
    quiet_pull: Annotated[bool, typer.Option(help="Pull without progress.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
    env_from_file: Annotated[
        list[str] | None, typer.Option(help="File of variables for the container.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("-l", "--label", help="NAME=VALUE.")] = None,
    cap_add: Annotated[list[str] | None, typer.Option(help="Capability to add.")] = None,
    cap_drop: Annotated[list[str] | None, typer.Option(help="Capability to drop.")] = None,
    use_aliases: Annotated[
        bool, typer.Option("--use-aliases", help="Answer to the service's names as well.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("-i/-I", "--interactive/--no-interactive", help="Hand on our input.")
    ] = True,
    remove_orphans: Annotated[
        bool, typer.Option(help="Remove containers of services that the file no longer has.")
    ] = False,
) -> None:
    """Run one command in a new container of a service, with what it depends on."""
    check_recreate(False, False, build, False, pull)
    session = Session.of(ctx, quiet=quiet)
    session.quiet_pull, session.quiet_build = quiet_pull, quiet_build
    tty = not no_tty and not detach and interactive and sys.stdin.isatty() and sys.stdout.isatty()
    stack = session.stack((service,), also_inactive=True)
    request = OneOff(
        service=service,
        command=tuple(argv) if argv else None,
        entrypoint=entrypoint,
        env=(*_from_files(env_from_file or []), *interact.variables(env or ())),
        name=name,
        tty=tty,
        stdin=interactive and not detach,
        remove=remove,
        user=user,
        working_dir=workdir,
        volumes=tuple(volume or ()),
        publish=tuple(publish or ()),
        service_ports=service_ports,
        use_aliases=use_aliases,
        labels=tuple(label or ()),
        cap_add=tuple(cap_add or ()),
        cap_drop=tuple(cap_drop or ()),
    )
    needs = UpRequest(
        services=(service,),
        no_deps=no_deps,
        build=build,
        pull=pull,
        remove_orphans=remove_orphans,
    )
    with session.lock(stack.name):
        session.prepare_one_off(stack, needs)
        identity = session.create_one_off(stack, request)
    hooks = stack.services[service].post_start

    def start() -> None:
        engine = session.engine()
        engine.start_container(identity)
        if hooks:
            from stackctl.orchestrator.apply.hooks import run_inside

            for hook in hooks:
                # What was to be run once may have ended already.
                with contextlib.suppress(ConflictError):
                    run_inside(engine, identity, service=service, point="post_start", hook=hook)

    raise typer.Exit(_go(session, identity, request, start, detach=detach))


def _from_files(paths: list[str]) -> list[str]:
    """Return the variables of env files as NAME=VALUE; raises InvalidInputError."""
    from stackctl.orchestrator.stackfile import dotenv

    values: dict[str, str] = {}
    for path in paths:
        try:
            dotenv.parse(Path(path).read_text(), values, os.environ.get)
        except OSError as error:
            raise InvalidInputError(
                f"--env-from-file: cannot read {path}: {error.strerror}"
            ) from error
        except dotenv.EnvFileError as error:
            raise InvalidInputError(f"{path}:{error.line}: {error}") from error
    return [f"{name}={value}" for name, value in values.items()]


def _go(
    session: Session, identity: str, request: OneOff, start: Callable[[], None], *, detach: bool
) -> int:
    engine = session.engine()
    if detach:
        start()
        session.out(f"{identity}\n")
        return 0
    try:
        connection = engine.attach(identity, stdin=request.stdin, terminal=request.tty)
        detached = interact.join(
            connection,
            tty=request.tty,
            stdin=request.stdin,
            resize=lambda rows, columns: engine.resize_container(
                identity, rows=rows, columns=columns
            ),
            started=start,
        )
        if detached:
            return 0
        return engine.wait_container(identity)
    except BaseException:
        # Ctrl-C, or it could not start: what was made for this command goes with it.
        with contextlib.suppress(StackctlError):
            engine.kill_container(identity)
        raise
    finally:
        if request.remove:
            with contextlib.suppress(StackctlError):
                engine.remove_container(identity, force=True, volumes=True)
