"""The events a plan emits while it runs."""

import enum
from collections.abc import Callable

from stackctl.frozen import frozen
from stackctl.orchestrator.planning.plan import Operation


class Step(enum.StrEnum):
    """What happened to an operation."""

    STARTED = "started"
    PROGRESS = "progress"
    DONE = "done"
    PASSED_OVER = "passed over"  # nothing to do after all: the image did not change
    WARNING = "warning"
    FAILED = "failed"
    CANCELLED = "cancelled"


@frozen
class ProgressEvent:
    """``at`` is in seconds of the monotonic clock.

    ``text`` says more (a pull's status, a build step, why it failed); ``part`` is the layer concerned; ``current``
    and ``total`` are bytes, 0 where unknown.
    """

    step: Step
    operation: Operation
    at: float
    text: str = ""
    part: str = ""
    current: int = 0
    total: int = 0


OnEvent = Callable[[ProgressEvent], None]
