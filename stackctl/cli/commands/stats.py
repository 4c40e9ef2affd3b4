"""stackctl stats: what the stack's containers use of the machine."""

import sys
import threading
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables, usage
from stackctl.cli.render.containers import Listed
from stackctl.errors import ConflictError, NotFoundError
from stackctl.values import JsonObject

EPILOG = "Examples: stackctl stats    stackctl stats --no-stream --format json web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="Stopped ones too.")] = False,
    layout: Annotated[
        str, typer.Option("--format", help="table or json (one object a line).")
    ] = "table",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Once, not for ever.")] = False,
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Whole IDs.")] = False,
) -> None:
    """Show CPU, memory, network and disk use, renewed every second or so until Ctrl-C."""
    tables.check_layout(layout)
    session = Session.of(ctx)
    while True:
        found = session.containers(services or (), every=every)
        rows = _measure(session, found)
        if layout == "json":
            session.out(tables.json_lines([usage.as_json(one, row) for one, row in rows]))
        else:
            clear = "\033[H\033[J" if not no_stream and sys.stdout.isatty() else ""
            session.out(clear + usage.as_table(rows, whole=no_trunc))
        sys.stdout.flush()
        if no_stream:
            return


def _measure(session: Session, found: list[Listed]) -> list[tuple[Listed, JsonObject]]:
    """Ask for all at once: an engine takes a second over each to see how much CPU time passes."""
    engine = session.engine()
    answers: dict[str, JsonObject] = {}

    def ask(one: Listed) -> None:
        try:
            answers[one.id] = engine.stats(one.id) if one.state == "running" else {}
        except (NotFoundError, ConflictError):
            answers[one.id] = {}  # it ended while we asked

    threads = [threading.Thread(target=ask, args=(one,), daemon=True) for one in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [(one, answers[one.id]) for one in found if one.id in answers]
