"""stackctl image: the engine's images, without another tool."""

import time
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.values import Json

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="List, pull, import, load and remove the engine's images.",
)


@app.command("ls")
def list_images(
    ctx: typer.Context,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List images."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    images = session.engine().list_images()
    entries: list[Json] = []
    rows = []
    for image in images:
        tags = image.get("RepoTags")
        identity = str(image.get("Id", "")).removeprefix("sha256:")[:12]
        size = image.get("Size")
        created = image.get("Created")
        for tag in tags if isinstance(tags, list) and tags else ["<none>:<none>"]:
            entries.append({"Image": tag, "ID": identity, "Size": size, "Created": created})
            spent = time.time() - created if isinstance(created, int | float) else 0.0
            count = size if isinstance(size, int) else 0
            rows.append((str(tag), identity, f"{tables.ago(spent)} ago", tables.size(count)))
    if layout == "json":
        session.out(tables.json_lines(entries))
    else:
        session.out(tables.table(("IMAGE", "ID", "CREATED", "SIZE"), sorted(rows)))


@app.command("pull")
def pull(
    ctx: typer.Context, names: Annotated[list[str], typer.Argument(help="Images to pull.")]
) -> None:
    """Pull images from their registries."""
    session = Session.of(ctx)
    for name in names:
        session.pull(name)


@app.command("import")
def import_image(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A tar of a root file system.")],
    name: Annotated[str, typer.Argument(help="What to call the image.")],
    change: Annotated[
        list[str] | None,
        typer.Option("-c", "--change", help="Dockerfile instruction to apply, such as 'CMD sh'."),
    ] = None,
) -> None:
    """Make an image of a root file system."""
    session = Session.of(ctx)
    _check(file)
    with file.open("rb") as archive:
        session.engine().import_image(archive, name, changes=change or ())
    session.note(f"imported {name}")


@app.command("load")
def load(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="An archive of images (docker save, OCI archive).")],
) -> None:
    """Load images from an archive."""
    session = Session.of(ctx)
    _check(file)
    with file.open("rb") as archive:
        for line in session.engine().load_images(archive):
            session.note(line)


@app.command("rm")
def remove(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Images to remove.")],
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Also when in use by stopped containers.")
    ] = False,
) -> None:
    """Remove images."""
    session = Session.of(ctx)
    for name in names:
        session.engine().remove_image(name, force=force)
        session.note(f"removed {name}")


def _check(file: Path) -> None:
    if not file.exists():
        raise NotFoundError(f"there is no file {file}")
    if file.is_dir():
        raise InvalidInputError(f"{file} is a directory", hint="an archive file is expected")
