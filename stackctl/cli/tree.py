"""The command tree as typer has it: help, completion, and what is wrong with a command line.

Made only where ``commandline`` gave up, from the declarations that it reads too.
"""

import importlib
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption
from typer.main import get_command

from stackctl.cli import declare
from stackctl.cli.context import GlobalOptions
from stackctl.cli.main import COMMAND_FOLLOWS, COMMANDS, EPILOG, options


def run(argv: list[str]) -> None:
    """Run a command line; raises declare.Exit with its exit code, and typer's errors for a wrong one."""
    try:
        app(args=argv, prog_name="stackctl", standalone_mode=False)
    except typer.Exit as stop:
        raise declare.Exit(stop.exit_code) from None
    except typer.Abort:
        raise declare.Exit(130) from None


def typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a command's function whose declarations are in typer's words."""
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    made.__doc__ = function.__doc__
    made.__annotations__ = {
        name: _in_typers_words(hint) for name, hint in function.__annotations__.items()
    }
    return made


def _in_typers_words(hint: Any) -> Any:
    if hint is declare.Context:
        return typer.Context
    told = getattr(hint, "__metadata__", (None,))[0]
    if not isinstance(told, declare.Parameter):
        return hint
    make = typer.Option if isinstance(told, declare.Option) else typer.Argument
    return Annotated[hint.__origin__, make(*told.words, **told.told)]


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
        )(typed(loaded.command))
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


app.callback()(typed(options))
