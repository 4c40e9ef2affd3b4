"""stackctl push."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = "Examples: stackctl push    stackctl push --include-deps web    stackctl build --push"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    include_deps: Annotated[bool, typer.Option(help="Those that they depend on as well.")] = False,
    ignore_push_failures: Annotated[
        bool, typer.Option(help="Push what can be pushed, say what could not.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Push the images that services build to their registries."""
    session = Session.of(ctx, quiet=quiet)
    stack = session.stack(tuple(services or ()))
    names = session.with_dependencies(stack, tuple(services or ()), include_deps)
    session.push(stack, names, ignore_failures=ignore_push_failures)
