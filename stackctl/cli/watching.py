"""Hot reload as commands use it: the session's doors, its words, and the stack file that changes meanwhile."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence

from stackctl.cli import joining
from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest
from stackctl.cli.render import plan as render
from stackctl.errors import StackctlError
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.watch.delivery import ArchiveDelivery, BatchDelivery, Delivery
from stackctl.orchestrator.watch.report import Happening, Kind
from stackctl.orchestrator.watch.service import Cancel
from stackctl.orchestrator.watch.session import Doors, WatchSession, own_files, read_rules
from stackctl.values import JsonObject


class Watching:
    """Watches a stack's files; wrong rules are refused when it is made."""

    def __init__(
        self,
        session: Session,
        stack: Stack,
        services: Sequence[str],
        *,
        yes: bool,
        say: Callable[[str], None],
        layout: str = "text",
        prune: bool = True,
    ) -> None:
        """``yes``: apply changes of the stack file; ``say`` takes each line; ``prune``: images that were replaced go."""
        self._prune = prune
        self._session = session
        self._stack = stack
        self._named = tuple(services)
        self._yes = yes
        self._json = layout == "json"
        self._say = say
        self._lock = threading.Lock()
        self._rules = read_rules(stack, services)
        self._watch: WatchSession | None = None

    def run(self) -> None:
        """Watch until Ctrl-C, or until ``stop``."""
        engine = self._session.engine()
        deliver: Delivery
        if engine.offers("files.sync"):
            deliver = BatchDelivery(engine)
        else:
            deliver = ArchiveDelivery(engine)
        doors = Doors(
            engine=engine,
            deliver=deliver,
            rebuild=self._rebuild,
            report=self._report,
            events=self._session.directory_events,
            files_changed=self._files_changed,
        )
        self._watch = WatchSession(self._stack, self._rules, doors)
        self._watch.run()

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    @contextlib.contextmanager
    def alongside(self) -> Iterator[None]:
        """Watch in the background for the duration."""
        thread = threading.Thread(target=self._run_and_tell, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join(timeout=5)

    def _run_and_tell(self) -> None:
        try:
            self.run()
        except StackctlError as error:
            self._report(Happening(kind=Kind.FAILED, text=error.message, hint=error.hint))

    # What a session asks for

    def _report(self, happening: Happening) -> None:
        line = json.dumps(happening.to_json()) if self._json else str(happening)
        with self._lock:
            self._say(line)

    def _rebuild(self, service: str, cancel: Cancel) -> None:
        joining.rebuild(self._session, self._stack, service, cancel, prune=self._prune)

    def _files_changed(self, paths: tuple[str, ...]) -> None:
        try:
            stack = self._session.stack(self._named)
            rules = read_rules(stack, self._named)
            self._reconcile(stack, paths)
            self._stack, self._rules = stack, rules
            if self._watch is not None:
                self._watch.exchange(stack, rules)
                self._rebuild_changed(paths)
        except StackctlError as error:
            text = f"{error.message}\nwatching goes on with the stack file as it was"
            self._report(Happening(kind=Kind.FAILED, text=text, hint=error.hint))

    def _reconcile(self, stack: Stack, paths: tuple[str, ...]) -> None:
        """Show what the changed files mean for the stack, and do it where that was agreed to."""
        request = UpRequest(services=self._named)
        engine, key = self._session.engine(), self._session.key()
        plan = joining.plan_up(engine, stack, request, key)
        rebuilt = self._builds_of(paths)
        if not plan.has_changes:
            if rebuilt and not self._yes:
                self._tell(f"to build {', '.join(rebuilt)} anew: stackctl up -d --build")
            return
        agreed = self._yes and not plan.destroys_data
        with self._lock:
            if self._json:
                body: JsonObject = {"event": "plan", "plan": plan.to_json(), "applied": agreed}
                self._say(json.dumps(body))
            else:
                self._say(render.text(plan, colour=False).rstrip())
        if not agreed:
            data = "it removes data; stackctl up -d does it when told so"
            self._tell(
                f"not applied: {data if self._yes else 'stackctl up -d does, as does --yes'}"
            )
            return
        with self._session.lock(stack.name):
            joining.apply(self._session, joining.plan_up(engine, stack, request, key), stack)

    def _rebuild_changed(self, paths: tuple[str, ...]) -> None:
        services = self._builds_of(paths)
        if services and self._yes and self._watch is not None:
            self._watch.rebuild(services, ", ".join(paths))

    def _builds_of(self, paths: tuple[str, ...]) -> list[str]:
        """Return the services whose Dockerfile is among the paths."""
        others = own_files(_without_builds(self._stack))
        changed = {path for path in paths if path not in others}
        return [
            name
            for name, service in self._stack.services.items()
            if service.build is not None and changed & own_files(_only(self._stack, name))
        ]

    def _tell(self, text: str) -> None:
        if not self._json:
            with self._lock:
                self._say(text)


def _without_builds(stack: Stack) -> Stack:
    from dataclasses import replace

    services = {name: replace(item, build=None) for name, item in stack.services.items()}
    return replace(stack, services=services)


def _only(stack: Stack, name: str) -> Stack:
    from dataclasses import replace

    return replace(stack, services={name: stack.services[name]})
