"""The loop: news of the engine and of files, and what is mended because of them.

Events only: nothing is looked at by the clock, except while the engine does not answer and for services that wait
to be tried again. Everything is decided as ``up`` decides it, and done as ``up`` does it, under the stack's lock.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from stackctl.errors import InterruptedByUserError, StackctlError, UnavailableError
from stackctl.frozen import frozen
from stackctl.orchestrator.agent.files import FileNews
from stackctl.orchestrator.agent.ledger import Ledger
from stackctl.orchestrator.agent.report import Progress, Report
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.executor import execute
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.observe import observe, relieves
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.observed import Observed
from stackctl.orchestrator.planning.options import Options
from stackctl.orchestrator.planning.partial import without
from stackctl.orchestrator.planning.plan import Plan, WaitContainers
from stackctl.orchestrator.planning.reconcile import reconcile
from stackctl.orchestrator.watch.changes import DirectoryEvents
from stackctl.orchestrator.watch.session import own_files
from stackctl.values import JsonObject

_QUIET = 0.05  # seconds of silence after news, since one misfortune seldom comes alone
_RECONNECT_FIRST, _RECONNECT_MOST = 0.1, 2.0
_DRIFT = {
    "container": frozenset({"die", "destroy", "stop", "pause", "rename"}),
    "network": frozenset({"disconnect", "destroy"}),
    "volume": frozenset({"destroy"}),
    "image": frozenset({"tag", "untag", "delete"}),
}


@frozen
class Wish:
    """What the stack is to be like now: as a stack file and the flags of ``up`` say."""

    stack: Stack
    options: Options


@frozen
class Doors:
    """How the loop reaches the world.

    ``reach`` returns the engine once it answers, or raises. ``wish`` reads the stack file; ``moved_on`` tells whether
    someone asked for something else since it was read. ``lock`` lets one command at a time change the stack.
    """

    reach: Callable[[], Engine]
    wish: Callable[[], Wish]
    moved_on: Callable[[], bool]
    lock: Callable[[], AbstractContextManager[None]]
    directories: Callable[[], DirectoryEvents]
    report: Report
    key: bytes
    parallel: int = 0


class Agent:
    """Keeps one stack; ``run`` returns after ``stop``, or raises what a signal's handler raises."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._report = doors.report
        self._wish = doors.wish()
        self._project = self._wish.stack.name
        self._ledger = Ledger()
        self._news: queue.SimpleQueue[Callable[[], bool]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._blind = True  # what happened may have been missed
        self._files = FileNews(doors.directories(), lambda: self._news.put(self._file_changed))

    def run(self) -> None:
        threading.Thread(target=self._listen, name="engine events", daemon=True).start()
        self._files.watch(_inputs(self._wish.stack))
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._stopping.set()
            self._files.close()

    def stop(self) -> None:
        """End; also from another thread."""
        self._stopping.set()
        self._news.put(lambda: False)

    def _turn(self) -> None:
        news = self._next(self._ledger.patience(time.monotonic()))
        wanted = news is None or news  # None: some service has waited long enough
        while not self._stopping.is_set() and (more := self._next(_QUIET)) is not None:
            wanted = wanted or more
        if wanted and not self._stopping.is_set():
            self._ledger.let_go(time.monotonic())
            self._mend()

    def _next(self, patience: float | None) -> bool | None:
        """Take in one piece of news and tell whether it calls for mending; None where none came."""
        try:
            news = self._news.get(timeout=patience)
        except queue.Empty:
            return None
        return news()

    # News

    def _listen(self) -> None:
        """Follow the engine's events on a thread of its own; find the engine again when they end."""
        pause = _RECONNECT_FIRST
        while not self._stopping.is_set():
            try:
                stream = self._doors.reach().events(filters={"type": sorted(_DRIFT)})
                self._news.put(self._connected)
                pause = _RECONNECT_FIRST
                for event in stream:
                    self._news.put(lambda event=event: self._happened(event))  # type: ignore[misc]
            except (OSError, ValueError, StackctlError):
                pass  # an engine that is gone is waited for
            self._news.put(self._disconnected)
            self._stopping.wait(pause)
            pause = min(pause * 2, _RECONNECT_MOST)

    def _connected(self) -> bool:
        self._report.begins()
        self._blind = True
        return True

    def _disconnected(self) -> bool:
        self._report.waits_for_engine()
        return False

    def _file_changed(self) -> bool:
        self._read_again()
        return True

    def _happened(self, event: JsonObject) -> bool:
        """Take an event in; tell whether something of the stack may need mending."""
        kind, action = str(event.get("Type", "")), str(event.get("Action", ""))
        actor = event.get("Actor")
        actor = actor if isinstance(actor, dict) else {}
        found = actor.get("Attributes")
        attributes = {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}
        identity = str(actor.get("ID", ""))
        if kind == "container":
            return self._container(identity, action, attributes)
        names = {identity, attributes.get("name", "")}
        return action in _DRIFT.get(kind, ()) and (
            kind == "image" or not names.isdisjoint(_names(self._wish.stack, kind))
        )

    def _container(self, identity: str, action: str, attributes: dict[str, str]) -> bool:
        if (
            attributes.get(labels.PROJECT) != self._project
            or attributes.get(labels.ONEOFF, "").lower() == "true"
        ):
            return False
        match action:
            case "kill":
                self._ledger.signalled(identity)
            case "start":
                self._ledger.started(identity)
            case "destroy":
                self._ledger.gone(identity)
            case "die":
                code = attributes.get("exitCode", "")
                service = attributes.get(labels.SERVICE, "")
                number = int(code) if code.lstrip("-").isdigit() else -1
                self._ledger.ended(service, identity, number, time.monotonic())
        return action in _DRIFT["container"]

    # Mending

    def _mend(self) -> None:
        try:
            engine = self._doors.reach()
            with self._doors.lock():
                if self._doors.moved_on():
                    self._read_again()
                self._reconcile(engine)
        except InterruptedByUserError:
            raise
        except UnavailableError:
            self._report.waits_for_engine()  # the listener finds it again
        except StackctlError as error:
            self._ledger.failed("", time.monotonic())
            self._report.failed(error, self._ledger.patience(time.monotonic()))

    def _read_again(self) -> None:
        try:
            self._wish = self._doors.wish()
        except StackctlError as error:
            self._report.file_is_wrong(error)
            return
        self._report.file_is_right()
        self._files.watch(_inputs(self._wish.stack))

    def _reconcile(self, engine: Engine) -> None:
        stack = self._wish.stack
        options = replace(self._wish.options, relieves=relieves(engine, stack))
        observed = observe(engine, self._project)
        if self._blind:
            self._ledger.done |= _ended_well(observed)
            self._blind = False
        inputs = read_inputs(stack, self._doors.key)
        whole = reconcile(stack, observed, options, inputs=inputs)
        now = time.monotonic()
        held = self._ledger.held(now)
        plan = Plan(stack=whole.stack) if "" in held else without(whole, held, self._ledger.done)
        if not plan.has_changes:
            self._report.at_rest(held)
            return
        progress = Progress(self._report, plan)
        try:
            execute(
                plan, engine, stack, inputs=inputs, on_event=progress, parallel=self._doors.parallel
            )
        except (UnavailableError, InterruptedByUserError):
            raise
        except StackctlError as error:
            for service in progress.failed:
                self._ledger.failed(service, time.monotonic())
            if not progress.failed:
                raise
            self._report.failed(error, self._ledger.patience(time.monotonic()))
            # What failed waits; whatever was begun no more because of it goes on at once.
            self._news.put(lambda: True)
        finally:
            for item in plan:
                if item.id in progress.done and not isinstance(item.action, WaitContainers):
                    self._ledger.brought(item.action.service, time.monotonic())
        self._report.mended(progress)


def _names(stack: Stack, kind: str) -> set[str]:
    return {item.name for item in (stack.networks if kind == "network" else stack.volumes).values()}


def _ended_well(observed: Observed) -> set[str]:
    return {
        item.id
        for item in observed.containers
        if item.state == "exited" and item.exit_code == 0 and not item.oneoff
    }


def _inputs(stack: Stack) -> frozenset[str]:
    """Return the files that say what the stack is, and those whose content goes into it."""
    content = (*stack.configs.values(), *stack.secrets.values())
    return own_files(stack) | {item.file for item in content if item.file}
