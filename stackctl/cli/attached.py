"""``up`` without -d: logs as they come until Ctrl-C, which stops the stack.

The first Ctrl-C stops the containers in order; a second one kills them.
"""

import contextlib
import threading
from collections.abc import Iterable

from stackctl.cli.context import Session
from stackctl.cli.logview import LogView, Look
from stackctl.cli.planned import UpRequest
from stackctl.cli.render.containers import Listed, from_event
from stackctl.errors import InterruptedByUserError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.model.stack import Stack
from stackctl.values import Json

__all__ = ["Look", "Watch", "up"]


@frozen
class Watch:
    """Whose logs are shown, and what ends the stack: ``abort`` is "", "exit" or "failure" of a container.

    ``alongside`` is entered while the stack runs.
    """

    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    dependencies: bool = False
    abort: str = ""
    exit_code_from: str = ""
    yes: bool = False
    alongside: contextlib.AbstractContextManager[None] | None = None


def up(session: Session, stack: Stack, request: UpRequest, look: Look, watch: Watch) -> int:
    """Bring the stack up, show its logs, return the exit code."""
    for name in (*watch.only, *watch.never, *filter(None, (watch.exit_code_from,))):
        if name not in stack.services:
            raise StackctlError(f"the stack has no service {name}")
    watched = _Watched(session, stack, look, watch, shown(stack, request.services, watch))
    try:
        with session.lock(stack.name):
            plan = session.agreed(session.plan_up(stack, request), yes=watch.yes)
            watched.begin()
            session.apply(plan, stack)
            session.tell_agent(stack, request)
        with watch.alongside or contextlib.nullcontext():
            watched.until_done()
    except (KeyboardInterrupt, InterruptedByUserError):
        _stop(session, stack, request, watched)
        return 130
    if watch.abort and watched.something_runs:
        _stop(session, stack, request, watched, say=False)
    watched.view.join(timeout=5)
    return watched.exit_code()


def shown(stack: Stack, named: Iterable[str], watch: Watch) -> set[str]:
    """Return the services whose logs are shown: those named, or all; none with ``attach: false``."""
    chosen = set(watch.only) or ({*stack.services} if watch.dependencies else {*named})
    chosen = chosen or {*stack.services}
    quiet = {name for name, service in stack.services.items() if not service.attach}
    return chosen - set(watch.never) - (quiet - set(watch.only))


def _stop(
    session: Session, stack: Stack, request: UpRequest, watched: "_Watched", *, say: bool = True
) -> None:
    """Stop the stack on a thread, so that a second Ctrl-C is heard here at once, and kills."""
    session.warn_of_agent(stack.name)
    if say:
        session.note("\nstopping; Ctrl-C again kills")
    failures: list[StackctlError] = []

    def stop() -> None:
        try:
            session.stop_containers(stack.name, request.services, timeout=request.timeout)
        except StackctlError as error:
            failures.append(error)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.5)
    except KeyboardInterrupt:
        session.note("\nkilling")
        with contextlib.suppress(StackctlError):
            session.kill_containers(stack.name, request.services)
        thread.join(10)
    watched.view.join(timeout=2)
    if failures:
        raise failures[0]


class _Watched:
    """The containers of a stack, their logs and their ends, followed by the engine's events."""

    def __init__(
        self, session: Session, stack: Stack, look: Look, watch: Watch, services: set[str]
    ) -> None:
        self._session = session
        self._engine = session.engine()
        self._project = stack.name
        self._services = services
        self._watch = watch
        self.view = LogView(self._engine, look, names=[f"{name}-1" for name in sorted(services)])
        self._codes: dict[str, int] = {}
        self._deciding: int | None = None
        self._before: set[str] = set()  # what ran already: its past is not this command's
        self._running: set[str] = set()
        self._done = threading.Event()
        self._applied = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start listening before anything starts, so that no line and no end is missed."""
        self._before = {one.id for one in self._session.containers((), every=False)}
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(ready,), daemon=True).start()
        ready.wait(5)

    def _listen(self, ready: threading.Event) -> None:
        filters = {
            "type": ["container"],
            "label": [f"com.docker.compose.project={self._project}"],
            "event": ["start", "die"],
        }
        with contextlib.suppress(StackctlError, OSError):
            stream = self._engine.events(filters=filters)
            ready.set()
            for event in stream:
                self._heard(event)
        self._done.set()

    def _heard(self, event: Json) -> None:
        one = from_event(event)
        if one is None or one.labels.get("com.docker.compose.oneoff") == "True":
            return
        match event:
            case {"Action": "start"}:
                self._started(one)
            case {"Action": "die"}:
                self._ended(one)

    def _started(self, one: Listed) -> None:
        with self._lock:
            self._running.add(one.id)
        if one.service in self._services:
            self.view.show(one, follow=True, part="life")

    def _ended(self, one: Listed) -> None:
        text = one.labels.get("exitCode", "0")
        code = int(text) if text.lstrip("-").isdigit() else 0
        abort = self._watch.abort == "exit" or (self._watch.abort == "failure" and code != 0)
        with self._lock:
            self._codes[one.service] = code
            decides = self._deciding is None and abort
            if decides:
                self._deciding = code
            self._running.discard(one.id)
            empty = not self._running
        if one.service in self._services:
            self.view.ended(one, f"exited with code {code}")
        if decides:
            self._session.note(f"{one.name} exited with code {code}; stopping the stack")
        if abort or (self._applied and empty and not self._restarts(one.id)):
            self._done.set()

    def _restarts(self, identity: str) -> bool:
        with contextlib.suppress(StackctlError):
            match self._engine.inspect_container(identity):
                case {"State": {"Status": str(status)}}:
                    return status in ("restarting", "running")
        return False

    def until_done(self) -> None:
        """Return when no container of the stack runs any more (or one ended in the way that aborts)."""
        self._applied = True
        for one in self._session.containers((), every=False):
            with self._lock:
                self._running.add(one.id)
            if one.service in self._services:
                self.view.show(one, follow=True, part="new" if one.id in self._before else "life")
        with self._lock:
            empty = not self._running
        if not empty:
            # A wait with a limit lets Ctrl-C through on every platform.
            while not self._done.wait(3600):
                pass
        if not self._watch.abort:
            self.view.join(timeout=5)

    @property
    def something_runs(self) -> bool:
        with self._lock:
            return bool(self._running)

    def exit_code(self) -> int:
        """Return the code that ``up`` exits with."""
        if self._watch.exit_code_from:
            return self._codes.get(self._watch.exit_code_from, 0)
        return self._deciding or 0
