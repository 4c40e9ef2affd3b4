"""stackctl logs."""

import contextlib
import threading
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.logview import LogView, Look
from stackctl.cli.render.containers import Listed, from_event
from stackctl.errors import InvalidInputError, StackctlError

EPILOG = "Examples: stackctl logs -f    stackctl logs -n 20 web db    stackctl logs --since 10m"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    tail: Annotated[str, typer.Option("-n", "--tail", help="Only the last lines of each.")] = "all",
    since: Annotated[str, typer.Option(help="From then: a time, or 10m for ten minutes ago.")] = "",
    until: Annotated[str, typer.Option(help="Up to then.")] = "",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="Show times.")] = False,
    no_log_prefix: Annotated[bool, typer.Option(help="Without the container's name.")] = False,
    no_color: Annotated[bool, typer.Option(help="Without colours.")] = False,
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
) -> None:
    """Show what the containers wrote."""
    if tail != "all" and not tail.isdigit():
        raise InvalidInputError(f'--tail: "{tail}" is neither a number nor all')
    session = Session.of(ctx)
    found = session.containers(services or (), every=True)
    if index:
        found = [one for one in found if one.number == index]
    look = Look(
        prefix=not no_log_prefix,
        timestamps=timestamps,
        colour=session.colour and not no_color,
        tail=tail,
        since=session.instant(since),
        until=session.instant(until),
    )
    view = LogView(session.engine(), look, names=[f"{one.service}-{one.number}" for one in found])
    if follow:
        _follow(session, view, found, services or [])
        return
    for one in found:
        # One after the other: a whole log reads better than a mixture.
        view.show(one, follow=False)
        view.join()


def _follow(session: Session, view: LogView, found: list[Listed], services: list[str]) -> None:
    listening = threading.Event()
    threading.Thread(
        target=_newcomers, args=(session, view, services, listening), daemon=True
    ).start()
    listening.wait(5)
    for one in found:
        view.show(one, follow=True)
    view.join()


def _newcomers(
    session: Session, view: LogView, services: list[str], listening: threading.Event
) -> None:
    filters = {
        "type": ["container"],
        "event": ["start"],
        "label": [f"com.docker.compose.project={session.project()}"],
    }
    with contextlib.suppress(StackctlError, OSError):
        stream = session.engine().events(filters=filters)
        listening.set()
        for event in stream:
            one = from_event(event)
            if one is not None and (not services or one.service in services):
                view.show(one, follow=True, since=str(event.get("time", "")))
