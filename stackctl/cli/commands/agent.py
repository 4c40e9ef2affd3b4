"""stackctl agent: the processes that keep stacks true to their files."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli import agents
from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.values import Json

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The processes that keep stacks true to their files; `stackctl up --reconcile` starts one.",
)


@app.command(name="ls")
def list_(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names of stacks.")] = False,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List the agents: what each keeps, since when, and what it did last."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    found = agents.find_all(session.agents.folder)
    if quiet:
        session.out("".join(f"{item.order.project}\n" for item in found))
    elif layout == "json":
        session.out(tables.json_lines([_as_json(item) for item in found]))
    else:
        rows = [
            (
                item.order.project,
                _state(item),
                str(item.pid or "-"),
                time.strftime("%F %T", time.localtime(item.since)) if item.pid else "-",
                item.order.engine,
                str(item.status.get("repairs", 0)),
                str(item.status.get("last", "")),
            )
            for item in found
        ]
        session.out(
            tables.table(("STACK", "STATE", "PID", "SINCE", "ENGINE", "REPAIRS", "LAST"), rows)
        )


@app.command()
def stop(
    ctx: typer.Context,
    stacks: Annotated[
        list[str] | None, typer.Argument(help="Their stacks; this directory's where none is named.")
    ] = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="Every agent.")] = False,
) -> None:
    """Stop agents; the stacks go on as they are."""
    session = Session.of(ctx)
    if every and stacks:
        raise InvalidInputError("--all and names of stacks exclude each other")
    for item in _chosen(session, stacks or (), every=every):
        name = item.order.project
        if session.options.dry_run:
            session.out(f"would stop the agent of {name} (pid {item.pid})\n")
        elif agents.stop(item):
            session.note(f"stopped the agent of {name}; the stack goes on")
        else:
            session.note(f"the agent of {name} had ended already")


@app.command()
def logs(
    ctx: typer.Context,
    stack: Annotated[str, typer.Argument(help="Its stack; this directory's where none.")] = "",
    tail: Annotated[int, typer.Option("-n", "--tail", help="Only the last lines.")] = 0,
) -> None:
    """Print what an agent saw and did."""
    session = Session.of(ctx)
    for item in _chosen(session, [stack] if stack else (), every=False):
        lines = item.log.read_text(errors="replace").splitlines(keepends=True)
        session.out("".join(lines[-tail:] if tail else lines))


@app.command(hidden=True)
def run(order: Annotated[Path, typer.Argument(help="The order's file.")]) -> None:
    """Be an agent (what `up --reconcile` starts)."""
    from stackctl.cli import agentrun

    agentrun.run(order)


def _chosen(session: Session, names: Sequence[str], *, every: bool) -> list[agents.Known]:
    """Return the agents meant; raises NotFoundError for a stack that has none."""
    folder = session.agents.folder
    if every:
        return agents.find_all(folder)
    found = []
    for name in names or [session.project()]:
        mine = agents.find(folder, name)
        if not mine:
            raise NotFoundError(
                f"no agent keeps stack {name}",
                hint="stackctl agent ls lists them; stackctl up --reconcile starts one",
            )
        found += mine
    return found


def _state(item: agents.Known) -> str:
    return str(item.status.get("state", "watching")) if item.pid else "dead"


def _as_json(item: agents.Known) -> Json:
    return {
        "Stack": item.order.project,
        "State": _state(item),
        "Pid": item.pid,
        "Since": item.since if item.pid else 0,
        "Engine": item.order.engine,
        "Repairs": item.status.get("repairs", 0),
        "Last": item.status.get("last", ""),
        "Directory": item.order.cwd,
        "Log": str(item.log),
        "Services": list(item.order.request.services),
    }
