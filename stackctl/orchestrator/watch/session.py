"""A watch session: changes in, work for services out, and an ear on containers that start.

The loop runs in the caller's thread. The rules can be exchanged while it runs (the stack file changed): the new watches
are in place before the old ones go, so that no change falls between.
"""

import contextlib
import os
import posixpath
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from stackctl.errors import InvalidInputError, NotFoundError, StackctlError
from stackctl.frozen import frozen
from stackctl.ignore import read_patterns
from stackctl.orchestrator.apply.contract import Engine, EventStream
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.watch.changes import Batch, Changes, DirectoryEvents
from stackctl.orchestrator.watch.checkouts import Checkouts
from stackctl.orchestrator.watch.delivery import Delivery
from stackctl.orchestrator.watch.report import Happening, Kind
from stackctl.orchestrator.watch.rules import SYNCS, Rule, Work, decide, make_rules
from stackctl.orchestrator.watch.service import Rebuild, Report, WatchedService

_PROJECT = "com.docker.compose.project"
_SERVICE = "com.docker.compose.service"
_ONEOFF = "com.docker.compose.oneoff"


@frozen
class Doors:
    """What a session reaches the outside by; ``events`` makes a fresh watcher of directories.

    ``files_changed`` is told the stack's own files that changed, in the loop's thread.
    """

    engine: Engine
    deliver: Delivery
    rebuild: Rebuild
    report: Report
    events: Callable[[], DirectoryEvents]
    files_changed: Callable[[tuple[str, ...]], None]


