"""Progress events as live lines on a terminal, plain lines elsewhere, JSON where asked."""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stackctl.cli import terminal
from stackctl.cli.render import tables
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.planning.plan import Operation, Plan, WaitContainers
from stackctl.values import JsonObject

DONE = {
    "pull": "pulled",
    "build": "built",
    "create": "created",
    "remove": "removed",
    "connect": "connected",
    "disconnect": "disconnected",
    "rename": "renamed",
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "kill": "killed",
    "pause": "paused",
    "unpause": "resumed",
    "update": "updated",
    "run hook": "hook done",
    "wait": "ready",
}
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REDRAW_SECONDS = 0.08


class Progress:
    """Shows a plan being carried out, on standard error."""

    def __init__(
        self,
        plan: Plan,
        *,
        mode: str,
        colour: bool,
        quiet_pull: bool = False,
        quiet_build: bool = False,
    ) -> None:
        """``mode`` is live, plain, json or quiet."""
        self._plan = plan
        self._mode = mode
        self._colour = colour
        self._quiet = {"pull": quiet_pull, "build": quiet_build}
        self._lock = threading.Lock()
        self._active: dict[str, Active] = {}
        self._pending = {item.id: item for item in plan.operations}
        self._drawn = 0
        self._closed = threading.Event()
        if mode == "live":
            threading.Thread(target=self._tick, daemon=True).start()

    def tell(self, event: ProgressEvent) -> None:
        """Take one event; called from any thread."""
        if self._mode == "quiet" and event.step is not Step.WARNING:
            return
        if event.step is Step.PROGRESS and self._quiet.get(event.operation.action.verb):
            return
        with self._lock:
            started = self._active.get(event.operation.id)
            self._note(event)
            if self._mode == "json":
                self._json(event, started)
            else:
                self._text(event, started)

    def close(self) -> None:
        """Leave the terminal as finished lines."""
        self._closed.set()
        with self._lock:
            self._active.clear()
            self._pending.clear()
            self._redraw()

    def _note(self, event: ProgressEvent) -> None:
        key = event.operation.id
        if event.step is Step.STARTED:
            self._pending.pop(key, None)
            self._active[key] = Active(operation=event.operation, since=event.at)
        elif event.step is Step.PROGRESS:
            if key in self._active:
                self._active[key].take(event)
        elif event.step is not Step.WARNING or isinstance(event.operation.action, WaitContainers):
            self._pending.pop(key, None)
            self._active.pop(key, None)

    def _text(self, event: ProgressEvent, started: "Active | None") -> None:
        operation = event.operation
        match event.step:
            case Step.PROGRESS:
                if operation.action.verb == "build" and event.text:
                    self._say(f"{operation.action.service}: {event.text.rstrip()}")
            case Step.DONE:
                spent = event.at - started.since if started else 0.0
                self._say(self._line(operation, spent))
            case Step.WARNING:
                self._say(f"{self._paint('33', 'warning:')} {event.text}")
            case Step.FAILED:
                self._say(f"{self._paint('31', '✘')} {operation.id}")

    def _line(self, operation: Operation, spent: float) -> str:
        action = operation.action
        done = DONE.get(action.verb, "done")
        if isinstance(action, WaitContainers):
            done = action.condition.removeprefix("service_").replace("_", " ")
        what = f"{action.kind} {action.name} {done}"
        return f"{self._paint('32', '✔')} {what}  {self._paint('2', f'{spent:.1f}s')}"

    def _say(self, line: str) -> None:
        self._erase()
        sys.stderr.write(f"{line}\n")
        self._redraw()

    def _tick(self) -> None:
        while not self._closed.wait(_REDRAW_SECONDS):
            with self._lock:
                if not self._closed.is_set():
                    self._redraw()

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\033[{self._drawn}A\033[J")
            self._drawn = 0

    def _redraw(self) -> None:
        if self._mode == "live":
            rows, columns = terminal.size()
            lines = tree(
                [*self._active.values()], self._pending, now=time.monotonic(), rows=rows - 2
            )
            self._erase()
            sys.stderr.write("".join(f"{line[: columns - 1]}\n" for line in lines))
            self._drawn = len(lines)
        sys.stderr.flush()

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def _json(self, event: ProgressEvent, started: "Active | None") -> None:
        message: JsonObject = {
            "id": event.operation.id,
            "step": event.step.value,
            "service": event.operation.action.service,
        }
        for name, value in (("text", event.text), ("part", event.part)):
            if value:
                message[name] = value
        if event.total:
            message |= {"current": event.current, "total": event.total}
        if started is not None and event.step is not Step.PROGRESS:
            message["seconds"] = round(event.at - started.since, 3)
        sys.stderr.write(json.dumps(message) + "\n")
        sys.stderr.flush()


@dataclass(slots=True)
class Active:
    """An operation under way: since when (monotonic seconds), its parts (layers) in bytes, its latest words."""

    operation: Operation
    since: float
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    words: str = ""

    def take(self, event: ProgressEvent) -> None:
        """Take what the engine says about it."""
        if event.total and event.part:
            self.parts[event.part] = (event.current, event.total)
        elif event.text.strip() and (
            self.operation.action.verb != "build" or event.text.startswith("Step ")
        ):
            self.words = event.text.strip().splitlines()[-1]

    def text(self, now: float) -> str:
        """Return what it is at: bytes of a pull, the step of a build, and the time it has taken."""
        detail = self.words
        if self.parts:
            done = sum(current for current, _ in self.parts.values())
            total = sum(total for _, total in self.parts.values())
            detail = f"{len(self.parts)} layers {tables.size(done)}/{tables.size(total)}"
        return f"{self.operation.id}  {detail}{'  ' if detail else ''}{now - self.since:.1f}s"


def tree(
    active: Sequence[Active], pending: Mapping[str, Operation], *, now: float, rows: int
) -> list[str]:
    """Return a line for each operation under way and, under it, those that wait for it, ``rows`` at most."""
    frame = FRAMES[int(now * 10) % len(FRAMES)]
    under_way = {one.operation.id for one in active}
    followers: dict[str, list[Operation]] = {}
    for operation in pending.values():
        for earlier in operation.after:
            if earlier in under_way or earlier in pending:
                followers.setdefault(earlier, []).append(operation)
    lines: list[str] = []
    shown: set[str] = set()

    def walk(key: str, indent: str) -> None:
        for operation in followers.get(key, ()):
            if operation.id in shown:
                continue
            shown.add(operation.id)
            others = [
                earlier
                for earlier in operation.after
                if earlier != key and (earlier in under_way or earlier in pending)
            ]
            also = f"  waits also for {', '.join(others[:2])}" if others else ""
            lines.append(f"{indent}└ {operation.id}{also}")
            walk(operation.id, indent + "  ")

    for one in active:
        lines.append(f"{frame} {one.text(now)}")
        walk(one.operation.id, "  ")
    if len(lines) <= rows:
        return lines
    # Too many: what is under way matters more than what waits.
    first = [line for line in lines if line.startswith(frame)][: max(rows - 1, 0)]
    return [*first, f"  … {len(lines) - len(first)} more"]


class PullLines:
    """The engine's own pull messages, condensed to one line."""

    def __init__(self, reference: str, *, quiet: bool, live: bool, verb: str = "pull") -> None:
        self._reference = reference
        self._verb = verb
        self._quiet = quiet
        self._live = live
        self._parts: dict[str, tuple[int, int]] = {}
        self._last = 0.0

    def tell(self, message: Mapping[str, object]) -> None:
        """Take one message of the engine."""
        if self._quiet or not self._live:
            return
        match message:
            case {
                "id": str(part),
                "progressDetail": {"current": int(current), "total": int(total)},
            }:
                self._parts[part] = (current, total)
        now = time.monotonic()
        if now - self._last > _REDRAW_SECONDS:
            self._last = now
            done = sum(current for current, _ in self._parts.values())
            total = sum(total for _, total in self._parts.values())
            sys.stderr.write(
                f"\r\033[K{self._verb}ing {self._reference} {tables.size(done)}/{tables.size(total)}"
            )
            sys.stderr.flush()

    def done(self) -> None:
        """Say that it is there."""
        if self._quiet:
            return
        start = "\r\033[K" if self._live else ""
        sys.stderr.write(f"{start}{self._verb}ed {self._reference}\n")
        sys.stderr.flush()
