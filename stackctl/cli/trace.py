"""A run as a trace: when each operation ran and which chain of them took the time.

Chrome's trace event format (JSON object form, complete events), which Perfetto and chrome://tracing open. Times are
in microseconds from the start of the command.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.planning.graph import critical_path
from stackctl.orchestrator.planning.plan import Operation, Plan
from stackctl.values import Json, JsonObject

_ENDS = (Step.DONE, Step.FAILED, Step.WARNING, Step.CANCELLED)


@frozen
class Span:
    """A stretch of time in seconds of the monotonic clock."""

    name: str
    start: float
    end: float


class Trace:
    """Listens to a run; ``write`` saves what it heard."""

    def __init__(self, path: str, plan: Plan, before: Sequence[Span]) -> None:
        """``before`` is what the command did before it began to carry the plan out."""
        self._path = path
        self._plan = plan
        self._before = tuple(before)
        self._starts: dict[str, float] = {}
        self._spans: dict[str, Span] = {}
        self._outcomes: dict[str, str] = {}

    def tell(self, event: ProgressEvent) -> None:
        """Take one event of the run."""
        key = event.operation.id
        if event.step is Step.STARTED:
            self._starts[key] = event.at
        elif event.step in _ENDS and key in self._starts:
            self._spans[key] = Span(name=key, start=self._starts[key], end=event.at)
            self._outcomes[key] = event.step.value

    def write(self) -> list[str]:
        """Write the file; return what to tell the user. Raises InvalidInputError when it cannot be written."""
        seconds = {key: span.end - span.start for key, span in self._spans.items()}
        path = critical_path(self._plan.operations, seconds)
        content = document(
            self._plan.operations, self._before, self._spans, self._outcomes, set(path)
        )
        content["otherData"] = {"stack": self._plan.stack, "critical_path": list[Json](path)}
        try:
            Path(self._path).write_text(json.dumps(content) + "\n")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write the trace to {self._path}: {error.strerror}"
            ) from error
        total = sum(seconds.get(key, 0.0) for key in path)
        slowest = sorted(path, key=lambda key: -seconds.get(key, 0.0))[:3]
        return [
            f"trace in {self._path}; the critical path took {total:.2f} s, slowest on it:",
            *(f"  {seconds.get(key, 0.0):6.2f} s  {key}" for key in slowest),
        ]


def document(
    operations: Sequence[Operation],
    before: Sequence[Span],
    spans: Mapping[str, Span],
    outcomes: Mapping[str, str],
    critical: set[str],
) -> JsonObject:
    """Return the trace as JSON; what ran at the same time is on different rows."""
    every = [*before, *spans.values()]
    origin = min((span.start for span in every), default=0.0)
    process = os.getpid()
    by_id = {operation.id: operation for operation in operations}
    rows = lanes([*spans.values()])
    events: list[Json] = [
        _event(span, 0, process, origin, category="stackctl", arguments={}) for span in before
    ]
    for key, span in spans.items():
        operation = by_id[key]
        arguments: JsonObject = {
            "service": operation.action.service,
            "cause": operation.cause.reason,
            "after": list(operation.after),
            "outcome": outcomes[key],
            "critical": key in critical,
        }
        category = "critical" if key in critical else operation.action.verb
        events.append(
            _event(span, rows[key] + 1, process, origin, category=category, arguments=arguments)
        )
    names = ["stackctl", *(f"operations {row + 1}" for row in range(len({*rows.values()})))]
    events += [
        {
            "name": "thread_name",
            "ph": "M",
            "pid": process,
            "tid": number,
            "args": {"name": name},
        }
        for number, name in enumerate(names)
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _event(
    span: Span, row: int, process: int, origin: float, *, category: str, arguments: JsonObject
) -> JsonObject:
    return {
        "name": span.name,
        "cat": category,
        "ph": "X",
        "ts": round((span.start - origin) * 1e6),
        "dur": max(round((span.end - span.start) * 1e6), 1),
        "pid": process,
        "tid": row,
        "args": arguments,
    }


def lanes(spans: Sequence[Span]) -> dict[str, int]:
    """Return a row for each span so that no two on a row overlap."""
    free: list[float] = []
    rows: dict[str, int] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        row = next((number for number, end in enumerate(free) if end <= span.start), len(free))
        if row == len(free):
            free.append(span.end)
        free[row] = span.end
        rows[span.name] = row
    return rows
