"""stackctl exec."""

import sys
from typing import Annotated

import typer

from stackctl.cli import interact, terminal
from stackctl.cli.context import Session
from stackctl.values import JsonObject

CONTEXT = {"allow_interspersed_args": False}
EPILOG = (
    "Examples: stackctl exec web sh    echo hi | stackctl exec -T web cat"
    "    The exit code is the command's own."
)


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    argv: Annotated[list[str], typer.Argument(metavar="COMMAND…", help="What to run.")],
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Do not wait for it.")] = False,
    env: Annotated[
        list[str] | None, typer.Option("-e", "--env", help="Variable, as NAME=VALUE.")
    ] = None,
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
    no_tty: Annotated[
        bool, typer.Option("-T", "--no-tty", help="No terminal; the default when not typed on one.")
    ] = False,
    privileged: Annotated[bool, typer.Option(help="With extended privileges.")] = False,
    user: Annotated[str, typer.Option("-u", "--user", help="User or user:group.")] = "",
    workdir: Annotated[str, typer.Option("-w", "--workdir", help="Directory to start in.")] = "",
) -> None:
    """Run a command in a running container of a service."""
    session = Session.of(ctx)
    engine = session.engine()
    container = session.container(service, index=index)
    tty = not no_tty and not detach and sys.stdin.isatty() and sys.stdout.isatty()
    body: JsonObject = {
        "Cmd": [*argv],
        "Env": [*interact.variables(env or ())],
        "AttachStdin": not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "Privileged": privileged,
        "User": user,
        "WorkingDir": workdir,
    }
    if tty:
        body["ConsoleSize"] = [*terminal.size()]
    identity = engine.create_exec(container.id, body)
    if detach:
        engine.start_exec_detached(identity)
        return
    interact.join(
        engine.start_exec(identity, terminal=tty),
        tty=tty,
        stdin=True,
        resize=lambda rows, columns: engine.resize_exec(identity, rows=rows, columns=columns),
    )
    code = engine.inspect_exec(identity).get("ExitCode")
    raise typer.Exit(code if isinstance(code, int) else 255)
