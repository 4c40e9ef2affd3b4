"""The program of an agent: leaves its caller, joins the loop with the stack file and the engine."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stackctl.cli import agents
from stackctl.cli.context import GlobalOptions, Session
from stackctl.errors import ForbiddenError, InvalidInputError, UnavailableError
from stackctl.orchestrator.agent.loop import Agent, Doors, Wish
from stackctl.orchestrator.agent.report import Report, Status
from stackctl.orchestrator.planning.options import Options

if TYPE_CHECKING:
    from stackctl.orchestrator.apply.contract import Engine

_REVIVE_SECONDS = 1.0


def run(path: Path) -> None:
    """Keep what the order says until told to stop (SIGTERM), finishing what is under way."""
    with agents.living(path):
        kept = _Kept(path)
        try:
            kept.session.leave_cgroups()
            Agent(kept.doors()).run()
        except KeyboardInterrupt:
            pass
        finally:
            agents.say(path, "stopped")
            agents.forget(path)


class _Kept:
    """The order, read anew whenever an ``up`` rewrote it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = time.time()
        self._order, self._stamp, self.session = self._read()
        self._engine: Engine | None = None
        self._missed = 0.0
        agents.say(path, f"keeping {self._order.project} on {self._order.engine}")

    def doors(self) -> Doors:
        return Doors(
            reach=self._reach,
            wish=self._wish,
            moved_on=self._moved_on,
            lock=self._lock,
            directories=self.session.directory_events,
            report=Report(lambda text: agents.say(self._path, text), self._publish),
            key=self.session.key(),
            parallel=self.session.options.parallel,
        )

    def _read(self) -> tuple[agents.Order, int, Session]:
        try:
            stamp = self._path.stat().st_ino
            order = agents.read(self._path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(f"{self._path} is no order of an agent: {error}") from error
        os.chdir(order.cwd)
        os.environ.clear()
        os.environ.update(order.environ)
        found = {k: tuple(v) if isinstance(v, list) else v for k, v in order.options.items()}
        return order, stamp, Session(GlobalOptions(**found), quiet=True)  # type: ignore[arg-type]

    def _moved_on(self) -> bool:
        with contextlib.suppress(OSError):
            return self._path.stat().st_ino != self._stamp
        return False

    def _wish(self) -> Wish:
        if self._moved_on():
            self._order, self._stamp, self.session = self._read()
        request = self._order.request
        # Its name as it was: a file that is called otherwise now is another stack's.
        options = replace(self.session.options, project_name=self._order.project)
        session = Session(options, quiet=True)
        return Wish(
            stack=session.stack_to_start(request.services, no_deps=request.no_deps),
            options=Options(
                services=request.services,
                scale=request.scale,
                no_deps=request.no_deps,
                remove_orphans=request.remove_orphans,
                timeout=request.timeout,
                pull="missing",
                keep_volumes=True,
            ),
        )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with self.session.lock(self._order.project):
            yield

    def _reach(self) -> "Engine":
        """Return the engine once it answers; the built-in one is started again where it was killed, not stopped."""
        if self._engine is None:
            self._engine = cast("Engine", self.session.engine(start=False))
        session = self.session
        if not session.is_builtin or session.daemon().is_running():
            self._missed = 0.0
        elif session.paths().socket.exists():
            self._revive()
        else:
            raise UnavailableError("the engine was stopped")
        return self._engine

    def _revive(self) -> None:
        now = time.monotonic()
        self._missed = self._missed or now
        if now - self._missed < _REVIVE_SECONDS:
            # Whoever else looks after it (systemd, a person) goes first.
            raise UnavailableError("the engine does not answer")
        self._missed = 0.0
        with contextlib.suppress(ForbiddenError):
            if self.session.daemon().start():
                agents.say(self._path, "the engine had been killed; started it again")

    def _publish(self, status: Status) -> None:
        about = {"pid": os.getpid(), "since": self._since, **status.to_json()}
        agents.publish(self._path, about)