def read_rules(stack: Stack, services: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Return the watch rules of services; raises NotFoundError, InvalidInputError naming the rule that is wrong."""
    for name in services:
        if name not in stack.services:
            raise NotFoundError(f"stack {stack.name} has no service {name}")
    rules = make_rules(stack, services, _dockerignores(stack), files=_plain_files(stack))
    if not rules:
        what = f"of {', '.join(services)} " if services else ""
        raise InvalidInputError(
            f"no service {what}in stack {stack.name} has develop.watch",
            hint="say what to watch: develop: {watch: [{action: sync, path: ./src, target: /app}]}",
        )
    for rule in rules:
        _check(rule, stack)
    return rules


def _check(rule: Rule, stack: Stack) -> None:
    if not os.path.lexists(rule.path):
        raise NotFoundError(
            f"{rule.where}: path {rule.path} is not there",
            hint="paths are relative to the stack file's directory",
        )
    if rule.action in SYNCS and not rule.source.target:
        raise InvalidInputError(f'{rule.where}: {rule.action} needs a "target"')
    if rule.action in SYNCS and not rule.source.target.startswith("/"):
        raise InvalidInputError(
            f"{rule.where}: target {rule.source.target} is not absolute",
            hint=f"for example /{rule.source.target.removeprefix('./')}",
        )
    if rule.action == "rebuild" and stack.services[rule.service].build is None:
        raise InvalidInputError(
            f"{rule.where}: rebuild, but the service has no build",
            hint="give it a build, or restart it instead",
        )
    if rule.action == "sync+exec" and rule.source.exec is None:
        raise InvalidInputError(f"{rule.where}: sync+exec needs an exec with a command")


def _plain_files(stack: Stack) -> frozenset[str]:
    paths = {rule.path for service in stack.services.values() for rule in service.watch}
    return frozenset(path for path in paths if _is_file(path))


def _is_file(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _dockerignores(stack: Stack) -> Mapping[str, Sequence[str]]:
    found = {}
    for name, service in stack.services.items():
        if service.build is None or not service.watch or "://" in service.build.context:
            continue
        for path in _ignore_files(service.build.context, service.build.dockerfile):
            if path.is_file():
                found[name] = read_patterns(path.read_text(errors="surrogateescape"))
                break
    return found


def _ignore_files(context: str, dockerfile: str) -> Iterator[Path]:
    root = Path(context)
    source = root / (dockerfile or "Dockerfile")
    yield source.with_name(f"{source.name}.dockerignore")
    yield root / ".dockerignore"


def own_files(stack: Stack) -> frozenset[str]:
    """Return the files that say what the stack is: a change of them is a change of the plan."""
    found = {path for path in stack.paths_read if path.startswith("/")}
    for service in stack.services.values():
        build = service.build
        if build is not None and "://" not in build.context and not build.dockerfile_inline:
            path = os.path.normpath(str(Path(build.context) / (build.dockerfile or "Dockerfile")))
            found.add(path)
    return frozenset(path for path in found if os.path.lexists(path))


class WatchSession:
    """Watches one stack until ``stop``."""

    def __init__(self, stack: Stack, rules: Sequence[Rule], doors: Doors) -> None:
        self._stack = stack
        self._doors = doors
        self._rules = tuple(rules)
        self._own = own_files(stack)
        self._services: dict[str, WatchedService] = {}
        self._stopping = False
        self._listening: EventStream | None = None
        self._hearing = False
        self._turn = 0
        self._seen: dict[str, list[tuple[str, str, bool]]] = {}
        self._changes = self._watch()

    # Life

    def run(self) -> None:
        """Watch until ``stop`` is called in another thread or an exception (Ctrl-C) comes."""
        listener = threading.Thread(target=self._listen, name="watch events", daemon=True)
        self._begin_services({})
        listener.start()
        self._initial_sync(self._rules)
        self._tell_watching()
        try:
            while not self._stopping:
                batch = self._changes.next(3600)
                if batch is not None:
                    self.take(batch)
        finally:
            self.close()

    def stop(self) -> None:
        """End ``run``; may be called from any thread."""
        self._stopping = True
        self._changes.wake()

    def close(self) -> None:
        self._stopping = True
        if self._listening is not None:
            self._listening.close()
        for service in self._services.values():
            service.stop()
        self._changes.close()

    def exchange(self, stack: Stack, rules: Sequence[Rule]) -> None:
        """Go on with other rules; in the loop's thread. Raises as ``read_rules`` and leaves all as it is then."""
        before, old_rules = self._changes, {_key(rule) for rule in self._rules}
        kept = self._stack, self._rules, self._own
        self._stack, self._rules, self._own = stack, tuple(rules), own_files(stack)
        try:
            self._changes = self._watch()
        except StackctlError:
            self._stack, self._rules, self._own = kept
            raise
        late = before.next(0)
        before.close()
        old, self._services = self._services, {}
        for service in old.values():
            service.stop()
        self._begin_services(old)
        self._initial_sync([rule for rule in self._rules if _key(rule) not in old_rules])
        self._tell_watching()
        if late is not None:
            self.take(late, own=False)

    # Changes

    def take(self, batch: Batch, *, own: bool = True) -> None:
        """Hand a batch out: to the services, and the stack's own files to whoever asked."""
        if batch.rescanned:
            text = f"{len(batch.paths)} changed"
            self._doors.report(Happening(kind=Kind.RESCANNED, text=text))
        for name, work in decide(self._rules, batch.paths, since=batch.since).items():
            self._services[name].put(work)
        mine = tuple(path for path in batch.paths if path in self._own)
        if mine and own:
            self._doors.report(Happening(kind=Kind.CHANGED, paths=mine, text=", ".join(mine)))
            self._doors.files_changed(mine)

    def rebuild(self, services: Sequence[str], why: str) -> None:
        """Ask for services to be built anew."""
        for name in services:
            if name in self._services:
                self._services[name].put(Work(rebuild=True, since=time.monotonic(), why=why))

    def idle(self) -> bool:
        """Tell whether every service has done what it was given."""
        return all(service.idle() for service in self._services.values())

    def _watch(self) -> Changes:
        events = self._doors.events()
        watched = tuple(dict.fromkeys(rule.path for rule in self._rules))
        try:
            return Changes(
                (*watched, *sorted(self._own)),
                events,
                enters=self._enters,
                covers=self._covers,
                unfinished=Checkouts(watched).under_way,
            )
        except BaseException:
            events.close()
            raise

    def _enters(self, path: str) -> bool:
        return any(rule.enters(path) for rule in self._rules)

    def _covers(self, path: str) -> bool:
        return path in self._own or any(rule.covers(path) for rule in self._rules)

    def _initial_sync(self, rules: Sequence[Rule]) -> None:
        now = time.monotonic()
        for rule in rules:
            if rule.source.initial_sync and rule.action in SYNCS:
                paths = [path for path in self._changes.everything(rule.path) if rule.covers(path)]
                files = {
                    rule.target(path): path
                    for path in paths
                    if not (rule.directory and path == rule.path)
                }
                self._services[rule.service].put(Work(files=files, since=now))

    def _tell_watching(self) -> None:
        for name in self._services:
            paths = tuple(dict.fromkeys(rule.path for rule in self._rules if rule.service == name))
            self._doors.report(
                Happening(kind=Kind.WATCHING, service=name, paths=paths, text=", ".join(paths))
            )
        for rule in self._rules:
            if rule.action in SYNCS and not rule.source.initial_sync:
                self._tell_missing_target(rule)

    def _tell_missing_target(self, rule: Rule) -> None:
        """Say where files would come to a place that the container does not have: most often a slip of the pen."""
        target = rule.source.target
        place = target if rule.directory else posixpath.dirname(target)
        for identity, name, _ in self._containers(rule.service)[:1]:
            try:
                self._doors.engine.stat_path(identity, place)
            except NotFoundError:
                self._doors.report(
                    Happening(
                        kind=Kind.MISSING,
                        service=rule.service,
                        container=name,
                        paths=(place,),
                        text=f"{place}, the target of {rule.where}",
                        hint="the first file makes it; if it is misspelt, mend the target",
                    )
                )
            except StackctlError:
                continue  # it is being made anew; files find their way then

    # Containers

    def _begin_services(self, old: Mapping[str, WatchedService]) -> None:
        for name in dict.fromkeys(rule.service for rule in self._rules):
            service = WatchedService(
                name,
                engine=self._doors.engine,
                containers=self._containers,
                deliver=self._doors.deliver,
                rebuild=self._doors.rebuild,
                report=self._doors.report,
            )
            if name in old:
                service.carry_over(old[name])
            else:
                service.remember()
            self._services[name] = service
            service.start()
        if old:
            self._greet_all()

    def _containers(self, service: str, *, fresh: bool = False) -> list[tuple[str, str, bool]]:
        """Return (ID, name, running) of a service's containers, one-off ones left out.

        Remembered until an event says that one changed, so that a save need not ask each time.
        """
        known = None if fresh else self._seen.get(service)
        if known is None:
            turn = self._turn
            known = self._ask_containers(service)
            if self._hearing and turn == self._turn:
                self._seen[service] = known
        return known

    def _ask_containers(self, service: str) -> list[tuple[str, str, bool]]:
        labels = [f"{_PROJECT}={self._stack.name}", f"{_SERVICE}={service}"]
        found = []
        for item in self._doors.engine.list_containers(filters={"label": labels}):
            carried = item.get("Labels")
            if isinstance(carried, dict) and carried.get(_ONEOFF) == "True":
                continue
            names = item.get("Names")
            name = str(names[0]).removeprefix("/") if isinstance(names, list) and names else ""
            found.append((str(item.get("Id")), name, item.get("State") in ("running", "paused")))
        return sorted(found, key=lambda one: one[1])

    def _listen(self) -> None:
        """Follow the containers' starts; the engine may go away and come back."""
        filters = {
            "type": ["container"],
            "event": ["start", "die", "destroy", "rename", "pause", "unpause"],
            "label": [f"{_PROJECT}={self._stack.name}"],
        }
        delay, again = 0.1, False
        while not self._stopping:
            with contextlib.suppress(StackctlError, OSError):
                self._listening = self._doors.engine.events(filters=filters)
                self._hearing = True
                if again:
                    self._greet_all()
                again = True
                for event in self._listening:
                    delay = 0.1
                    self._heard(event)
            self._hearing = False
            self._forget_containers()
            if not self._stopping:
                time.sleep(delay)
                delay = min(delay * 2, 5.0)

    def _greet_all(self) -> None:
        """Tell the services of the containers that run: some may have been started unheard."""
        for name, service in list(self._services.items()):
            for identity, _, running in self._containers(name, fresh=True):
                if running:
                    service.started(identity)

    def _forget_containers(self) -> None:
        self._turn += 1
        self._seen.clear()

    def _heard(self, event: object) -> None:
        self._forget_containers()
        match event:
            case {"Action": "start", "Actor": {"ID": str(identity), "Attributes": dict(labels)}}:
                service = self._services.get(str(labels.get(_SERVICE)))
                if service is not None and labels.get(_ONEOFF) != "True":
                    service.started(identity)


def _key(rule: Rule) -> tuple[str, str, str, str, bool]:
    source = rule.source
    return rule.service, source.path, source.target, source.action, source.initial_sync
