"""``stackctl test``: a copy of the stack, a test service in it, its exit code, and what explains a failure.

The copy is removed whatever happens: by this process at its end, on Ctrl-C and SIGTERM as well, and by the engine,
where it keeps leases, when this process is killed.
"""

import contextlib
import json
import os
import secrets
import time
from pathlib import Path

from stackctl.cli import copies, interact
from stackctl.cli.context import Session
from stackctl.cli.planned import DownRequest, OneOff, UpRequest
from stackctl.cli.render import junit
from stackctl.cli.render.containers import Listed
from stackctl.errors import HostError, InterruptedByUserError, NotFoundError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.lease import FEATURE, Owner
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.plan import StartContainer, WaitContainers
from stackctl.orchestrator.planning.selection import select
from stackctl.values import JsonObject

USUAL = ("test", "tests")


@frozen
class Trial:
    """What to run and where to say how it went; empty for "as the stack file says" and "nowhere"."""

    service: str
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    build: bool = False
    pull: str = ""
    wait_timeout: float = 0.0
    artifacts: str = ""
    junit: str = ""


def choose(stack: Stack, name: str) -> str:
    """Return the test service: the one named, or the one that is called as such; raises NotFoundError."""
    known = {**stack.disabled_services, **stack.services}
    if not name:
        for usual in USUAL:
            if usual in known:
                return usual
        raise NotFoundError(
            f"stack {stack.name} has no service called test; which one runs the tests?",
            hint=f"stackctl test SERVICE; it has: {', '.join(sorted(known))}",
        )
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(sorted(known))}"
        raise NotFoundError(f"stack {stack.name} has no service {name}", hint=hint)
    return name


def run(session: Session, trial: Trial) -> int:
    """Run the tests in a copy of the stack that is gone afterwards; return their exit code."""
    session = copies.copy_session(session, new=True)
    session.note(f"testing in the copy {session.project()}")
    stack = session.stack((trial.service,), also_inactive=True)
    engine = session.engine()
    if engine.offers(FEATURE):
        session.lease = Owner(pid=os.getpid(), ours=True)
    watch = _Readiness(stack)
    session.on_event = watch.tell
    code: int | None = None
    failure: BaseException | None = None
    try:
        code = _up_and_run(session, stack, trial, watch)
    except BaseException as error:
        failure = error
        if isinstance(error, StackctlError) and not isinstance(error, InterruptedByUserError):
            # The copy is about to go, so what another command could show of it is no help.
            error.hint = (
                f"{trial.artifacts} has what every service said"
                if trial.artifacts
                else "--artifacts FOLDER saves what every service said"
            )
        raise
    finally:
        try:
            _report(session, trial, watch, code, failure)
        finally:
            _down(session)
    return code


def needs(stack: Stack, service: str) -> tuple[str, ...]:
    """Return what runs beside the tests: what their service depends on; the whole stack where it does not say."""
    named = [name for name in stack.services[service].depends_on if name in stack.services]
    if named:
        return tuple(named)
    return tuple(name for name in stack.services if name != service)


def _up_and_run(session: Session, stack: Stack, trial: Trial, watch: "_Readiness") -> int:
    service = trial.service
    select(stack, (service,))
    session.tie(stack)
    beside = needs(stack, service)
    every = UpRequest(services=(service, *beside), build=trial.build, pull=trial.pull)
    built = copies.build_once(session, stack, every).build
    request = UpRequest(
        services=beside,
        wait=True,
        wait_timeout=trial.wait_timeout,
        build=built,
        pull=trial.pull,
    )
    with session.lock(stack.name):
        if beside:
            session.apply(session.plan_up(stack, request), stack)
        own = UpRequest(services=(service,), no_deps=True, build=built, pull=trial.pull)
        session.prepare_one_off(stack, own)
        identity = session.create_one_off(
            stack,
            OneOff(
                service=service,
                command=trial.command or None,
                env=trial.env,
                name=f"{stack.name}-{service}-run-{secrets.token_hex(6)}",
                stdin=False,
            ),
        )
    watch.begin_tests()
    try:
        return _join(session.engine(), identity)
    finally:
        watch.end_tests()


def _join(engine: Engine, identity: str) -> int:
    connection = engine.attach(identity, stdin=False, terminal=False)
    interact.join(
        connection,
        tty=False,
        stdin=False,
        resize=lambda _rows, _columns: None,
        started=lambda: engine.start_container(identity),
    )
    return engine.wait_container(identity)


