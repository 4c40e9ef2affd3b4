"""The command line; the only place of this half where an error becomes text.

Every command lives in a module of its own, imported when it is called: the command line is judged by its start-up,
and ``ps`` must not pay for ``up``. Exit codes: 0 done, 1 a failure we name, 2 wrong usage (1 under ``plan
--detailed-exitcode``, where 2 means changes), 130 after Ctrl-C, 143 after SIGTERM; ``run`` and ``exec`` give the
command's own.
"""

import contextlib
import importlib
import os
import signal
import sys
from dataclasses import replace
from typing import Annotated, NoReturn, cast

from stackctl.cli import commandline
from stackctl.cli import declare as typer
from stackctl.cli.context import GlobalOptions
from stackctl.cli.naming import with_twins
from stackctl.errors import InterruptedByUserError, StackctlError

# Name -> module under cli.commands; in the order in which help lists them.
COMMANDS = {
    "up": "up",
    "down": "down",
    "ps": "ps",
    "logs": "logs",
    "exec": "exec",
    "run": "run",
    "watch": "watch",
    "test": "test",
    "plan": "plan",
    "graph": "graph",
    "config": "config",
    "validate": "validate",
    "build": "build",
    "pull": "pull",
    "push": "push",
    "images": "images",
    "create": "create",
    "start": "start",
    "stop": "stop",
    "restart": "restart",
    "pause": "pause",
    "unpause": "unpause",
    "kill": "kill",
    "rm": "rm",
    "scale": "scale",
    "port": "port",
    "cp": "cp",
    "attach": "attach",
    "wait": "wait",
    "top": "top",
    "stats": "stats",
    "events": "events",
    "commit": "commit",
    "export": "export",
    "volumes": "volumes",
    "ls": "ls",
    "image": "image",
    "login": "login",
    "logout": "logout",
    "agent": "agent",
    "engine": "engine",
    "compose-shim": "compose_shim",
    "version": "version",
}

COMMAND_FOLLOWS = "\0command"

EPILOG = (
    "Start with: stackctl up -d    Look: stackctl ps, stackctl logs -f    Stop: stackctl down."
    " What would change: stackctl plan. Each command has --help."
)


def _version(value: bool) -> None:
    if value:
        from stackctl import __version__

        sys.stdout.write(f"stackctl {__version__}\n")
        raise typer.Exit


def options(
    ctx: typer.Context,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "-f", "--file", help="Stack file; repeat to merge several, - for standard input."
        ),
    ] = None,
    project_name: Annotated[
        str, typer.Option("-p", "--project-name", help="Name of the stack.")
    ] = "",
    project_directory: Annotated[
        str, typer.Option(help="Directory that relative paths start from.")
    ] = "",
    profile: Annotated[
        list[str] | None, typer.Option(help="Profile to switch on; repeat for several.")
    ] = None,
    env_file: Annotated[
        list[str] | None, typer.Option(help="File of variables, instead of .env.")
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to drive: built-in, docker, podman, a context's name, or a URL such as"
            " unix:///run/docker.sock."
        ),
    ] = "",
    ansi: Annotated[
        str, typer.Option(help="Colours and cursor movement: auto, always or never.")
    ] = "",
    progress: Annotated[
        str, typer.Option(help="Progress as: auto, tty, plain, json or quiet.")
    ] = "",
    parallel: Annotated[
        int, typer.Option(help="Operations at once; 0 for as many as are wise, -1 for no limit.")
    ] = 0,
    all_resources: Annotated[
        bool, typer.Option(help="Keep networks, volumes, configs and secrets that no service uses.")
    ] = False,
    compatibility: Annotated[
        bool,
        typer.Option(
            "--compatibility",
            help="Generated names with _ between their parts, as old Compose versions had.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done; change nothing.")] = False,
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", "-v", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Bring stacks of containers up from a YAML file, on an engine of its own or on Docker's."""
    environ = with_twins(os.environ)
    ansi = ansi or environ.get("COMPOSE_ANSI", "auto")
    progress = progress or environ.get("COMPOSE_PROGRESS", "auto")
    limit = environ.get("COMPOSE_PARALLEL_LIMIT", "")
    if limit and not limit.removeprefix("-").isdigit():
        raise typer.BadParameter(f'COMPOSE_PARALLEL_LIMIT: "{limit}" is no number')
    parallel = parallel or int(limit or 0)
    for name, value, allowed in (
        ("--ansi", ansi, ("auto", "always", "never")),
        ("--progress", progress, ("auto", "tty", "plain", "json", "quiet")),
    ):
        if value not in allowed:
            raise typer.BadParameter(f'{name}: "{value}" is not one of {", ".join(allowed)}')
    ctx.obj = GlobalOptions(
        files=tuple(file or ()),
        project_name=project_name,
        project_directory=project_directory,
        profiles=tuple(profile or ()),
        env_files=tuple(env_file or ()),
        engine=engine,
        ansi=ansi,
        progress=progress,
        parallel=parallel,
        dry_run=dry_run,
        all_resources=all_resources,
        compatibility=compatibility,
    )


