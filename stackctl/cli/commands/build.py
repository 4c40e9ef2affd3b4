"""stackctl build."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.orchestrator.apply.operations import check_service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.bake import asks_for, bake
from stackctl.units import parse_bytes

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
    check: Annotated[
        bool, typer.Option("--check", help="Only check the Dockerfiles; 1 where one has findings.")
    ] = False,
    printed: Annotated[
        bool, typer.Option("--print", help="Show the builds as a file for docker buildx bake.")
    ] = False,
    memory: Annotated[
        str, typer.Option("-m", "--memory", help="What a step may use, such as 512m.")
    ] = "",
    provenance: Annotated[
        str, typer.Option(help="Taken, and left aside: no attestation is made.")
    ] = "",
    sbom: Annotated[str, typer.Option(help="Taken, and left aside: no attestation is made.")] = "",
    builder: Annotated[str, typer.Option(help="default; there is no other.")] = "",
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
    if builder not in ("", "default"):
        raise InvalidInputError(
            f'--builder: there is no builder "{builder}": the engine builds itself',
            hint="stackctl --engine NAME build takes another engine",
        )
    if printed:
        session.out(
            json.dumps(bake(stack, names, dict(_pairs(build_arg or [])), push=push), indent=2)
            + "\n"
        )
        return
    if check:
        _check(session, stack, names, dict(_pairs(build_arg or [])))
        return
    for flag, value in (("--provenance", provenance), ("--sbom", sbom)):
        if asks_for(value):
            session.warn(f"{flag} is left aside: no attestation is made")
    if output and len(names) > 1:
        raise InvalidInputError("--output takes one service", hint=f"one of: {', '.join(names)}")
    several = {name for name in names if len(_platforms(stack, name)) > 1}
    session.build(
        stack,
        names,
        no_cache=no_cache,
        pull=pull,
        args=dict(_pairs(build_arg or [])),
        ssh=dict(pair.partition("=")[::2] for pair in ssh or ()),
        output=_output(output),
        asked={
            "platforms": "all",
            "memory": str(_bytes(memory)) if memory else "",
            # What is of several platforms goes to the registry as one, from where it is made.
            "push": "1" if push and several else "",
        },
    )
    # Those without a name of their own are passed over there, with a word.
    single = [name for name in names if name not in several or not stack.services[name].image]
    if push and single:
        session.push(stack, single, ignore_failures=False)


def _check(session: Session, stack: Stack, names: list[str], args: dict[str, str | None]) -> None:
    """Say what is to be found in each Dockerfile; the command fails when there is anything."""
    if session.options.dry_run:
        raise InvalidInputError("--check has no dry run", hint="it changes nothing anyway")
    wrong = []
    for name in names:
        try:
            check_service(session.engine(), stack, name, args)
        except StackctlError as error:
            session.out(
                f"{name}: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else "")
            )
            wrong.append(name)
            continue
        session.out(f"{name}: no findings\n")
    if wrong:
        raise typer.Exit(1)


def _platforms(stack: Stack, name: str) -> tuple[str, ...]:
    build = stack.services[name].build
    return build.platforms if build is not None else ()


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"--memory: {error.message}", hint="such as 512m or 2g") from error


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
