"""``up`` without -d: logs as they come until Ctrl-C, which stops the stack.

The first Ctrl-C stops the containers in order; a second one kills them. On a terminal single keys do what one would
otherwise open another terminal for (see ``menu``).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

from stackctl.cli.context import Session
from stackctl.cli.logview import LogView, Look
from stackctl.cli.menu import Menu, Reload
from stackctl.cli.planned import UpRequest
from stackctl.cli.render.containers import Listed, from_event
from stackctl.errors import InterruptedByUserError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.model.stack import Stack
from stackctl.values import Json

__all__ = ["Look", "Watch", "up"]

_BACK_SECONDS = 30.0  # how long an engine that went away may take to be back
_LOOK_SECONDS = 0.1


@frozen
class Watch:
    """Whose logs are shown, and what ends the stack: ``abort`` is "", "exit" or "failure" of a container.

    ``started`` is called once the stack runs; ``reload`` is what brings changed files in, from the start where
    ``watching``; ``keys`` are heard on a terminal.
    """

    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    dependencies: bool = False
    abort: str = ""
    exit_code_from: str = ""
    yes: bool = False
    reload: Reload
    watching: bool = False
    keys: bool = False
    started: Callable[[], None] | None = None


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
            session.agents.tell(stack, request)
        if watch.started is not None:
            watch.started()
        with contextlib.ExitStack() as undo:
            undo.callback(watch.reload.turn_off)
            if watch.keys:
                menu = Menu(session, stack, request, watched, watch.reload, watched.services)
                undo.enter_context(menu.keyboard)
                menu.help()
            if watch.watching:
                watch.reload.turn_on()
            watched.until_done()
    except (KeyboardInterrupt, InterruptedByUserError):
        _stop(session, stack, request, watched)
        return 130
    match watched.left:
        case "detach":
            watched.view.hush()
            if session.goes_with_us:
                session.note(f"{stack.name} goes now: --lease tied it to this command")
            else:
                session.note(f"left {stack.name} running; stackctl down ends it")
            return 0
        case "quit":
            _stop(session, stack, request, watched)
            return 0
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
    session.agents.warn_of(stack.name)
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
        self.services = services
        self._watch = watch
        self.left = ""
        self.view = LogView(self._engine, look, names=[f"{name}-1" for name in sorted(services)])
        self._codes: dict[str, int] = {}
        self._deciding: int | None = None
        # What was there and what ran already: their past is not this command's.
        self._old: set[str] = set()
        self._before: set[str] = set()
        self._lived: set[str] = set()  # what was seen to start
        self._running: set[str] = set()
        self._done = threading.Event()
        self._applied = False
        self._restarting = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start listening before anything starts, so that no line and no end is missed."""
        found = self._session.containers((), every=True)
        self._old = {one.id for one in found}
        self._before = {one.id for one in found if one.state in ("running", "paused", "restarting")}
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(ready,), daemon=True).start()
        ready.wait(5)

    def _listen(self, ready: threading.Event) -> None:
        filters = {
            "type": ["container"],
            "label": [f"com.docker.compose.project={self._project}"],
            "event": ["start", "die"],
        }
        broken_at = ""
        while True:
            with contextlib.suppress(StackctlError, OSError):
                stream = self._engine.events(filters=filters)
                ready.set()
                if broken_at:
                    self._look_again(broken_at)
                for event in stream:
                    self._heard(event)
            broken_at = f"{time.time():.9f}"
            if self._done.is_set() or not self._answers_again():
                break
        self._done.set()

    def _answers_again(self) -> bool:
        """Wait for an engine that was replaced: containers go on meanwhile."""
        deadline = time.monotonic() + _BACK_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(StackctlError, OSError):
                self._engine.version()
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _look_again(self, since: str) -> None:
        """Find out what happened while the engine was away; its logs go on where they broke off."""
        found = self._session.containers((), every=False)
        with self._lock:
            self._running = {one.id for one in found}
        for one in found:
            if one.service in self.services:
                self.view.show(one, follow=True, since=since)
        if self._applied and not found:
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
            self._before.discard(one.id)
            lives_before = one.id in self._lived
            self._lived.add(one.id)
            if lives_before:
                self._old.add(one.id)
        if one.service in self.services:
            self.view.show(one, follow=True, part=self._part(one))

    def _ended(self, one: Listed) -> None:
        text = one.labels.get("exitCode", "0")
        code = int(text) if text.lstrip("-").isdigit() else 0
        abort = self._watch.abort == "exit" or (self._watch.abort == "failure" and code != 0)
        abort = abort and not self._on_purpose()
        with self._lock:
            self._codes[one.service] = code
            decides = self._deciding is None and abort
            if decides:
                self._deciding = code
            self._running.discard(one.id)
            empty = not self._running
        if one.service in self.services:
            self.view.ended(one, f"exited with code {code}")
        if decides:
            self._session.note(f"{one.name} exited with code {code}; stopping the stack")
        if abort or (self._applied and empty and not self._comes_back(one.id)):
            self._done.set()

    def _on_purpose(self) -> bool:
        """Tell whether containers end because new ones, or they themselves, are about to be started."""
        return self._restarting or self._watch.reload.on

    def restarting(self, *, on: bool) -> None:
        """Take it that a container's end is not the stack's, or that it is again."""
        self._restarting = on
        if not on:
            self._see_who_runs()

    def leave(self, how: str) -> None:
        """Stop following: the user wants to ``detach`` or to ``quit``."""
        self.left = how
        self._done.set()

    def _comes_back(self, identity: str) -> bool:
        if self._on_purpose():
            return True
        with contextlib.suppress(StackctlError):
            match self._engine.inspect_container(identity):
                case {"State": {"Status": str(status)}}:
                    return status in ("restarting", "running")
        return False

    def until_done(self) -> None:
        """Return when no container of the stack runs any more (or one ended in the way that aborts), or on ``leave``."""
        self._applied = True
        self._see_who_runs()
        # A wait with a limit lets Ctrl-C through on every platform.
        while not self._done.wait(3600):
            pass
        if not (self.left or self._watch.abort):
            self.view.join(timeout=5)

    def _part(self, one: Listed) -> str:
        """Return which part of a container's log is this command's."""
        if one.id in self._before:
            return "new"
        return "life" if one.id in self._old else "whole"

    def _see_who_runs(self) -> None:
        found = self._session.containers((), every=False)
        with self._lock:
            self._running = {one.id for one in found}
        for one in found:
            if one.service in self.services:
                self.view.show(one, follow=True, part=self._part(one))
        if not found and not self._on_purpose():
            self._done.set()

    @property
    def something_runs(self) -> bool:
        with self._lock:
            return bool(self._running)

    def exit_code(self) -> int:
        """Return the code that ``up`` exits with."""
        if self._watch.exit_code_from:
            return self._codes.get(self._watch.exit_code_from, 0)
        return self._deciding or 0
