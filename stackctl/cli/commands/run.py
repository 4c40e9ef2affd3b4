"""stackctl run."""

import contextlib
import sys
from typing import Annotated

import typer

from stackctl.cli import interact
from stackctl.cli.context import Session
from stackctl.cli.planned import OneOff, UpRequest
from stackctl.errors import StackctlError

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
    no_tty: Annotated[bool, typer.Option("-T", "--no-tty", help="No terminal.")] = False,
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
) -> None:
    """Run one command in a new container of a service, with what it depends on."""
    session = Session.of(ctx)
    tty = not no_tty and not detach and sys.stdin.isatty() and sys.stdout.isatty()
    stack = session.stack((service,), also_inactive=True)
    request = OneOff(
        service=service,
        command=tuple(argv) if argv else None,
        entrypoint=entrypoint,
        env=tuple(interact.variables(env or ())),
        name=name,
        tty=tty,
        stdin=not detach,
        remove=remove,
        user=user,
        working_dir=workdir,
        volumes=tuple(volume or ()),
        publish=tuple(publish or ()),
        service_ports=service_ports,
    )
    with session.lock(stack.name):
        session.prepare_one_off(stack, UpRequest(services=(service,), no_deps=no_deps, build=build))
        identity = session.create_one_off(stack, request)
    raise typer.Exit(_go(session, identity, request, detach=detach))


def _go(session: Session, identity: str, request: OneOff, *, detach: bool) -> int:
    engine = session.engine()
    if detach:
        engine.start_container(identity)
        session.out(f"{identity}\n")
        return 0
    try:
        connection = engine.attach(identity, stdin=True, terminal=request.tty)
        detached = interact.join(
            connection,
            tty=request.tty,
            stdin=True,
            resize=lambda rows, columns: engine.resize_container(
                identity, rows=rows, columns=columns
            ),
            started=lambda: engine.start_container(identity),
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
