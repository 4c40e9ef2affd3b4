"""One watched service: its own queue and thread, so that no service waits for another one.

Files go first, then commands, then the restart. Builds have a thread of their own: files reach the old container while
the new image is being made, and a build is stopped when something newer asks for one. What could not be delivered
stays in the queue; a container made anew gets all that changed since the session began.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from stackctl.errors import (
    ConflictError,
    NotFoundError,
    StackctlError,
    UnavailableError,
)
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.watch.delivery import Delivery
from stackctl.orchestrator.watch.report import Happening, Kind
from stackctl.orchestrator.watch.rules import Work
from stackctl.values import JsonObject

_FIRST_RETRY, _LAST_RETRY = 0.05, 5.0
_PASSING = (ConflictError, NotFoundError, UnavailableError, OSError)
Report = Callable[[Happening], None]


class Cancel:
    """Lets another thread end a build."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None
        self.requested = False

    def opened(self, end: Callable[[], None]) -> None:
        """Take what ends the build."""
        with self._lock:
            self._end = end
            requested = self.requested
        if requested:
            end()

    def request(self) -> None:
        with self._lock:
            self.requested = True
            end = self._end
        if end is not None:
            end()


class Rebuild(Protocol):
    """Builds a service's image anew and replaces its containers; raises StackctlError, also when it was ended."""

    def __call__(self, service: str, cancel: Cancel) -> None: ...


class Containers(Protocol):
    """Returns (ID, name, running) of a service's containers; ``fresh``: ask the engine now."""

    def __call__(self, service: str, *, fresh: bool = False) -> list[tuple[str, str, bool]]: ...


