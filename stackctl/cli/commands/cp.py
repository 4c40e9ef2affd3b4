"""stackctl cp."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.render.containers import Listed
from stackctl.errors import InvalidInputError, NotFoundError

EPILOG = (
    "Examples: stackctl cp web:/etc/nginx.conf .    stackctl cp index.html web:/srv/"
    "    tar c . | stackctl cp - web:/srv"
)


def command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="PATH, SERVICE:PATH or - (a tar on stdin).")],
    target: Annotated[str, typer.Argument(help="PATH, SERVICE:PATH or - (a tar on stdout).")],
    every: Annotated[
        bool, typer.Option("--all", help="Include containers created by `run`.")
    ] = False,
    archive: Annotated[bool, typer.Option("-a", "--archive", help="Keep owners.")] = False,
    follow_link: Annotated[
        bool, typer.Option("-L", "--follow-link", help="Copy what a link in SOURCE points at.")
    ] = False,
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
) -> None:
    """Copy files between a service's containers and this machine.

    Into a service without --index: into every container of it. Ending SOURCE in /. copies a folder's content.
    """
    from stackctl.cli import copying

    session = Session.of(ctx)
    engine = session.engine()
    from_service, from_path = _place(source)
    to_service, to_path = _place(target)
    if bool(from_service) == bool(to_service):
        raise InvalidInputError(
            "one of SOURCE and TARGET is SERVICE:PATH, the other a path here",
            hint="stackctl cp web:/etc/hosts .",
        )
    if from_service:
        one = _containers(session, from_service, index, every)[0]
        copying.fetch(engine, one.id, from_path, to_path, follow=follow_link)
        if to_path != "-":
            session.did(f"copied {one.name}:{from_path} to {to_path}")
        return
    chosen = _containers(session, to_service, index, every)
    source_ = copying.Source.of(from_path, keep_owner=archive, follow=follow_link)
    for one in chosen:
        copying.send(engine, one.id, source_, to_path)
        session.did(f"copied {from_path} to {one.name}:{to_path}")


def _containers(session: Session, service: str, index: int, every: bool) -> list[Listed]:
    found = session.containers([service], every=True, one_off=every)
    chosen = [one for one in found if not index or one.number == index]
    if not chosen:
        number = f" number {index}" if index else ""
        raise NotFoundError(
            f"service {service} has no container{number}", hint=f"stackctl up -d {service}"
        )
    return chosen


def _place(text: str) -> tuple[str, str]:
    """Split SERVICE:PATH; a path here has no service, nor has one that begins with / or a dot."""
    service, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or "/" in service:
        return "", text
    if not path:
        raise InvalidInputError(f'"{text}" has no path', hint=f"{service}:/path")
    return service, path
