"""stackctl images: the images that the stack's containers were made from."""

import json
import time
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import NotFoundError
from stackctl.values import Json, JsonObject

EPILOG = "Examples: stackctl images    stackctl images -q web    stackctl images --format json"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only IDs.")] = False,
) -> None:
    """List the images used by the stack's containers."""
    tables.check_layout(layout)
    session = Session.of(ctx)
    engine = session.engine()
    entries: list[JsonObject] = []
    for one in session.containers(services or (), every=True):
        image = one.image_id or one.image
        try:
            about = engine.inspect_image(image)
        except NotFoundError:
            about = {}
        entries.append(_entry(one.name, one.image, image, about))
    if quiet:
        ids = dict.fromkeys(str(entry["ID"]).removeprefix("sha256:") for entry in entries)
        session.out("".join(f"{identity}\n" for identity in ids))
    elif layout == "json":
        session.out(json.dumps(entries) + "\n")
    else:
        session.out(_table(entries))


def _entry(container: str, reference: str, identity: str, about: JsonObject) -> JsonObject:
    tags = about.get("RepoTags")
    named = tags[0] if isinstance(tags, list) and tags else reference
    repository, tag = _split(str(named))
    parts = [str(about.get(key) or "") for key in ("Os", "Architecture", "Variant")]
    return {
        "ID": str(about.get("Id") or identity),
        "ContainerName": container,
        "Repository": repository,
        "Tag": tag,
        "Platform": "/".join(part for part in parts if part),
        "Size": about.get("Size") or 0,
        "Created": about.get("Created"),
    }


def _split(reference: str) -> tuple[str, str]:
    name, _, digest = reference.partition("@")
    if digest or name.startswith("sha256:"):
        return ("<none>" if name.startswith("sha256:") else name), "<none>"
    head, _, tag = name.rpartition(":")
    return (head, tag) if head and "/" not in tag else (name, "latest")


def _table(entries: list[JsonObject]) -> str:
    rows = []
    for entry in entries:
        size = entry["Size"]
        rows.append(
            (
                str(entry["ContainerName"]),
                str(entry["Repository"]),
                str(entry["Tag"]),
                str(entry["Platform"]),
                str(entry["ID"]).removeprefix("sha256:")[:12],
                tables.size(size if isinstance(size, int) else 0),
                _age(entry["Created"]),
            )
        )
    titles = ("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED")
    return tables.table(titles, rows)


def _age(created: Json) -> str:
    from datetime import datetime

    try:
        at = datetime.fromisoformat(str(created)[:19] + "+00:00").timestamp()
    except ValueError:
        return "N/A"
    return f"{tables.ago(time.time() - at)} ago"
