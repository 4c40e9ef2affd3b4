"""stackctl engine: the built-in engine's life."""

import json
import os
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli import dockercontext
from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import HostError, NotFoundError

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Start, stop and look at the built-in engine. Other commands start it when it is needed.",
)


@app.command()
def start(ctx: typer.Context) -> None:
    """Start the daemon; success when it runs already."""
    session = Session.of(ctx)
    started = session.daemon().start()
    paths = session.paths()
    session.note(f"engine {'started' if started else 'is running already'}: unix://{paths.socket}")


@app.command()
def stop(
    ctx: typer.Context,
    remove_all: Annotated[
        bool,
        typer.Option(
            "--remove-all",
            help="Remove every container and network of the engine first; images and volumes stay.",
        ),
    ] = False,
) -> None:
    """Stop the daemon. Containers go on running; the next command starts it again and adopts them."""
    session = Session.of(ctx)
    daemon = session.daemon()
    if remove_all and (daemon.is_running() or daemon.has_state()):
        daemon.start()
        session.agents.stop_all()
        session.remove_everything()
    stopped = daemon.stop()
    session.note("engine stopped" if stopped else "engine was not running")


@app.command()
def restart(ctx: typer.Context) -> None:
    """Replace the daemon under running containers."""
    session = Session.of(ctx)
    session.daemon().stop()
    session.daemon().start()
    session.note(f"engine restarted: unix://{session.paths().socket}")


@app.command()
def status(
    ctx: typer.Context,
    layout: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Say whether it runs, where, and what it holds; exit code 3 when it does not run."""
    session = Session.of(ctx)
    paths = session.paths()
    answer = session.daemon().status()
    if layout == "json":
        session.out(json.dumps(answer) + "\n")
    elif answer["running"]:
        session.out(
            f"running  pid {answer['pid']}, version {answer['version']}\n"
            f"socket   {paths.socket}\ndata     {paths.data_root}\nrun      {paths.run_root}\n"
            f"holds    {answer['containers']} containers ({answer['containers_running']} running),"
            f" {answer['images']} images\n"
        )
    else:
        session.out(f"not running\nsocket   {paths.socket}\n")
    if not answer["running"]:
        raise typer.Exit(3)


@app.command()
def logs(
    ctx: typer.Context,
    tail: Annotated[int, typer.Option("-n", "--tail", help="Only the last lines.")] = 0,
) -> None:
    """Print the daemon's own log."""
    session = Session.of(ctx)
    path = session.paths().daemon_log
    if not path.exists():
        raise NotFoundError(f"there is no log at {path}", hint="stackctl engine start")
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    session.out("".join(lines[-tail:] if tail else lines))


@app.command()
def env(
    ctx: typer.Context,
    shell: Annotated[str, typer.Option(help="sh, fish or json.")] = "sh",
    unset: Annotated[bool, typer.Option("-u", "--unset", help="Undo it.")] = False,
) -> None:
    """Print what points docker and its SDKs here: eval "$(stackctl engine env)".

    Besides the address it is DOCKER_BUILDKIT=0: docker's build plugin would start a builder of its own otherwise.
    """
    session = Session.of(ctx)
    values = {"DOCKER_HOST": f"unix://{session.paths().socket}", "DOCKER_BUILDKIT": "0"}
    if shell == "json":
        session.out(json.dumps(values) + "\n")
    elif shell == "fish":
        lines = [
            f"set -e {name};" if unset else f"set -gx {name} {value};"
            for name, value in values.items()
        ]
        session.out("\n".join(lines) + "\n")
    elif unset:
        session.out(f"unset {' '.join(values)}\n")
    else:
        session.out("".join(f'export {name}="{value}"\n' for name, value in values.items()))
    if not unset and not session.daemon().is_running():
        session.daemon().start()


@app.command()
def check(
    ctx: typer.Context,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """Say what this machine has and lacks for the engine, with the command that mends it."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    sys.stdout.flush()
    raise typer.Exit(session.daemon().check("json" if layout == "json" else "text"))


@app.command()
def context(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The context's name.")] = "stackctl",
    use: Annotated[bool, typer.Option("--use", help="Make it docker's default.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
) -> None:
    """Register this engine as a docker context: docker --context stackctl ps."""
    session = Session.of(ctx)
    home = dockercontext.docker_home(os.environ)
    if remove:
        found = dockercontext.remove(home, name)
        session.note(f"context {name} removed" if found else f"there was no context {name}")
        return
    address = f"unix://{session.paths().socket}"
    dockercontext.register(home, name, address)
    if use:
        dockercontext.use(home, name)
    session.note(f"context {name} is {address}")


@app.command(name="dial-stdio", hidden=True)
def dial_stdio(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="The engine's socket; the built-in one's.")] = "",
) -> None:
    """Join standard input and output to the engine (what ssh:// addresses run on the far side)."""
    from stackctl.cli import dialling

    session = Session.of(ctx)
    if not path:
        session.daemon().ensure()
    dialling.join(path or str(session.paths().socket))


@app.command(name="install-shim")
def install_shim(
    ctx: typer.Context,
    directory: Annotated[
        str, typer.Argument(help="Where to put it; a folder on the PATH of what starts dockerd.")
    ] = "/usr/local/bin",
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Replace a dockerd that is not ours.")
    ] = False,
) -> None:
    """Put a `dockerd` in front of the engine, for tools that start a dockerd themselves.

    It takes dockerd's flags and its daemon.json; what has no meaning here is said to be ignored, what is unknown is
    refused. Containers outlive it, as with dockerd's --live-restore.
    """
    from stackctl.cli import shim

    shim.put(
        Session.of(ctx), directory, "dockerd", "stackctl.daemon.dockerd", remove=remove, force=force
    )


@app.command(name="install-units")
def install_units(
    ctx: typer.Context,
    directory: Annotated[
        str, typer.Option("--directory", help="Where systemd looks for units.")
    ] = "/etc/systemd/system",
) -> None:
    """Install systemd units that start the engine at boot and when its socket is used."""
    session = Session.of(ctx)
    program = shutil.which("stackctld") or str(Path(sys.argv[0]).resolve().parent / "stackctld")
    units = resources.files("stackctl") / "daemon" / "systemd"
    for name in ("stackctl.socket", "stackctl.service"):
        text = (units / name).read_text(encoding="utf-8").replace("/usr/bin/stackctld", program)
        try:
            Path(directory, name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise HostError(f"cannot write {directory}/{name}: {error.strerror}") from error
    session.note(
        f"units installed in {directory}; then: systemctl daemon-reload && systemctl enable --now stackctl.socket"
    )
