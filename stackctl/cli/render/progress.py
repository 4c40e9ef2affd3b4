"""Progress events as live lines on a terminal, plain lines elsewhere, JSON where asked."""

import json
import sys
import threading
import time
from collections.abc import Mapping

from stackctl.cli.render import tables
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.planning.plan import Operation, WaitContainers
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
    "run hook": "hook done",
    "wait": "ready",
}
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_REDRAW_SECONDS = 0.08


class Progress:
    """Shows a plan being carried out, on standard error."""

    def __init__(self, *, mode: str, colour: bool) -> None:
        """``mode`` is live, plain, json or quiet."""
        self._mode = mode
        self._colour = colour
        self._lock = threading.Lock()
        self._active: dict[str, tuple[Operation, float, str]] = {}
        self._drawn = 0
        self._last = 0.0
        self._started: dict[str, float] = {}

    def tell(self, event: ProgressEvent) -> None:
        """Take one event; called from any thread."""
        if self._mode == "quiet" and event.step is not Step.WARNING:
            return
        with self._lock:
            if self._mode == "json":
                self._json(event)
            else:
                self._text(event)

    def close(self) -> None:
        """Leave the terminal as finished lines."""
        with self._lock:
            self._active.clear()
            self._redraw(force=True)

    def _text(self, event: ProgressEvent) -> None:
        key = event.operation.id
        match event.step:
            case Step.STARTED:
                self._started[key] = event.at
                self._active[key] = (event.operation, event.at, "")
            case Step.PROGRESS:
                if event.operation.action.verb == "build" and event.text:
                    self._say(f"{event.operation.action.service}: {event.text.rstrip()}")
                    return
                self._active[key] = (
                    event.operation,
                    self._started.get(key, event.at),
                    _detail(event),
                )
            case Step.DONE:
                self._active.pop(key, None)
                spent = event.at - self._started.get(key, event.at)
                self._say(self._line(event.operation, spent))
                return
            case Step.WARNING:
                self._say(f"{self._paint('33', 'warning:')} {event.text}")
                return
            case _:
                self._active.pop(key, None)
                if event.step is Step.FAILED:
                    self._say(f"{self._paint('31', '✘')} {key}")
                    return
        self._redraw()

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
        self._redraw(force=True)

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\033[{self._drawn}A\033[J")
            self._drawn = 0

    def _redraw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._mode != "live" or (not force and now - self._last < _REDRAW_SECONDS):
            sys.stderr.flush()
            return
        self._last = now
        self._erase()
        frame = FRAMES[int(now * 10) % len(FRAMES)]
        height = 10
        for operation, start, detail in list(self._active.values())[:height]:
            line = f"{frame} {operation.id} {detail}".rstrip()
            sys.stderr.write(f"{line[:150]}  {now - start:.1f}s\n")
            self._drawn += 1
        sys.stderr.flush()

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    def _json(self, event: ProgressEvent) -> None:
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
        sys.stderr.write(json.dumps(message) + "\n")
        sys.stderr.flush()


def _detail(event: ProgressEvent) -> str:
    if event.total:
        return f"{event.part} {tables.size(event.current)}/{tables.size(event.total)}"
    return event.text.strip().replace("\n", " ")[:100]


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
