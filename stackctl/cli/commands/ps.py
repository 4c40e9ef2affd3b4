"""stackctl ps."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import containers, tables
from stackctl.errors import InvalidInputError

EPILOG = "Examples: stackctl ps    stackctl ps -a --format json    stackctl ps -q web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="Stopped containers too.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only container IDs.")] = False,
    names: Annotated[bool, typer.Option("--services", help="Only names of services.")] = False,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only this state: created, running, paused, restarting, exited, dead."),
    ] = None,
    layout: Annotated[
        str, typer.Option("--format", help="table or json (one object a line).")
    ] = "table",
    filters: Annotated[str, typer.Option("--filter", help="status=STATE, as --status.")] = "",
    orphans: Annotated[
        bool, typer.Option(help="Those of services that the file no longer has as well.")
    ] = True,
    no_trunc: Annotated[
        bool, typer.Option("--no-trunc", help="Show IDs and commands whole.")
    ] = False,
) -> None:
    """List the containers of the stack."""
    if filters and not filters.startswith("status="):
        raise InvalidInputError(
            f'--filter: "{filters}" is none', hint="--filter status=exited is the one there is"
        )
    status = [*(status or ()), *((filters.removeprefix("status="),) if filters else ())]
    session = Session.of(ctx)
    tables.check_layout(layout)
    found = session.containers(services or (), every=every or bool(status))
    if not orphans:
        known = session.stack()
        found = [
            one
            for one in found
            if one.service in known.services or one.service in known.disabled_services
        ]
    if status:
        found = [one for one in found if one.state in status]
    if quiet:
        session.out("".join(f"{one.id if no_trunc else one.id[:12]}\n" for one in found))
    elif names:
        session.out("".join(f"{name}\n" for name in dict.fromkeys(one.service for one in found)))
    elif layout == "json":
        session.out(tables.json_lines([containers.as_json(one) for one in found]))
    else:
        session.out(containers.as_table(found, whole=no_trunc))
