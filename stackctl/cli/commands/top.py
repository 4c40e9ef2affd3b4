"""stackctl top: the processes in the stack's containers."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables

EPILOG = "Examples: stackctl top    stackctl top web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
) -> None:
    """Show the processes running in the stack's containers."""
    session = Session.of(ctx)
    engine = session.engine()
    titles: list[str] = []
    rows: list[dict[str, str]] = []
    for one in session.containers(services or (), every=False):
        match engine.top(one.id):
            case {"Titles": list(names), "Processes": list(processes)}:
                titles += [str(name) for name in names if name not in titles]
                for process in processes:
                    cells = process if isinstance(process, list) else []
                    row = {str(name): str(cell) for name, cell in zip(names, cells, strict=False)}
                    rows.append({"SERVICE": one.service, "#": str(one.number), **row})
    columns = ["SERVICE", "#", *titles]
    session.out(
        tables.table(columns, [[row.get(name, "-") for name in columns] for row in rows])
        if rows
        else ""
    )