def main() -> NoReturn:
    """Run the command line; never returns.

    Without taking the interpreter down in form: that costs some milliseconds, and a thread that writes a last log line
    meanwhile would make it abort.
    """
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if not _plainly(argv):
            from stackctl.cli import tree

            tree.run(argv)
        sys.stdout.flush()
        return 0
    except typer.Exit as stop:
        return _ended(stop.exit_code)
    except StackctlError as error:
        if type(error).__name__ == "Rehearsed":
            return 0
        _say(error)
        if isinstance(error, InterruptedByUserError):
            return 143 if _terminated else 130
        return 1
    except KeyboardInterrupt:
        return 143 if _terminated else 130
    except BrokenPipeError:
        # Whoever read our output left; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:  # noqa: BLE001 - the edge: nothing may reach the user as a traceback
        if not hasattr(error, "format_message"):
            return _bug(error)
        usage = getattr(error, "ctx", None)
        hint = f"\nTry: {usage.command_path} --help" if usage is not None else ""
        sys.stderr.write(f"stackctl: {error.format_message()}{hint}\n")
        return 1 if "--detailed-exitcode" in argv else 2


def _plainly(argv: list[str]) -> bool:
    """Run a plain command line; False, and nothing done, where only typer can tell what is meant."""
    line = None if "_STACKCTL_COMPLETE" in os.environ else commandline.read(argv, options)
    if line is None or line.name not in COMMANDS:
        return False
    loaded = importlib.import_module(f"stackctl.cli.commands.{COMMANDS[line.name]}")
    if not hasattr(loaded, "command"):
        return False  # a group of commands
    mixed = getattr(loaded, "CONTEXT", {}).get("allow_interspersed_args", True)
    values = line.values(loaded.command, mixed=mixed)
    if values is None:
        return False
    context = typer.Context()
    options(context, **line.before)
    if values.pop("--dry-run", False):
        context.obj = replace(cast(GlobalOptions, context.obj), dry_run=True)
    loaded.command(context, **values)
    return True


def _ended(code: int) -> int:
    """Return the exit code of a command that was interrupted, by whom it was."""
    return 143 if _terminated and code == 130 else code


_terminated = False


def _terminate(*_: object) -> None:
    global _terminated
    _terminated = True
    raise KeyboardInterrupt


def _say(error: StackctlError) -> None:
    from stackctl.cli.render import errors

    sys.stdout.flush()
    sys.stderr.write(
        errors.text(error, colour=sys.stderr.isatty() and "NO_COLOR" not in os.environ)
    )


def _bug(error: Exception) -> int:
    """An error nobody foresaw: one line for the user, the traceback only where it is asked for."""
    if os.environ.get("STACKCTL_DEBUG"):
        raise error
    sys.stderr.write(
        f"stackctl: unexpected {type(error).__name__}: {error}\n"
        "hint: this is a mistake in stackctl; STACKCTL_DEBUG=1 shows where\n"
    )
    return 1
