"""The typer app; the only place of this half where an error becomes text.

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
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from stackctl import __version__
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


def _dry_run_option() -> TyperOption:
    """--dry-run after the command, as docker compose takes it."""

    def note(ctx: Any, _param: Any, value: bool) -> None:
        if value:
            ctx.obj = replace(ctx.find_object(GlobalOptions) or GlobalOptions(), dry_run=True)

    return TyperOption(
        param_decls=["--dry-run"],
        is_flag=True,
        default=False,
        expose_value=False,
        callback=note,
        help="Say what would be done; change nothing.",
    )


class LazyGroup(TyperGroup):
    """The command tree, a branch of which is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        loaded = importlib.import_module(f"stackctl.cli.commands.{module}")
        if hasattr(loaded, "app"):
            return get_command(loaded.app)
        single = typer.Typer(
            rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
        )
        single.command(
            cmd_name,
            context_settings=getattr(loaded, "CONTEXT", None),
            epilog=getattr(loaded, "EPILOG", None),
            no_args_is_help=False,
        )(loaded.command)
        made = get_command(single)
        made.params.append(_dry_run_option())
        return made

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f'did you mean "{near[0]}"?' if near else "stackctl --help lists the commands"
            raise typer.BadParameter(f'no such command "{name}"; {hint}')
        if name == "test" and "--" in args:
            # The parser drops the two dashes, which alone tell a command from a service here.
            at = args.index("--") + 1
            args = [*args[:at], COMMAND_FOLLOWS, *args[at:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyGroup,
    name="stackctl",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"stackctl {__version__}\n")
        raise typer.Exit


@app.callback()
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
        result = app(args=argv, prog_name="stackctl", standalone_mode=False)
        sys.stdout.flush()
        return _ended(result) if isinstance(result, int) else 0
    except typer.Exit as stop:
        return _ended(stop.exit_code)
    except typer.Abort:
        return 143 if _terminated else 130
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
