"""What an agent says (its log) and what is to be known of it (its status)."""

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from stackctl.errors import StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.planning.plan import Plan, WaitContainers
from stackctl.values import JsonObject


@frozen
class Status:
    """``state`` is one of watching, mending, waiting (for services to be tried again), engine (which is gone), wrong
    (the stack file, the last good one of which is kept to). ``repairs`` counts what was mended, ``last`` says what.
    """

    state: str = "watching"
    repairs: int = 0
    last: str = ""

    def to_json(self) -> JsonObject:
        return {"state": self.state, "repairs": self.repairs, "last": self.last}


class Report:
    """``say`` takes the lines of the log, ``publish`` the status whenever it changes."""

    def __init__(self, say: Callable[[str], None], publish: Callable[[Status], None]) -> None:
        self._say = say
        self._publish = publish
        self._status: Status | None = None
        self._repairs = 0
        self._wrong = False

    def line(self, text: str) -> None:
        self._say(text)

    def begins(self) -> None:
        """The engine's events are heard."""
        if self._status is None or self._status.state == "engine":
            self._be("watching")

    def at_rest(self, held: AbstractSet[str]) -> None:
        """All is as it should be, but for what has to wait."""
        names = ", ".join(sorted(name for name in held if name))
        self._be("waiting" if held else "watching", f"to try again: {names}" if names else "")

    def mending(self, plan: Plan) -> None:
        for item in plan:
            if not isinstance(item.action, WaitContainers):
                self._say(str(item))
        self._be("mending")

    def mended(self, progress: "Progress") -> None:
        self._repairs += progress.changed
        if progress.changed and not progress.failed:
            self._say(f"done in {progress.seconds:.2f} s")
            self._be("watching", progress.title)

    def failed(self, error: StackctlError, patience: float | None) -> None:
        again = f"; next try in {patience:.1f} s" if patience else ""
        self._say(f"failed: {error.message}{again}")
        self._be("waiting", error.message.splitlines()[0])

    def file_is_right(self) -> None:
        self._wrong = False

    def file_is_wrong(self, error: StackctlError) -> None:
        self._wrong = True
        self._say(f"the stack file is wrong; keeping to what it said before:\n{error.message}")
        self._be("wrong", error.message.splitlines()[0])

    def waits_for_engine(self) -> None:
        if self._status is None or self._status.state != "engine":
            self._say("the engine does not answer; waiting for it")
        self._be("engine")

    def _be(self, state: str, last: str = "") -> None:
        if self._wrong and state == "watching":
            state = "wrong"
        before = self._status.last if self._status else ""
        status = Status(state=state, repairs=self._repairs, last=last or before)
        if status != self._status:
            self._status = status
            self._publish(status)


class Progress:
    """Listens to a plan being carried out: what was done, and which services (or "") failed."""

    def __init__(self, report: Report, plan: Plan) -> None:
        self._begun = time.monotonic()
        self._waits = {item.id for item in plan if isinstance(item.action, WaitContainers)}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.title = next(str(item.id) for item in plan if item.id not in self._waits)
        report.mending(plan)

    def __call__(self, event: ProgressEvent) -> None:
        match event.step:
            case Step.DONE:
                self.done.add(event.operation.id)
            case Step.FAILED:
                self.failed.add(event.operation.action.service)

    @property
    def changed(self) -> int:
        return len(self.done - self._waits)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun
