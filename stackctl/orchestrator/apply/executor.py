"""Walk the plan in parallel, in dependency order.

Threads, not asyncio: the calls are few and block on a socket, and the import of asyncio costs more than a whole no-op
``up``. Waits hold no thread: they are looked at when an engine event says that something happened.
"""

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from stackctl.errors import InterruptedByUserError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine, EventStream
from stackctl.orchestrator.apply.inputs import read_inputs
from stackctl.orchestrator.apply.operations import perform, type_of
from stackctl.orchestrator.apply.progress import OnEvent, ProgressEvent, Step
from stackctl.orchestrator.apply.run import Run, ServiceUpdate
from stackctl.orchestrator.apply.waiting import Look, look, timed_out
from stackctl.orchestrator.model.common import EMPTY
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.fingerprint import Inputs
from stackctl.orchestrator.planning.plan import (
    CreateContainer,
    CreateNetwork,
    Operation,
    Plan,
    RemoveContainer,
    StartContainer,
    UpdateContainer,
    WaitContainers,
)
from stackctl.values import JsonObject

DEFAULT_PARALLEL = 16
_LOOK_AGAIN = 0.25  # seconds between looks at a wait while the engine sends no events
_RELEVANT = ("start", "die", "stop", "destroy", "oom", "restart", "unpause", "health_status")


@frozen
class Result:
    """What a run did: seconds and failure by operation ID."""

    seconds: Mapping[str, float] = EMPTY
    warnings: tuple[str, ...] = ()


def execute(
    plan: Plan,
    engine: Engine,
    stack: Stack | None,
    *,
    key: bytes = b"",
    inputs: Inputs | None = None,
    on_event: OnEvent | None = None,
    parallel: int = 0,
) -> Result:
    """Carry a plan out; ``parallel`` operations at once (0: 16; below: no limit).

    ``inputs`` are those the plan was made with; read again with the ``key`` of secrets where they are not given.

    When an operation fails no more are begun, those under way are finished, what was made and never started is taken
    back, and the failure is raised with the services that waited for it. On SIGINT or SIGTERM (where this runs in the
    main thread) no more are begun and those under way are finished; then InterruptedByUserError is raised, at a
    second signal at once.
    """
    if not plan.operations:
        return Result()
    created = {
        item.action.service for item in plan.operations if isinstance(item.action, CreateContainer)
    }
    if inputs is None:
        inputs = read_inputs(stack, key, created) if stack and created else Inputs(key=key)
    run = Run(engine=engine, stack=stack, inputs=inputs)
    for item in plan.operations:
        if isinstance(item.action, UpdateContainer):
            ratio = item.action.strategy.max_failure_ratio
            run.updates.setdefault(item.action.service, ServiceUpdate(ratio=ratio)).total += 1
    executor = _Executor(plan, run, on_event or _ignore, parallel)
    with _signals_to(executor.interrupt):
        return executor.run()


@contextlib.contextmanager
def _signals_to(handler: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call the handler: an exception in the middle of the walk would lose track of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_number: int, _frame: object) -> None:
        handler()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, previous in zip(numbers, before, strict=True):
            signal.signal(number, previous)


class _Executor:
    def __init__(self, plan: Plan, run: Run, on_event: OnEvent, parallel: int) -> None:
        self._plan = plan
        self._run = run
        self._on_event = on_event
        self._parallel = parallel or DEFAULT_PARALLEL
        if parallel < 0:
            self._parallel = max(len(plan.operations), 1)
        self._operations = {item.id: item for item in plan.operations}
        self._missing = {item.id: set(item.after) for item in plan.operations}
        self._followers: dict[str, list[str]] = {item.id: [] for item in plan.operations}
        for item in plan.operations:
            for earlier in item.after:
                self._followers[earlier].append(item.id)
        run.probes.on_log = self._found_in_log
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0  # operations on a worker
        self._waits: dict[str, bool] = {}  # pending wait -> being looked at right now
        self._again: set[str] = set()  # waits to look at once more when the present look ends
        self._deadlines: dict[str, float] = {}
        self._next: dict[str, float] = {}  # when a wait's probes are to be tried again
        self._said: dict[str, str] = {}  # what a wait's last probe said
        self._began: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._done: set[str] = set()
        self._passed_over: set[str] = set()
        self._failures: list[tuple[Operation, StackctlError]] = []
        self._warnings: list[str] = []
        self._aftermath = ""  # what became of services whose update failed
        self._late: list[str] = []  # failures of updates that went on all the same
        self._interrupted = False
        self._events: EventStream | None = None
        self._events_work = False
        self._glanced = 0.0  # when the waits were last looked at for want of events
        self._closing = threading.Event()

    # -- the walk

    def run(self) -> Result:
        if any(isinstance(item.action, WaitContainers | UpdateContainer) for item in self._plan):
            threading.Thread(target=self._listen, daemon=True).start()
        try:
            for item in self._plan.operations:
                if not self._missing[item.id]:
                    self._begin(item)
            while self._busy or (self._waits and not self._stopping):
                self._turn()
            self._settle_updates()
            if self._failures:
                self._take_back()
        finally:
            self._close()
        return self._conclude()

    def _turn(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=self._patience())()
        self._look_at_due_waits()

    def interrupt(self) -> None:
        """Begin nothing more; at the second call raise InterruptedByUserError. Called from a signal handler."""
        if self._interrupted:
            raise InterruptedByUserError("interrupted; what was under way was left")
        self._interrupted = True
        self._run.stopping.set()
        self._news.put(_nothing)

    def _patience(self) -> float | None:
        """Return how many seconds to wait for news."""
        if not self._waits or self._stopping:
            return None
        now = time.monotonic()
        limits = [at - now for at in (*self._deadlines.values(), *self._next.values())]
        if not self._events_work:
            limits.append(_LOOK_AGAIN)
        return max(0.0, min(limits)) if limits else None

    @property
    def _stopping(self) -> bool:
        return self._interrupted or bool(self._failures)

    def _begin(self, operation: Operation) -> None:
        if self._stopping:
            return
        if self._is_needless(operation):
            self._passed_over.add(operation.id)
            self._finish(operation, Step.PASSED_OVER)
            return
        self._began[operation.id] = time.monotonic()
        self._emit(Step.STARTED, operation)
        if isinstance(operation.action, WaitContainers):
            self._waits[operation.id] = False
            if operation.action.timeout > 0:
                self._deadlines[operation.id] = time.monotonic() + operation.action.timeout
            self._look(operation.id)
            return
        self._busy += 1
        self._submit(lambda: self._work(operation))

    def _is_needless(self, operation: Operation) -> bool:
        """Tell whether there is nothing to do after all: no image changed, or the container stays."""
        when = operation.when_changed
        if when and all(key in self._run.unchanged for key in when):
            return True
        action = operation.action
        return isinstance(action, RemoveContainer) and action.id in self._run.kept

    def _finish(self, operation: Operation, step: Step = Step.DONE, text: str = "") -> None:
        if operation.id in self._began:
            self._seconds[operation.id] = time.monotonic() - self._began[operation.id]
        self._done.add(operation.id)
        self._emit(step, operation, text)
        for key in self._followers[operation.id]:
            self._missing[key].discard(operation.id)
            if not self._missing[key]:
                self._begin(self._operations[key])

    def _fail(self, operation: Operation, error: StackctlError) -> None:
        self._failures.append((operation, error))
        self._emit(Step.FAILED, operation, error.message)

    # -- workers

    def _submit(self, task: Callable[[], None]) -> None:
        if len(self._threads) < self._parallel and self._busy > len(self._threads):
            thread = threading.Thread(target=self._worker, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tasks.put(task)

    def _worker(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _work(self, operation: Operation) -> None:
        def tell(message: JsonObject) -> None:
            self._news.put(lambda: self._progress(operation, message))

        try:
            perform(self._run, operation, tell)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is reported, not lost
            failure = named(operation, error)
            self._news.put(lambda: self._worked(operation, failure))
        else:
            self._news.put(lambda: self._worked(operation, None))

    def _worked(self, operation: Operation, failure: StackctlError | None) -> None:
        self._busy -= 1
        if failure is not None:
            self._fail(operation, failure)
        else:
            self._finish(operation)

    def _progress(self, operation: Operation, message: JsonObject) -> None:
        if "warning" in message:
            self._warnings.append(str(message["warning"]))
            self._emit(Step.WARNING, operation, str(message["warning"]))
            return
        detail = message.get("progressDetail")
        detail = detail if isinstance(detail, dict) else {}
        text = message.get("status") or message.get("stream") or ""
        current, total = detail.get("current"), detail.get("total")
        self._on_event(
            ProgressEvent(
                step=Step.PROGRESS,
                operation=operation,
                at=time.monotonic(),
                text=str(text).rstrip("\n"),
                part=str(message.get("id") or ""),
                current=current if isinstance(current, int) else 0,
                total=total if isinstance(total, int) else 0,
            )
        )

    def _emit(self, step: Step, operation: Operation, text: str = "") -> None:
        self._on_event(
            ProgressEvent(step=step, operation=operation, at=time.monotonic(), text=text)
        )

    # -- waiting

    def _look(self, key: str) -> None:
        """Look at a wait on a worker, once more afterwards if something happened meanwhile."""
        if self._waits[key]:
            self._again.add(key)
            return
        self._waits[key] = True
        self._next.pop(key, None)
        operation = self._operations[key]
        action = operation.action
        assert isinstance(action, WaitContainers)

        def task() -> None:
            try:
                found = look(self._run.engine, action, self._run.containers, self._run.probes)
            except BaseException as error:  # noqa: BLE001 - a thread's failure is reported, not lost
                failure = named(operation, error)
                self._news.put(lambda: self._looked(operation, failure))
            else:
                self._news.put(lambda: self._looked(operation, found))

        self._busy += 1
        self._submit(task)

    def _looked(self, operation: Operation, found: Look | StackctlError) -> None:
        self._busy -= 1
        key = operation.id
        if key not in self._waits:
            return
        self._waits[key] = False
        if isinstance(found, StackctlError):
            self._end_wait(operation, found)
        elif found.met:
            self._end_wait(operation, None)
        else:
            self._not_yet(operation, found)

    def _not_yet(self, operation: Operation, found: Look) -> None:
        key = operation.id
        action = operation.action
        assert isinstance(action, WaitContainers)
        if found.said and action.ready is not None:
            self._next[key] = time.monotonic() + action.ready.interval
            self._said[key] = found.said
        if key in self._again and not self._stopping:
            self._again.discard(key)
            self._look(key)

    def _end_wait(self, operation: Operation, failure: StackctlError | None) -> None:
        self._waits.pop(operation.id)
        self._deadlines.pop(operation.id, None)
        self._next.pop(operation.id, None)
        self._again.discard(operation.id)
        action = operation.action
        assert isinstance(action, WaitContainers)
        if failure is None:
            self._finish(operation)
        elif action.required:
            self._fail(operation, failure)
        else:
            self._warnings.append(failure.message)
            self._finish(operation, Step.WARNING, failure.message)

    def _look_at_due_waits(self) -> None:
        """See to the waits whose time is over, whose probes are to be tried again, or of which no event tells."""
        now = time.monotonic()
        blind = not self._events_work and now - self._glanced >= _LOOK_AGAIN
        if blind:
            self._glanced = now
        for key in list(self._waits) if not self._stopping else ():
            action = self._operations[key].action
            if self._deadlines.get(key, now + 1) <= now and isinstance(action, WaitContainers):
                said = self._said.get(key, "")
                error = timed_out(self._run.engine, action, self._run.containers, said)
                self._end_wait(self._operations[key], error)
            elif not self._waits[key] and (blind or self._next.get(key, now + 1) <= now):
                self._look(key)

    def _look_at_waits(self) -> None:
        for key in list(self._waits):
            self._look(key)

    def _found_in_log(self) -> None:
        self._run.tell_news()
        self._news.put(self._look_at_waits)

    def _listen(self) -> None:
        """Follow the engine's events for the stack's containers, on a thread of its own."""
        filters = {"type": ["container"], "label": [f"{labels.PROJECT}={self._plan.stack}"]}
        while not self._closing.is_set():
            try:
                stream = self._run.engine.events(filters=filters)
                self._events = stream
                if self._closing.is_set():
                    stream.close()
                self._news.put(self._connected)
                for event in stream:
                    action = str(event.get("Action", ""))
                    if action.partition(":")[0] in _RELEVANT:
                        self._run.tell_news()
                        actor = event.get("Actor")
                        self._news.put(lambda actor=actor: self._happened(actor))  # type: ignore[misc]
            except (OSError, ValueError, StackctlError):
                pass  # looked at by the clock until the stream is back
            self._news.put(self._disconnected)
            self._closing.wait(_LOOK_AGAIN)

    def _connected(self) -> None:
        self._events_work = True
        self._look_at_waits()  # what happened before the stream was there

    def _disconnected(self) -> None:
        self._events_work = False

    def _happened(self, actor: object) -> None:
        attributes = actor.get("Attributes") if isinstance(actor, dict) else None
        name = attributes.get(labels.SERVICE) if isinstance(attributes, dict) else None
        for key in list(self._waits):
            if name is None or self._operations[key].action.service == name:
                self._look(key)

    # -- the end

    def _settle_updates(self) -> None:
        """Let every rolling update that did not come through end as its failure_action says."""
        for name, state in self._run.updates.items():
            if self._failures:
                from stackctl.orchestrator.apply.exchange import settle

                text = settle(self._run, name)
                self._aftermath += f"\n{text}" if state.halted else ""
            elif state.has_failed:
                self._late.append(
                    f"service {name!r}: {len(state.failed)} of {state.total} containers could not be updated: "
                    + ", ".join(sorted(state.failed))
                )

    def _take_back(self) -> None:
        """Remove what this run made and never got to use, so that nothing half made stays behind."""
        engine = self._run.engine
        started = {
            item.action.name
            for item in self._plan
            if isinstance(item.action, StartContainer)
            and item.id in self._done
            and item.id not in self._passed_over
        }
        meant_to_start = {
            item.action.name for item in self._plan if isinstance(item.action, StartContainer)
        }
        for item in self._plan:
            action = item.action
            if item.id not in self._done or item.id in self._passed_over:
                continue
            if isinstance(action, CreateContainer):
                unused = action.name in meant_to_start and action.name not in started
                if unused and self._may_go(action):
                    self._quietly(
                        lambda action=action: engine.remove_container(  # type: ignore[misc]
                            self._run.containers[action.name],
                            force=True,
                            volumes=not action.inherited,
                        )
                    )
        in_use = self._networks_in_use(started)
        for item in self._plan:
            if isinstance(item.action, CreateNetwork) and item.id in self._done:
                name = item.action.name
                if name in in_use:
                    continue
                # The engine refuses where a container is still in it; that is meant.
                self._quietly(lambda name=name: engine.remove_network(name))  # type: ignore[misc]

    def _networks_in_use(self, started: set[str]) -> set[str]:
        """Return the networks of containers that stay: one that has ended would not hold its own."""
        stack = self._run.stack
        services = {item.action.service for item in self._plan if item.action.name in started}
        return {
            stack.networks[key].name
            for name in services
            if stack is not None and name in stack.services
            for key in stack.services[name].networks
            if key in stack.networks
        }

    def _may_go(self, action: CreateContainer) -> bool:
        """Tell whether a container may be taken back: not when the one it replaces is gone already."""
        if not action.replaces:
            return True
        return not any(
            item.id in self._done
            and item.action.verb == "remove"
            and getattr(item.action, "id", "") == action.replaces
            for item in self._plan
        )

    def _quietly(self, call: Callable[[], None]) -> None:
        try:
            call()
        except StackctlError:
            pass  # the failure that led here is what counts

    def _close(self) -> None:
        self._closing.set()
        self._run.probes.close()
        for _ in self._threads:
            self._tasks.put(None)
        if self._events is not None:
            self._events.close()

    def _conclude(self) -> Result:
        left = [item for item in self._plan if item.id not in self._done]
        failed = {item.id for item, _ in self._failures}
        for item in left:
            if item.id not in failed:
                self._emit(Step.CANCELLED, item)
        if self._failures:
            raise self._explained()
        if self._late:
            raise StackctlError("\n".join(self._late))
        if self._interrupted:
            raise InterruptedByUserError(
                f"interrupted with {len(left)} of {len(self._plan)} operations left",
                hint="The next up or down goes on from here.",
            )
        return Result(seconds=self._seconds, warnings=tuple(self._warnings))

    def _explained(self) -> StackctlError:
        operation, first = self._failures[0]
        waited = self._waiting_services(operation)
        text = first.message + self._aftermath
        if waited:
            text += f"\n  waited for it: {', '.join(waited)}"
        for _, other in self._failures[1:]:
            text += f"\nalso: {other.message}"
        error = type_of(first)(text, hint=first.hint)
        error.__cause__ = first
        return error

    def _waiting_services(self, operation: Operation) -> list[str]:
        seen: dict[str, None] = {}
        open_keys = [operation.id]
        services: dict[str, None] = {}
        while open_keys:
            for key in self._followers[open_keys.pop()]:
                if key not in seen:
                    seen[key] = None
                    open_keys.append(key)
                    name = self._operations[key].action.service
                    if name and name != operation.action.service:
                        services[name] = None
        return list(services)


def _nothing() -> None:
    return


def _ignore(_event: ProgressEvent) -> None:
    return


def named(operation: Operation, error: BaseException) -> StackctlError:
    """Return the failure of an operation, saying which one it was."""
    if isinstance(error, StackctlError):
        if operation.action.name in error.message:
            return error
        return type_of(error)(f"cannot {operation.id}: {error.message}", hint=error.hint)
    failure = StackctlError(f"cannot {operation.id}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
