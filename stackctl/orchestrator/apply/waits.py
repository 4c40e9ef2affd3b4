"""The waits of a plan that is being carried out: looked at when something happens, and their probes by the clock."""

import time
from collections.abc import Callable

from stackctl.errors import StackctlError
from stackctl.orchestrator.apply.run import Run
from stackctl.orchestrator.apply.waiting import Look, look, timed_out
from stackctl.orchestrator.planning.plan import Operation, WaitContainers

Task = Callable[[], None]
LOOK_AGAIN = 0.25  # seconds between looks at a wait while the engine sends no events


class Waits:
    """The waits under way. Everything but a look itself is done by the one thread that calls this."""

    def __init__(
        self,
        run: Run,
        *,
        submit: Callable[[Task], None],
        reply: Callable[[Task], None],
        named: Callable[[Operation, BaseException], StackctlError],
        ended: Callable[[Operation, StackctlError | None], None],
    ) -> None:
        """``submit`` runs a task on a worker, which calls ``reply`` with what is to be done by the calling thread.

        ``ended`` is told of each wait that is over, with its failure.
        """
        self._run = run
        self._submit = submit
        self._reply = reply
        self._named = named
        self._ended = ended
        self._pending: dict[str, Operation] = {}
        self._looking: set[str] = set()
        self._again: set[str] = set()  # to look at once more when the present look ends
        self._deadlines: dict[str, float] = {}
        self._next: dict[str, float] = {}  # when probes are to be tried again
        self._said: dict[str, str] = {}  # what the last probe said
        self._glanced = 0.0  # when all were last looked at for want of events
        self.stopped = False

    def __bool__(self) -> bool:
        return bool(self._pending)

    def begin(self, operation: Operation) -> None:
        """Take a wait on and look at it."""
        key = operation.id
        self._pending[key] = operation
        timeout = _action(operation).timeout
        if timeout > 0:
            self._deadlines[key] = time.monotonic() + timeout
        self._look(key)

    def happened(self, service: object) -> None:
        """Look at the waits for a service (None: for all) of which something happened."""
        for key in list(self._pending):
            if service is None or self._pending[key].action.service == service:
                self._look(key)

    def patience(self, *, events: bool) -> float | None:
        """Return how many seconds may pass before ``look_at_due``; None where nothing depends on the clock."""
        now = time.monotonic()
        limits = [at - now for at in (*self._deadlines.values(), *self._next.values())]
        if not events and self._pending:
            limits.append(LOOK_AGAIN)
        return max(0.0, min(limits)) if limits else None

    def look_at_due(self, *, events: bool) -> None:
        """See to those whose time is over, whose probes are to be tried again, or of which no event tells."""
        now = time.monotonic()
        blind = not events and now - self._glanced >= LOOK_AGAIN
        if blind:
            self._glanced = now
        for key, operation in list(self._pending.items()):
            if self.stopped:
                return
            if self._deadlines.get(key, now + 1) <= now:
                action, said = _action(operation), self._said.get(key, "")
                self._end(key, timed_out(self._run.engine, action, self._run.containers, said))
            elif key not in self._looking and (blind or self._next.get(key, now + 1) <= now):
                self._look(key)

    def _look(self, key: str) -> None:
        """Look at a wait on a worker, once more afterwards if something happened meanwhile."""
        if key in self._looking:
            self._again.add(key)
            return
        self._looking.add(key)
        self._next.pop(key, None)
        operation = self._pending[key]
        action, run = _action(operation), self._run

        def task() -> None:
            found: Look | StackctlError
            try:
                found = look(run.engine, action, run.containers, run.probes)
            except BaseException as error:  # noqa: BLE001 - a thread's failure is reported, not lost
                found = self._named(operation, error)
            self._reply(lambda: self._looked(key, found))

        self._submit(task)

    def _looked(self, key: str, found: Look | StackctlError) -> None:
        self._looking.discard(key)
        if key not in self._pending:
            return
        if isinstance(found, StackctlError):
            self._end(key, found)
        elif found.met:
            self._end(key, None)
        else:
            self._not_yet(key, found)

    def _not_yet(self, key: str, found: Look) -> None:
        ready = _action(self._pending[key]).ready
        if found.said and ready is not None:
            self._next[key] = time.monotonic() + ready.interval
            self._said[key] = found.said
        if key in self._again and not self.stopped:
            self._again.discard(key)
            self._look(key)

    def _end(self, key: str, failure: StackctlError | None) -> None:
        operation = self._pending.pop(key)
        self._deadlines.pop(key, None)
        self._next.pop(key, None)
        self._again.discard(key)
        self._ended(operation, failure)


def _action(operation: Operation) -> WaitContainers:
    assert isinstance(operation.action, WaitContainers)
    return operation.action
