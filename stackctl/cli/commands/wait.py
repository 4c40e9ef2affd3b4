"""stackctl wait."""

import queue
import threading
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.planned import DownRequest
from stackctl.cli.render.containers import Listed
from stackctl.errors import NotFoundError, StackctlError

EPILOG = "Examples: stackctl wait job    stackctl wait --down-project job    Exits with the code of the container."


def command(
    ctx: typer.Context,
    services: Annotated[list[str], typer.Argument(help="The services to wait for.")],
    down_project: Annotated[
        bool, typer.Option("--down-project", help="Take the stack down when the first one stops.")
    ] = False,
) -> None:
    """Block until the containers of services stop; print and return their exit codes."""
    session = Session.of(ctx)
    found = session.containers(services, every=True)
    if not found:
        raise NotFoundError(
            f"no containers of {', '.join(services)} to wait for", hint="stackctl up -d"
        )
    ends: queue.SimpleQueue[tuple[Listed, int | StackctlError]] = queue.SimpleQueue()
    for one in found:
        threading.Thread(target=_wait, args=(session, one, ends), daemon=True).start()
    code = 0
    for _ in found:
        one, end = ends.get()
        if isinstance(end, StackctlError):
            raise end
        session.out(f'container "{one.name}" exited with status code {end}\n')
        code = code or end
        if down_project:
            break
    if down_project:
        project = session.project()
        with session.lock(project):
            session.apply(session.plan_down(DownRequest(remove_orphans=True)), None)
    raise typer.Exit(code)


def _wait(
    session: Session, one: Listed, ends: "queue.SimpleQueue[tuple[Listed, int | StackctlError]]"
) -> None:
    try:
        ends.put((one, session.engine().wait_container(one.id)))
    except StackctlError as error:
        ends.put((one, error))