class WatchedService:
    """Does the work of one service in the background; ``put`` never waits."""

    def __init__(
        self,
        name: str,
        *,
        engine: Engine,
        containers: Containers,
        deliver: Delivery,
        rebuild: Rebuild,
        report: Report,
    ) -> None:
        self.name = name
        self._engine = engine
        self._containers = containers
        self._deliver = deliver
        self._rebuild = rebuild
        self._report = report
        self._changed = threading.Condition()
        self._pending = Work()
        self._wanted_build = Work()
        self._building: Cancel | None = None
        self._touched: dict[str, str] = {}
        self._known: set[str] = set()
        self._missed: set[str] = set()
        self._stopping = threading.Event()
        self._busy = 0
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=f"watch {name}", daemon=True)
            for step in (self._next_sync, self._next_build)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, work: Work) -> None:
        """Take work; a build under way is ended when the work asks for another one."""
        with self._changed:
            self._touched.update(work.files)
            if work.rebuild:
                self._wanted_build.add(Work(rebuild=True, since=work.since, why=work.why))
                if self._building is not None:
                    threading.Thread(target=self._building.request, daemon=True).start()
            rest = Work(
                files=work.files,
                # A container made of a new image is started anew anyway.
                restart=work.restart and not work.rebuild,
                hooks=work.hooks,
                since=work.since,
                why=work.why,
            )
            self._pending.add(rest)
            self._changed.notify_all()

    def started(self, container: str) -> None:
        """A container of the service was started: one that is new or missed something gets all that changed."""
        with self._changed:
            lacks = container in self._missed or container not in self._known
            self._known.add(container)
            self._missed.discard(container)
            if lacks and self._touched:
                self._pending.add(Work(files=dict(self._touched), since=time.monotonic()))
            self._changed.notify_all()

    def remember(self) -> None:
        """Note which containers there are now: those get every change from now on."""
        known = {identity for identity, _, _ in self._containers(self.name, fresh=True)}
        with self._changed:
            self._known |= known

    def carry_over(self, other: "WatchedService") -> None:
        """Take over what another session's service, stopped, has not done, and what it has touched."""
        with self._changed:
            self._known = set(other._known)  # noqa: SLF001 - the same class
            self._touched = dict(other._touched)  # noqa: SLF001
            self._missed = set(other._missed)  # noqa: SLF001
            self._pending.add(other._pending)  # noqa: SLF001

    def stop(self) -> None:
        """End the threads; a build under way is ended too."""
        with self._changed:
            self._stopping.set()
            building = self._building
            self._changed.notify_all()
        if building is not None:
            building.request()
        for thread in self._threads:
            thread.join(timeout=5)

    def idle(self) -> bool:
        """Tell whether nothing is left to do."""
        with self._changed:
            return not (self._pending or self._wanted_build or self._busy)

    # Threads

    def _run(self, step: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            try:
                step()
            except StackctlError as error:
                self._failed(error)
            finally:
                with self._changed:
                    self._busy = max(self._busy - 1, 0)

    def _failed(self, error: StackctlError) -> None:
        self._report(
            Happening(kind=Kind.FAILED, service=self.name, text=error.message, hint=error.hint)
        )

    def _next_build(self) -> None:
        with self._changed:
            while not self._wanted_build and not self._stopping.is_set():
                self._changed.wait()
            if self._stopping.is_set():
                return
            self._busy += 1
            work, self._wanted_build = self._wanted_build, Work()
            cancel = self._building = Cancel()
        self._report(Happening(kind=Kind.REBUILDING, service=self.name, text=work.why))
        try:
            self._rebuild(self.name, cancel)
        except StackctlError:
            if not cancel.requested:
                raise
            if not self._stopping.is_set():
                text = "something newer changed"
                self._report(Happening(kind=Kind.SUPERSEDED, service=self.name, text=text))
            return
        finally:
            with self._changed:
                self._building = None
        seconds = time.monotonic() - work.since if work.since else 0.0
        self._report(Happening(kind=Kind.REBUILT, service=self.name, seconds=seconds))

    def _next_sync(self) -> None:
        with self._changed:
            while not self._pending and not self._stopping.is_set():
                self._changed.wait()
            if self._stopping.is_set():
                return
            self._busy += 1
            work, self._pending = self._pending, Work()
        delay = _FIRST_RETRY
        while not self._stopping.is_set():
            try:
                self._do(work, fresh=delay != _FIRST_RETRY)
                return
            except _PASSING as error:
                if delay >= 1.0:
                    text = f"{error}; trying again"
                    self._report(Happening(kind=Kind.FAILED, service=self.name, text=text))
                with self._changed:
                    self._changed.wait(delay)
                    work.add(self._pending)
                    self._pending = Work()
                delay = min(delay * 2, _LAST_RETRY)
        with self._changed:
            # Whoever takes over finds it here.
            work.add(self._pending)
            self._pending = work

    def _do(self, work: Work, *, fresh: bool) -> None:
        """Do the work in every container of the service; what is done is taken out of it."""
        found = self._containers(self.name, fresh=fresh)
        running = [(identity, name) for identity, name, runs in found if runs]
        if work.files:
            running = self._mark_missing(found, running)
            for identity, name in running:
                self._sync(identity, name, work)
            work.files = {}
        while work.hooks:
            for identity, name in running:
                self._execute(identity, name, work.hooks[0], work.since)
            work.hooks.pop(0)
        if work.restart:
            for identity, name in running:
                self._engine.restart_container(identity)
                self._tell(Kind.RESTARTED, name, work.since)
            work.restart = False

    def _mark_missing(
        self, found: list[tuple[str, str, bool]], running: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        """Note who does not run and will need the files when started; return who runs."""
        idle = {identity for identity, _, runs in found if not runs}
        if not idle:
            return running
        with self._changed:
            self._missed |= idle
        # One that was started before the note was made is not told of again.
        found = self._containers(self.name, fresh=True)
        now = [(identity, name) for identity, name, runs in found if runs]
        with self._changed:
            self._missed -= {identity for identity, _ in now}
        return now

    def _sync(self, identity: str, name: str, work: Work) -> None:
        done = self._deliver(identity, work.files)
        if done.written or done.deleted or not done.failures:
            self._report(
                Happening(
                    kind=Kind.SYNCED,
                    service=self.name,
                    container=name,
                    paths=tuple(sorted(work.files)),
                    written=done.written,
                    deleted=done.deleted,
                    size=done.size,
                    seconds=time.monotonic() - work.since if work.since else 0.0,
                )
            )
        for why, paths in _by_reason(done.failures).items():
            more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
            self._report(
                Happening(
                    kind=Kind.FAILED,
                    service=self.name,
                    container=name,
                    paths=paths,
                    text=f"{paths[0]}: {why}{more}",
                    hint="develop.watch: the target must be a place the container can have files at",
                )
            )

    def _execute(self, identity: str, name: str, hook: Hook, since: float) -> None:
        body: JsonObject = {
            "Cmd": list(hook.command),
            "User": hook.user,
            "Privileged": hook.privileged,
            "WorkingDir": hook.working_dir,
            "Env": [
                f"{key}={value}" for key, value in hook.environment.items() if value is not None
            ],
            "AttachStdout": True,
            "AttachStderr": True,
        }
        text = " ".join(hook.command)
        exec_id = self._engine.create_exec(identity, body)
        with contextlib.closing(self._engine.start_exec(exec_id)) as process:
            output = b"".join(data for _, data in process)
        code = self._engine.inspect_exec(exec_id).get("ExitCode")
        if code == 0:
            self._tell(Kind.EXECUTED, name, since, text=text)
            return
        said = output.decode(errors="replace").strip()[-2000:]
        self._report(
            Happening(
                kind=Kind.FAILED,
                service=self.name,
                container=name,
                text=f"{text} ended with exit code {code}{': ' + said if said else ''}",
            )
        )

    def _tell(self, kind: Kind, container: str, since: float, *, text: str = "") -> None:
        seconds = time.monotonic() - since if since else 0.0
        self._report(
            Happening(kind=kind, service=self.name, container=container, seconds=seconds, text=text)
        )


def _by_reason(failures: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for path, why in failures:
        found[why] = (*found.get(why, ()), path)
    return found
