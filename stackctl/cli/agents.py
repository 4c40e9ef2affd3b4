"""The agents of this machine: started, listed, told something new, stopped.

An agent has an *order* (what to keep, as a file that only its owner reads, since it holds the variables of its
caller's environment), a *lock* that it holds while it lives, a *status* that it keeps up to date and a *log*. Whether
it lives is what the kernel says of the lock, so that an agent that was killed leaves nothing that could mislead.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stackctl.cli.planned import UpRequest
from stackctl.errors import DeadlineError, HostError, InvalidInputError
from stackctl.frozen import frozen
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.cli.context import GlobalOptions, Session
    from stackctl.orchestrator.model.stack import Stack

FORMAT = 1
_STOP_SECONDS = 60.0
_LOG_MOST = 1 << 20


@frozen
class Order:
    """What an agent is to keep: a project on an engine, as the command line of an ``up`` said."""

    project: str
    engine: str
    cwd: str
    options: JsonObject
    environ: Mapping[str, str]
    request: UpRequest


@frozen
class Known:
    """An agent as it is known here; ``pid`` is 0 for one that ended without being told to."""

    order: Order
    path: Path
    pid: int
    since: float
    status: JsonObject

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")


def place(folder: Path, project: str, engine: str) -> Path:
    """Return where the order of a project's agent is, or would be."""
    return folder / f"{project}-{hashlib.sha256(engine.encode()).hexdigest()[:8]}.json"


def find_all(folder: Path) -> list[Known]:
    """Return every agent that has an order."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(_known(path))
    return found


def find(folder: Path, project: str, engine: str = "") -> list[Known]:
    """Return the agents of a project, on one engine or any; cheap where there are none."""
    if not folder.is_dir():
        return []
    return [
        item
        for item in find_all(folder)
        if item.order.project == project and engine in ("", item.order.engine)
    ]


def _known(path: Path) -> Known:
    alive = is_alive(path)
    status = _object(path.with_suffix(".status"))
    pid = status.get("pid")
    since = status.get("since")
    return Known(
        order=read(path),
        path=path,
        pid=pid if alive and isinstance(pid, int) else 0,
        since=since if isinstance(since, int | float) else 0.0,
        status=status,
    )


def is_alive(path: Path) -> bool:
    """Tell whether an agent holds the lock beside its order."""
    try:
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def read(path: Path) -> Order:
    """Read an order; raises OSError, or ValueError, KeyError and TypeError for what is none."""
    data = json.loads(path.read_text())
    if data["format"] != FORMAT:
        raise ValueError("an order of another version")
    flags = data["request"]
    services = tuple(flags.pop("services"))
    return Order(
        project=data["project"],
        engine=data["engine"],
        cwd=data["cwd"],
        options=data["options"],
        environ=data["environ"],
        request=UpRequest(services=services, **flags),
    )


def write(path: Path, order: Order) -> None:
    """Write an order for its owner's eyes only; raises HostError."""
    content = {
        "format": FORMAT,
        "project": order.project,
        "engine": order.engine,
        "cwd": order.cwd,
        "options": order.options,
        "environ": dict(order.environ),
        "request": {**dataclasses.asdict(order.request)},
    }
    _replace(path, json.dumps(content) + "\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", errno=error.errno or 0) from error


def order_of(session: "Session", stack: "Stack", request: UpRequest) -> Order:
    """Return the order that an ``up`` amounts to; raises InvalidInputError for a file that cannot be read again."""
    if "-" in stack.files:
        raise InvalidInputError(
            "--reconcile reads the stack file again and again, which standard input cannot be",
            hint="write it to a file",
        )
    kept = UpRequest(
        services=request.services,
        scale=dict(request.scale),
        no_deps=request.no_deps,
        remove_orphans=request.remove_orphans,
        timeout=request.timeout,
    )
    return Order(
        project=stack.name,
        engine=session.address(),
        cwd=str(Path.cwd()),
        options=cast(JsonObject, _plain(session.options)),
        environ=dict(os.environ),
        request=kept,
    )


