"""stackctl image: the engine's images, without another tool."""

import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render import tables
from stackctl.errors import HostError, InvalidInputError, NotFoundError
from stackctl.values import Json, JsonObject

_SHOWN = 60

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="List, move and remove the engine's images.",
)


@app.command("ls")
def list_images(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Only images of this name; may hold *.")] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="IDs alone.")] = False,
    digests: Annotated[
        bool, typer.Option("--digests", help="What the registries call them.")
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "-f", "--filter", help="dangling=true, label=KEY, reference=, before=, since=."
        ),
    ] = None,
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
) -> None:
    """List images."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    wanted = _filters(filters)
    if name:
        wanted["reference"] = [*wanted.get("reference", []), name]
    images = session.engine().list_images(filters=wanted or None)
    if quiet:
        ids = [str(image.get("Id", "")).removeprefix("sha256:")[:12] for image in images]
        session.out("".join(f"{one}\n" for one in dict.fromkeys(ids)))
        return
    if digests:
        _show_digests(session, images, layout)
        return
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


def _show_digests(session: Session, images: list[JsonObject], layout: str) -> None:
    rows: list[tuple[str, str]] = []
    for image in images:
        identity = str(image.get("Id", "")).removeprefix("sha256:")[:12]
        known = image.get("RepoDigests")
        rows += [(str(digest), identity) for digest in (known if isinstance(known, list) else ())]
    if layout == "json":
        session.out(tables.json_lines([{"Digest": one, "ID": identity} for one, identity in rows]))
    else:
        session.out(tables.table(("DIGEST", "ID"), sorted(rows)))


def _filters(pairs: list[str] | None) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for pair in pairs or ():
        # "label!=x" is the filter "label!" with the value "x".
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInputError(f'--filter: "{pair}" has no "="', hint="such as until=24h")
        wanted.setdefault(key, []).append(value)
    return wanted


@app.command("pull")
def pull(
    ctx: typer.Context, names: Annotated[list[str], typer.Argument(help="Images to pull.")]
) -> None:
    """Pull images from their registries."""
    session = Session.of(ctx)
    for name in names:
        session.pull(name)


@app.command("push")
def push(
    ctx: typer.Context, names: Annotated[list[str], typer.Argument(help="Images to push.")]
) -> None:
    """Push images to their registries."""
    session = Session.of(ctx)
    for name in names:
        said: list[str] = []

        def tell(message: JsonObject, said: list[str] = said) -> None:
            status = message.get("status")
            if isinstance(status, str) and "digest: sha256:" in status:
                said.append(status)

        session.engine().push_image(name, on_progress=tell)
        session.note(f"pushed {name}")
        for line in said:
            session.note(line)


@app.command("tag")
def tag(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(help="An image's name or ID.")],
    name: Annotated[str, typer.Argument(help="One more name for it, NAME[:TAG].")],
) -> None:
    """Give an image one more name."""
    repository, word = _name_and_tag(name)
    Session.of(ctx).engine().tag_image(image, repository, word)


@app.command("save")
def save(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Images to save.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; else standard output.")
    ] = None,
) -> None:
    """Write images to an archive that Docker, Podman and skopeo read as well."""
    session = Session.of(ctx)
    if output is None:
        if sys.stdout.isatty():
            raise InvalidInputError(
                "an archive is not for a terminal", hint="give --output or redirect"
            )
        for piece in session.engine().save_images(names):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    _write_whole(output, session.engine().save_images(names))
    session.note(f"saved {', '.join(names)} to {output}")


@app.command("history")
def history(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(help="An image's name or ID.")],
    layout: Annotated[str, typer.Option("--format", help="table or json.")] = "table",
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Show whole lines.")] = False,
) -> None:
    """Show how an image came to be, newest step first."""
    session = Session.of(ctx)
    tables.check_layout(layout)
    lines = session.engine().image_history(image)
    if layout == "json":
        session.out(tables.json_lines([*lines]))
        return
    rows = []
    for line in lines:
        created, count = line.get("Created"), line.get("Size")
        made_by = " ".join(str(line.get("CreatedBy") or line.get("Comment") or "").split())
        spent = time.time() - created if isinstance(created, int | float) and created > 0 else None
        rows.append(
            (
                str(line.get("Id", "")).removeprefix("sha256:")[:12],
                f"{tables.ago(spent)} ago" if spent is not None else "",
                made_by if no_trunc or len(made_by) <= _SHOWN else f"{made_by[: _SHOWN - 1]}…",
                tables.size(count if isinstance(count, int) else 0),
            )
        )
    session.out(tables.table(("IMAGE", "CREATED", "CREATED BY", "SIZE"), rows))


@app.command("inspect")
def inspect(
    ctx: typer.Context, names: Annotated[list[str], typer.Argument(help="Images to show.")]
) -> None:
    """Show all that the engine knows of images, as JSON."""
    session = Session.of(ctx)
    found = [session.engine().inspect_image(name) for name in names]
    session.out(json.dumps(found, indent=4, ensure_ascii=False) + "\n")


@app.command("prune")
def prune(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="All that no container uses, not just unnamed ones.")
    ] = False,
    builds: Annotated[bool, typer.Option("--builds", help="The build cache as well.")] = False,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", help="until=TIME, label=KEY[=VALUE], label!=….")
    ] = None,
) -> None:
    """Remove images that nothing uses."""
    session = Session.of(ctx)
    wanted: dict[str, list[str]] = {"dangling": ["false" if everything else "true"]}
    for key, values in _filters(filters).items():
        wanted.setdefault(key, []).extend(values)
    freed = _told(session, session.engine().prune_images(filters=wanted))
    if builds:
        freed += _told(session, session.engine().prune_builds(everything=everything))
    session.note(f"freed {tables.size(freed)}")


def _told(session: Session, answer: JsonObject) -> int:
    """Name what went, one a line; return the bytes that were freed."""
    gone = answer.get("ImagesDeleted")
    for item in gone if isinstance(gone, list) else ():
        match item:
            case {"Untagged": str(name)}:
                session.out(f"untagged {name}\n")
            case {"Deleted": str(name)}:
                session.out(f"deleted {name}\n")
    freed = answer.get("SpaceReclaimed")
    return freed if isinstance(freed, int) else 0


@app.command("import")
def import_image(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A tar of a root file system; - is standard input.")],
    name: Annotated[str, typer.Argument(help="What to call the image.")],
    change: Annotated[
        list[str] | None,
        typer.Option("-c", "--change", help="Dockerfile instruction to apply, such as 'CMD sh'."),
    ] = None,
) -> None:
    """Make an image of a root file system."""
    session = Session.of(ctx)
    given = file != Path("-")
    if given:
        _check(file)
    with file.open("rb") if given else sys.stdin.buffer as archive:
        session.engine().import_image(archive, name, changes=change or ())
    session.note(f"imported {name}")


@app.command("load")
def load(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="An archive of images (docker save, OCI archive).")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("-i", "--input", help="The same, as docker load has it.")
    ] = None,
) -> None:
    """Load images from an archive, or from standard input."""
    session = Session.of(ctx)
    file = source or file
    if file is None and sys.stdin.isatty():
        raise InvalidInputError("which archive?", hint="name a file, or redirect one in")
    if file is not None:
        _check(file)
    with open(file, "rb") if file is not None else sys.stdin.buffer as archive:
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


def _name_and_tag(name: str) -> tuple[str, str]:
    repository, colon, word = name.rpartition(":")
    if not colon or "/" in word:
        return name, "latest"
    return repository, word


def _write_whole(file: Path, pieces: Iterable[bytes]) -> None:
    """Write beside the file and rename, so that half an archive is never taken for a whole one."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as out:
            for piece in pieces:
                out.write(piece)
        part.replace(file)
    except OSError as error:
        raise HostError(f"cannot write {file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _check(file: Path) -> None:
    if not file.exists():
        raise NotFoundError(f"there is no file {file}")
    if file.is_dir():
        raise InvalidInputError(f"{file} is a directory", hint="an archive file is expected")
