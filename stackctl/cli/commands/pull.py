"""stackctl pull."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError, StackctlError

EPILOG = (
    "Examples: stackctl pull    stackctl pull --include-deps web    stackctl pull --policy missing"
)


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    ignore_buildable: Annotated[bool, typer.Option(help="Leave out what can be built.")] = False,
    include_deps: Annotated[
        bool, typer.Option("--include-deps", help="Those that they depend on as well.")
    ] = False,
    ignore_pull_failures: Annotated[
        bool, typer.Option("--ignore-pull-failures", help="Pull what can be pulled.")
    ] = False,
    policy: Annotated[str, typer.Option(help="missing or always.")] = "always",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Pull the images of services."""
    session = Session.of(ctx, quiet=quiet)
    stack = session.stack(tuple(services or ()))
    if policy not in ("missing", "always"):
        raise InvalidInputError(f'--policy: "{policy}" is not one of missing, always')
    chosen = session.with_dependencies(stack, tuple(services or ()), include_deps)
    wanted = [
        stack.services[name].image
        for name in chosen
        if stack.services[name].image and not (stack.services[name].build and ignore_buildable)
    ]
    for image in dict.fromkeys(wanted):
        if policy == "missing" and session.has_image(image):
            continue
        try:
            session.pull(image)
        except StackctlError as error:
            if not ignore_pull_failures:
                raise
            session.warn(f"cannot pull {image}: {error}")
