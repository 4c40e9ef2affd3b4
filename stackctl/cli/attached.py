"""``up`` without -d: logs as they come until Ctrl-C, which stops the stack.

The first Ctrl-C stops the containers in order; a second one kills them.
"""

import contextlib
import threading
from dataclasses import replace

from stackctl.cli.context import Session
from stackctl.cli.logview import LogView, Look
from stackctl.cli.planned import UpRequest
from stackctl.cli.render.containers import Listed
from stackctl.errors import StackctlError
from stackctl.orchestrator.model.stack import Stack
from stackctl.values import Json

__all__ = ["Look", "up"]


def up(
    session: Session,
    stack: Stack,
    request: UpRequest,
    look: Look,
    *,
    stop_with_first: bool,
    exit_code_from: str,
    alongside: contextlib.AbstractContextManager[None] | None = None,
) -> int:
    """Bring the stack up, show its logs, return the exit code; ``alongside`` is entered while it runs."""
    watched = _Watched(session, stack, replace(look, colour=session.colour), stop_with_first)
    if exit_code_from and exit_code_from not in stack.services:
        raise StackctlError(f"--exit-code-from: the stack has no service {exit_code_from}")
    try:
        with session.lock(stack.name):
            watched.begin()
            session.apply(session.plan_up(stack, request), stack)
        with alongside or contextlib.nullcontext():
            watched.until_done()
    except KeyboardInterrupt:
        _stop(session, stack, request, watched)
        return 130
    if stop_with_first:
        _stop(session, stack, request, watched, say=False)
    return watched.exit_code(exit_code_from)


def _stop(
    session: Session, stack: Stack, request: UpRequest, watched: "_Watched", *, say: bool = True
) -> None:
    if say:
        session.note("stopping; Ctrl-C again kills")
    try:
        session.stop_containers(stack.name, request.services, timeout=request.timeout)
    except KeyboardInterrupt:
        session.kill_containers(stack.name, request.services)
    watched.view.join(timeout=2)


class _Watched:
    """The containers of a stack, their logs and their ends, followed by the engine's events."""

    def __init__(self, session: Session, stack: Stack, look: Look, stop_with_first: bool) -> None:
        self._session = session
        self._engine = session.engine()
        self._project = stack.name
        self._silent = {name for name, service in stack.services.items() if not service.attach}
        self.view = LogView(self._engine, look, names=[f"{name}-1" for name in stack.services])
        self._stop_with_first = stop_with_first
        self._codes: dict[str, int] = {}
        self._first: int | None = None
        self._running: set[str] = set()
        self._done = threading.Event()
        self._applied = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start listening before anything starts, so that no line and no end is missed."""
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
        match event:
            case {"Action": "start", "Actor": {"ID": str(identity), "Attributes": dict(labels)}}:
                self._started(identity, {k: str(v) for k, v in labels.items()})
            case {"Action": "die", "Actor": {"ID": str(identity), "Attributes": dict(labels)}}:
                self._ended(identity, {k: str(v) for k, v in labels.items()})

    def _started(self, identity: str, labels: dict[str, str]) -> None:
        if labels.get("com.docker.compose.oneoff") == "True":
            return
        one = Listed(
            id=identity,
            name=labels.get("name", ""),
            image="",
            command="",
            created=0.0,
            state="running",
            status="",
            labels=labels,
            ports=(),
            networks=(),
        )
        with self._lock:
            self._running.add(identity)
        if one.service not in self._silent:
            self.view.show(one, follow=True)

    def _ended(self, identity: str, labels: dict[str, str]) -> None:
        code = int(labels.get("exitCode", "0"))
        service = labels.get("com.docker.compose.service", "")
        name = f"{service}-{labels.get('com.docker.compose.container-number', '1')}"
        with self._lock:
            self._codes[service] = code
            if self._first is None:
                self._first = code
            self._running.discard(identity)
            empty = not self._running
        self.view.say(name, f"exited with code {code}")
        if self._stop_with_first or (self._applied and empty and not self._restarts(identity)):
            self._done.set()

    def _restarts(self, identity: str) -> bool:
        with contextlib.suppress(StackctlError):
            match self._engine.inspect_container(identity):
                case {"State": {"Status": str(status)}}:
                    return status in ("restarting", "running")
        return False

    def until_done(self) -> None:
        """Return when no container of the stack runs any more (or the first one ended, where asked)."""
        self._applied = True
        for one in self._session.containers((), every=False):
            with self._lock:
                self._running.add(one.id)
            if one.service not in self._silent:
                self.view.show(one, follow=True)
        with self._lock:
            empty = not self._running
        if not empty:
            self._wait()
        self.view.join(timeout=5)

    def _wait(self) -> None:
        # A wait with a limit lets Ctrl-C through on every platform.
        while not self._done.wait(3600):
            pass

    def exit_code(self, service: str) -> int:
        """Return the code that ``up`` exits with."""
        if service:
            return self._codes.get(service, 0)
        return (self._first or 0) if self._stop_with_first else 0
