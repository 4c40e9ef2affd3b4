"""stackctl volumes: the volumes of the stack."""

from typing import Annotated

import typer

from stackctl.cli.context import PROJECT_LABEL, Session
from stackctl.cli.render import tables
from stackctl.values import Json, JsonObject

EPILOG = "Examples: stackctl volumes    stackctl volumes -q db    Remove them: stackctl down -v"


def command(
    ctx: typer.Context,
    services: Annotated[
        list[str] | None, typer.Argument(help="Only what these services use.")
    ] = None,
    layout: Annotated[
        str, typer.Option("--format", help="table or json (one object a line).")
    ] = "table",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
) -> None:
    """List the stack's volumes."""
    tables.check_layout(layout)
    session = Session.of(ctx)
    found = session.engine().list_volumes(
        filters={"label": [f"{PROJECT_LABEL}={session.project()}"]}
    )
    if services:
        used = {name for one in session.containers(services, every=True) for name in one.volumes}
        found = [volume for volume in found if volume.get("Name") in used]
    found.sort(key=lambda volume: str(volume.get("Name")))
    if quiet:
        session.out("".join(f"{volume.get('Name')}\n" for volume in found))
    elif layout == "json":
        session.out(tables.json_lines([_entry(volume) for volume in found]))
    else:
        rows = [(str(volume.get("Driver")), str(volume.get("Name"))) for volume in found]
        session.out(tables.table(("DRIVER", "VOLUME NAME"), rows))


def _entry(volume: JsonObject) -> Json:
    labels = volume.get("Labels")
    pairs = sorted(labels.items()) if isinstance(labels, dict) else []
    return {
        "Driver": volume.get("Driver"),
        "Labels": ",".join(f"{key}={value}" for key, value in pairs),
        "Mountpoint": volume.get("Mountpoint"),
        "Name": volume.get("Name"),
        "Scope": volume.get("Scope"),
    }
