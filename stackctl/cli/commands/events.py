"""stackctl events."""

import json
import sys
from typing import Annotated

import typer

from stackctl.cli.context import PROJECT_LABEL, Session
from stackctl.values import Json, JsonObject

EPILOG = "Examples: stackctl events    stackctl events --json web    stackctl events --since 10m --until 0s"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    since: Annotated[str, typer.Option(help="From then: a time, or 10m for ten minutes ago.")] = "",
    until: Annotated[str, typer.Option(help="Up to then, then end.")] = "",
) -> None:
    """Show what happens to the stack's containers, as it happens, until Ctrl-C."""
    session = Session.of(ctx)
    stream = session.engine().events(
        filters={"type": ["container"], "label": [f"{PROJECT_LABEL}={session.project()}"]},
        since=session.instant(since),
        until=session.instant(until),
    )
    for event in stream:
        entry = _entry(event)
        if services and entry["service"] not in services:
            continue
        session.out((json.dumps(entry) if as_json else _line(entry)) + "\n")
        sys.stdout.flush()


def _entry(event: JsonObject) -> JsonObject:
    actor = event.get("Actor")
    about = actor if isinstance(actor, dict) else {}
    attributes = about.get("Attributes")
    given = attributes if isinstance(attributes, dict) else {}
    shown: JsonObject = {
        key: value
        for key, value in given.items()
        if not key.startswith(("com.docker.compose.", "io.stackctl."))
    }
    return {
        "time": _time(event),
        "type": "container",
        "action": event.get("Action"),
        "id": about.get("ID"),
        "service": given.get("com.docker.compose.service", ""),
        "attributes": shown,
    }


def _time(event: JsonObject) -> str:
    from datetime import UTC, datetime

    nano = event.get("timeNano") or event.get("time") or 0
    number = nano if isinstance(nano, int) else 0
    seconds = number / 1e9 if number > 1e12 else float(number)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _line(entry: JsonObject) -> str:
    attributes: Json = entry["attributes"]
    pairs = sorted(attributes.items()) if isinstance(attributes, dict) else []
    details = ", ".join(f"{key}={value}" for key, value in pairs)
    return f"{entry['time']} container {entry['action']} {entry['id']} ({details})"
