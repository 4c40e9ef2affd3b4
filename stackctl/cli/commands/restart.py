"""stackctl restart."""

from typing import Annotated

from stackctl.cli import declare as typer
from stackctl.cli.context import Session

EPILOG = "Examples: stackctl restart    stackctl restart -t 3 web"


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    no_deps: Annotated[
        bool, typer.Option("--no-deps", help="Not those that depend on them with restart: true.")
    ] = False,
    timeout: Annotated[
        int | None, typer.Option("-t", "--timeout", help="Seconds before they are killed.")
    ] = None,
) -> None:
    """Stop and start containers as they are; a changed stack file needs `up`."""
    session = Session.of(ctx)
    project = session.project()
    with session.lock(project):
        chosen = tuple(services or ())
        if chosen and not no_deps:
            chosen = _with_dependents(session, chosen)
        session.stop_containers(project, chosen, timeout=timeout)
        session.start_containers(project, chosen)


def _with_dependents(session: Session, services: tuple[str, ...]) -> tuple[str, ...]:
    """Return the services and those that are to be restarted with them, as their containers' labels say."""
    needs: dict[str, set[str]] = {}
    for one in session.containers((), every=False):
        label = one.labels.get("com.docker.compose.depends_on", "")
        entries = [entry.split(":") for entry in label.split(",")]
        needs[one.service] = {parts[0] for parts in entries if parts[2:] == ["true"]}
    chosen = dict.fromkeys(services)
    pending = list(services)
    while pending:
        name = pending.pop()
        for other, needed in needs.items():
            if name in needed and other not in chosen:
                chosen[other] = None
                pending.append(other)
    return tuple(chosen)