def _plain(options: "GlobalOptions") -> dict[str, object]:
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(options)
        for value in (getattr(options, field.name),)
    }


def merged(before: UpRequest, after: UpRequest) -> UpRequest:
    """Return what to keep once an ``up`` asked for something else: it counts for the services that it was about."""
    if not after.services:
        return after
    services = tuple(dict.fromkeys((*before.services, *after.services))) if before.services else ()
    scale = {name: n for name, n in before.scale.items() if name not in after.services}
    return dataclasses.replace(before, services=services, scale={**scale, **after.scale})


def start(session: "Session", folder: Path, order: Order) -> Known:
    """Start an agent, or give the one there is its new order; return when it watches."""
    path = place(folder, order.project, order.engine)
    write(path, order)
    if not is_alive(path):
        path.with_suffix(".status").unlink(missing_ok=True)
        _spawn(session, path)
    return _known(path)


def _spawn(session: "Session", path: Path) -> None:
    log = path.with_suffix(".log")
    begin = log.stat().st_size if log.exists() else 0
    search = str(Path(__file__).resolve().parents[2])
    environ = dict(os.environ)
    if "site-packages" not in search:
        environ["PYTHONPATH"] = search
    argv = [sys.executable, "-m", "stackctl", "agent", "run", str(path)]
    agent = session.spawn_detached(argv, log=log, env=environ)
    while not (is_alive(path) and path.with_suffix(".status").exists()):
        if agent.poll() is not None:
            said = log.read_bytes()[begin:][-2000:].decode(errors="replace").strip()
            path.unlink(missing_ok=True)
            raise HostError(f"the agent did not start: {said or 'it said nothing'}")
        time.sleep(0.01)
    agent.release()


def follow(session: "Session", folder: Path, stack: "Stack", request: UpRequest) -> None:
    """Let the project's agent, where one runs, keep what this ``up`` asked for from now on."""
    if request.no_start:
        return
    for item in find(folder, stack.name, session.address()):
        if item.pid:
            order = order_of(session, stack, request)
            write(
                item.path,
                dataclasses.replace(order, request=merged(item.order.request, order.request)),
            )


def stop(known: Known) -> bool:
    """Stop an agent and forget it; False when it had ended already. Raises DeadlineError."""
    stopped = bool(known.pid)
    if known.pid:
        _terminate(known)
    forget(known.path)
    return stopped


def _terminate(known: Known) -> None:
    try:
        process = os.pidfd_open(known.pid)
    except ProcessLookupError:
        return
    try:
        # The lock is held while the process named in its status lives, so the number is still its own.
        if not is_alive(known.path):
            return
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _STOP_SECONDS)[0]:
            raise DeadlineError(
                f"the agent of {known.order.project} (pid {known.pid}) does not stop",
                hint=f"its log: {known.log}",
            )
    except ProcessLookupError:
        return
    finally:
        os.close(process)


def forget(path: Path) -> None:
    """Remove what an agent leaves, but for its log and lock."""
    for each in (path, path.with_suffix(".status")):
        each.unlink(missing_ok=True)


@contextlib.contextmanager
def living(path: Path) -> Iterator[None]:
    """Hold the lock that says that this process is the agent; raises HostError when another is."""
    handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(f"another agent keeps {path.stem}") from None
        yield
    finally:
        os.close(handle)


def publish(path: Path, status: JsonObject) -> None:
    """Write an agent's status."""
    _replace(path.with_suffix(".status"), json.dumps(status) + "\n")


def say(path: Path, text: str) -> None:
    """Write to the agent's log; the log before is kept once it is large."""
    log = path.with_suffix(".log")
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_MOST:
            log.replace(log.with_suffix(".log.1"))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    with log.open("a") as file:
        file.write(f"{stamp} {text}\n")


def _object(path: Path) -> JsonObject:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
