"""stackctl ls."""

from collections import Counter
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import InvalidInputError
from stackctl.values import Json

EPILOG = "Examples: stackctl ls    stackctl ls -a --format json    stackctl ls --filter name=shop"


def command(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("-a", "--all", help="Stopped stacks too.")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="name=TEXT: whose names hold it.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List the stacks on the engine."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    wanted = []
    for pair in filters or ():
        key, _, text = pair.partition("=")
        if key != "name":
            raise InvalidInputError(f'--filter: "{pair}" is none', hint="--filter name=TEXT")
        wanted.append(text)
    stacks: dict[str, Counter[str]] = {}
    files: dict[str, str] = {}
    for one in session.all_containers(every=every):
        if one.project and all(text in one.project for text in wanted):
            stacks.setdefault(one.project, Counter())[one.state] += 1
            files[one.project] = one.labels.get("com.docker.compose.project.config_files", "")
    rows = [
        (
            name,
            ", ".join(f"{state}({count})" for state, count in sorted(states.items())),
            files[name],
        )
        for name, states in sorted(stacks.items())
    ]
    if quiet:
        session.out("".join(f"{name}\n" for name in sorted(stacks)))
    elif layout == "json":
        entries: list[Json] = [
            {"Name": name, "Status": status, "ConfigFiles": file} for name, status, file in rows
        ]
        session.out(tables.json_lines(entries))
    else:
        session.out(tables.table(("NAME", "STATUS", "STACK FILES"), rows))