def _down(session: Session) -> None:
    session.on_event = None
    with session.lock(session.project()):
        for one in session.containers((), every=True, one_off=True):
            if one.labels.get("com.docker.compose.oneoff") == "True":
                with contextlib.suppress(StackctlError):
                    session.engine().remove_container(one.id, force=True, volumes=True)
        session.apply(session.plan_down(DownRequest(volumes=True, remove_orphans=True)), None)


# What explains a failure


def _report(
    session: Session,
    trial: Trial,
    watch: "_Readiness",
    code: int | None,
    failure: BaseException | None,
) -> None:
    """Write what was asked for; that it cannot be written never hides the failure itself."""
    try:
        if trial.artifacts and code != 0:
            saved = _save(session, Path(trial.artifacts))
            session.note(f"saved what {saved} containers said and were to {trial.artifacts}")
        if trial.junit:
            suite = session.copy_of
            cases = watch.cases(trial.service, code, failure)
            _write(Path(trial.junit), junit.document(suite, cases).encode())
    except StackctlError as error:
        if failure is None:
            raise
        session.warn(error.message)


def _save(session: Session, folder: Path) -> int:
    """Save log, inspection and health probes of every container; return how many there were."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"--artifacts: cannot make {folder}: {error.strerror}", errno=error.errno or 0
        ) from error
    engine = session.engine()
    found = session.containers((), every=True, one_off=True)
    for one in found:
        name = _file_name(one)
        about = engine.inspect_container(one.id)
        _write(folder / f"{name}.log", _log(engine, one.id, _is_tty(about)))
        _write(folder / f"{name}.inspect.json", json.dumps(about, indent=2).encode() + b"\n")
        state = about.get("State")
        health = state.get("Health") if isinstance(state, dict) else None
        if health:
            _write(folder / f"{name}.health.json", json.dumps(health, indent=2).encode() + b"\n")
    return len(found)


def _file_name(one: Listed) -> str:
    if one.labels.get("com.docker.compose.oneoff") == "True":
        return f"{one.service}-run"
    return f"{one.service}-{one.number}"


def _log(engine: Engine, identity: str, terminal: bool) -> bytes:
    pieces: list[bytes] = []
    with contextlib.suppress(StackctlError, OSError):
        for _stream, piece in engine.logs(identity, timestamps=True, terminal=terminal):
            pieces.append(piece)
    return b"".join(pieces)


def _is_tty(about: JsonObject) -> bool:
    config = about.get("Config")
    return isinstance(config, dict) and config.get("Tty") is True


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", errno=error.errno or 0) from error


class _Readiness:
    """Listens to the plan being carried out: when each service began, and when it was ready or why not."""

    def __init__(self, stack: Stack) -> None:
        self._suite = stack
        self._began: dict[str, float] = {}
        self._ready: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self._tests_began = 0.0
        self._tests_ended = 0.0

    def tell(self, event: ProgressEvent) -> None:
        action, service = event.operation.action, event.operation.action.service
        if not service:
            return
        if event.step is Step.FAILED:
            self._failed.setdefault(service, event.text or event.operation.id)
        elif isinstance(action, StartContainer) and event.step is Step.STARTED:
            self._began.setdefault(service, event.at)
        elif event.step is Step.DONE and isinstance(action, StartContainer | WaitContainers):
            self._ready[service] = event.at

    def begin_tests(self) -> None:
        self._tests_began = time.monotonic()

    def end_tests(self) -> None:
        self._tests_ended = time.monotonic()

    def cases(
        self, tests: str, code: int | None, failure: BaseException | None
    ) -> list[junit.Case]:
        """Return a case for each service that was to be ready, and one for the tests."""
        services = [name for name in needs(self._suite, tests) if name != tests]
        touched = dict.fromkeys((*services, *self._began, *self._failed))
        found = [
            junit.Case(
                name=f"{name} is ready",
                group="services",
                seconds=self._ready.get(name, 0.0) - self._began.get(name, 0.0)
                if name in self._ready and name in self._began
                else 0.0,
                failure=self._failed.get(name, ""),
                skipped=name not in self._ready and name not in self._failed,
            )
            for name in touched
            if name != tests
        ]
        own = self._failed.get(tests, "")
        if not own and failure is not None:
            said = "interrupted" if isinstance(failure, _INTERRUPTS) else str(failure)
            own = "" if self._failed else said
        elif code:
            own = f"exited with code {code}"
        return [
            *found,
            junit.Case(
                name=tests,
                group="tests",
                seconds=self._tests_ended - self._tests_began,
                failure=own,
                skipped=code is None and not own,
            ),
        ]


_INTERRUPTS = (KeyboardInterrupt, InterruptedByUserError)
