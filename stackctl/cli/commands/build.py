"""stackctl build."""

from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError

EPILOG = "Examples: stackctl build    stackctl build --no-cache web    stackctl build --build-arg VERSION=2"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    no_cache: Annotated[bool, typer.Option(help="Run every step.")] = False,
    pull: Annotated[bool, typer.Option(help="Pull base images first.")] = False,
    build_arg: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for ARG.")] = None,
    ssh: Annotated[
        list[str] | None,
        typer.Option(help="SSH agent or key for RUN --mount=type=ssh: default, or ID=PATH."),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Push them afterwards.")] = False,
    with_dependencies: Annotated[
        bool, typer.Option("--with-dependencies", help="Those that they depend on as well.")
    ] = False,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="type=local|tar|oci|docker,dest=PATH: the files, or an archive of the image.",
        ),
    ] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No output but errors.")] = False,
) -> None:
    """Build the images of services that have a `build` section."""
    for pair in build_arg or ():
        if not pair.partition("=")[0]:
            raise InvalidInputError(f'--build-arg: "{pair}" has no name', hint="NAME=VALUE")
    session = Session.of(ctx, quiet=quiet)
    stack = session.stack(tuple(services or ()))
    chosen = session.with_dependencies(stack, tuple(services or ()), with_dependencies)
    names = [name for name in chosen if stack.services[name].build is not None]
    if not names:
        session.note("no service has a build section")
        return
    if output and len(names) > 1:
        raise InvalidInputError("--output takes one service", hint=f"one of: {', '.join(names)}")
    session.build(
        stack,
        names,
        no_cache=no_cache,
        pull=pull,
        args=dict(_pairs(build_arg or [])),
        ssh=dict(pair.partition("=")[::2] for pair in ssh or ()),
        output=_output(output),
    )
    if push:
        session.push(stack, names, ignore_failures=False)


def _output(text: str) -> dict[str, str]:
    """Return where files go: "type=tar,dest=PATH", "type=local,dest=DIR" or just DIR, as Docker takes it."""
    if not text:
        return {}
    words = dict(word.partition("=")[::2] for word in text.split(","))
    if "type" not in words:
        words = {"type": "local", "dest": text}
    target = words.get("dest", "")
    if words["type"] not in ("tar", "local", "oci", "docker") or not target:
        raise InvalidInputError(
            f'--output: "{text}" is not known',
            hint="type=local,dest=DIR, or type=tar, oci or docker with dest=FILE",
        )
    return {"type": words["type"], "path": str(Path(target).absolute())}


def _pairs(pairs: list[str]) -> list[tuple[str, str | None]]:
    return [
        (pair.partition("=")[0], pair.partition("=")[2] if "=" in pair else None) for pair in pairs
    ]
