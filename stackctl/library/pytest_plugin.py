"""The pytest plugin: stacks as fixtures, their logs in failing reports, their data new where asked for.

Loaded by every pytest of an environment that has stackctl, so it imports nothing but pytest; the library comes with the
first stack that a test asks for.

Settings (ini, each with its option): ``stackctl_file`` (--stack-file), ``stackctl_scope`` (--stack-scope: session,
module, class or function), ``stackctl_shared`` (--stack-shared: one stack for all workers of pytest-xdist instead of one
each), ``stackctl_reset`` (new data before each test), ``stackctl_profiles``, ``stackctl_engine`` (--stack-engine). The
marker ``stack`` overrides them: ``@pytest.mark.stack("stack.yaml", scope="module", reset=True)`` or ``yaml="…"``.
"""

import time
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from stackctl.library.stack import Stack

_SCOPES: dict[str, type[pytest.Collector | pytest.Item]] = {
    "session": pytest.Session,
    "module": pytest.Module,
    "class": pytest.Class,
    "function": pytest.Item,
}
_MARK_OPTIONS = frozenset(
    {"yaml", "scope", "reset", "profiles", "environment", "services", "wait_timeout"}
)
_TAIL = 200
_TAIL_BEFORE = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stackctl", "stacks of containers (stackctl)")
    group.addoption("--stack-file", metavar="FILE", help="the stack file of the stack fixture")
    group.addoption(
        "--stack-scope", choices=[*_SCOPES], help="how long a stack lives (default: session)"
    )
    group.addoption(
        "--stack-shared",
        action="store_true",
        help="one stack for all workers of pytest-xdist, not one for each",
    )
    group.addoption("--stack-engine", metavar="ENGINE", help="as stackctl --engine")
    parser.addini("stackctl_file", "stack file, relative to the ini file; found when not given")
    parser.addini("stackctl_scope", "how long a stack lives", default="session")
    parser.addini("stackctl_shared", "one stack for all xdist workers", type="bool", default=False)
    parser.addini("stackctl_reset", "new data before each test", type="bool", default=False)
    parser.addini("stackctl_profiles", "profiles to switch on", type="args", default=[])
    parser.addini("stackctl_engine", "as stackctl --engine", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "stack(file, *, yaml, scope, reset, profiles, environment, services, wait_timeout): "
        "what the stack fixture brings up",
    )
    scope = config.getoption("--stack-scope") or config.getini("stackctl_scope")
    if scope not in _SCOPES:
        raise pytest.UsageError(f'stackctl_scope: "{scope}" is not one of {", ".join(_SCOPES)}')
    config.stash[_STACKS] = _Stacks(config)


@pytest.fixture
def stack(request: pytest.FixtureRequest) -> "Stack":
    """Return the stack of the marker or the settings, up and ready; it lives as long as its scope says."""
    return _of(request).get(request.node, _wanted(request.node))


@pytest.fixture(scope="module")
def module_stack(request: pytest.FixtureRequest) -> "Stack":
    """Return a stack that lives as long as the module, for fixtures of that scope."""
    return _of(request).get(request.node, _wanted(request.node, scope="module"))


@pytest.fixture(scope="session")
def session_stack(request: pytest.FixtureRequest) -> "Stack":
    """Return a stack of the settings that lives as long as the session, for fixtures of that scope."""
    return _of(request).get(request.node, _wanted(request.node, scope="session"))


@pytest.fixture(scope="session")
def stack_factory(request: pytest.FixtureRequest) -> "Callable[..., Stack]":
    """Return what brings up further stacks, with the arguments of ``stackctl.Stack``; they go with the session."""

    def make(*arguments: Any, **options: Any) -> "Stack":  # noqa: ANN401 - Stack's own
        from stackctl.errors import StackctlError
        from stackctl.library.stack import Stack

        try:
            made = Stack(*arguments, **options)
            request.session.addfinalizer(made.down)
            return made.up()
        except StackctlError as error:
            _fail(error)

    return make


class _Wanted:
    """What a test asks for: how its stack is made, how long it lives, whether its data is new."""

    def __init__(
        self, *, options: Mapping[str, Any], services: tuple[str, ...], scope: str, reset: bool
    ) -> None:
        self.options = options
        self.services = services
        self.scope = scope
        self.reset = reset
        self.key = repr((sorted(options.items(), key=str), services))


class _Kept:
    """A stack that is up, or why it is not."""

    def __init__(self, made: "Stack") -> None:
        self.stack = made
        self.error: BaseException | None = None
        self.used = False


class _Stacks:
    """The stacks of one pytest process."""

    def __init__(self, config: pytest.Config) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}
        self.shared: dict[str, str] = {}
        self._engine = str(
            config.getoption("--stack-engine") or config.getini("stackctl_engine") or ""
        )
        worker = getattr(config, "workerinput", None)
        self._run = worker.get("stackctl_run", "") if worker is not None else ""
        self._share = bool(config.getoption("--stack-shared") or config.getini("stackctl_shared"))

    def get(self, node: "pytest.Item | pytest.Collector", wanted: _Wanted) -> "Stack":
        from stackctl.errors import StackctlError

        owner = _owner(node, wanted.scope)
        key = (owner.nodeid if wanted.scope != "session" else "", wanted.key)
        try:
            kept = self._kept.get(key)
            if kept is None:
                kept = self._make(owner, key, wanted)
            _note(node, kept.stack)
            if kept.error is not None:
                raise kept.error
            if not kept.used:
                try:
                    kept.stack.up(*wanted.services)
                except StackctlError as error:
                    kept.error = error
                    raise
            elif wanted.reset:
                kept.stack.reset()
            kept.used = True
        except StackctlError as error:
            _fail(error)
        return kept.stack

    def _make(
        self, owner: "pytest.Item | pytest.Collector", key: tuple[str, str], wanted: _Wanted
    ) -> _Kept:
        from stackctl.library.stack import Stack

        options = {"engine": self._engine, **wanted.options}
        made = Stack(**options)
        if self._share and self._run and wanted.scope == "session":
            if wanted.reset:
                pytest.fail(
                    "a stack that xdist's workers share cannot get new data for one test\n"
                    "hint: leave reset out, or --stack-shared",
                    pytrace=False,
                )
            made = self._shared_one(made.original, options, wanted)
            self._kept[key] = kept = _Kept(made)
            return kept
        self._kept[key] = kept = _Kept(made)

        def down() -> None:
            del self._kept[key]
            made.down()

        # Before it comes up: one that fails half way goes as well.
        owner.addfinalizer(down)
        return kept

    def _shared_one(self, original: str, options: Mapping[str, Any], wanted: _Wanted) -> "Stack":
        """Return the stack that every worker of this run makes, or finds made; the controller removes it."""
        import hashlib
        import os

        from stackctl.library.stack import Stack

        digest = hashlib.sha256(wanted.key.encode()).hexdigest()[:6]
        name = f"{original}-{self._run[:8]}{digest}"
        self.shared[name] = str(options.get("engine", ""))
        # A worker's parent is the controller, which outlives it.
        return Stack(**{**options, "project": name, "lease": os.getppid()})


_STACKS = pytest.StashKey[_Stacks]()
_USED = pytest.StashKey[list["Stack"]]()
_BEGAN = pytest.StashKey[float]()
_SHARED = pytest.StashKey[dict[str, str]]()


def _of(request: pytest.FixtureRequest) -> _Stacks:
    return request.config.stash[_STACKS]


def _owner(node: "pytest.Item | pytest.Collector", scope: str) -> "pytest.Item | pytest.Collector":
    """Return the node with which a stack goes; a function outside of a class has the module's."""
    if scope == "session":
        return node.session
    found = node.getparent(_SCOPES[scope])
    if found is None and scope == "class":
        found = node.getparent(pytest.Module)
    return found if found is not None else node


def _note(node: "pytest.Item | pytest.Collector", made: "Stack") -> None:
    used = node.stash.setdefault(_USED, [])
    if made not in used:
        used.append(made)


def _wanted(node: "pytest.Item | pytest.Collector", scope: str = "") -> _Wanted:
    config = node.config
    mark = node.get_closest_marker("stack")
    given: dict[str, Any] = dict(mark.kwargs) if mark is not None else {}
    files = mark.args if mark is not None else ()
    unknown = sorted(set(given) - _MARK_OPTIONS)
    if unknown or len(files) > 1:
        what = f"has no {unknown[0]}" if unknown else "takes one file"
        pytest.fail(
            f"{node.nodeid}: the marker stack {what}\nhint: {', '.join(sorted(_MARK_OPTIONS))}",
            pytrace=False,
        )
    chosen = (
        scope
        or given.pop("scope", "")
        or config.getoption("--stack-scope")
        or config.getini("stackctl_scope")
    )
    given.pop("scope", None)
    if chosen not in _SCOPES:
        pytest.fail(
            f'{node.nodeid}: stack(scope="{chosen}") is not one of {", ".join(_SCOPES)}',
            pytrace=False,
        )
    reset = bool(given.pop("reset", config.getini("stackctl_reset")))
    services = tuple(given.pop("services", ()))
    options: dict[str, Any] = {
        "profiles": tuple(given.pop("profiles", config.getini("stackctl_profiles"))),
        **given,
    }
    here = Path(node.path).parent if mark is not None else config.rootpath
    if options.get("yaml"):
        options["directory"] = here
    elif files:
        options["file"] = here / files[0]
    elif file := config.getoption("--stack-file"):
        options["file"] = config.invocation_params.dir / file
    elif file := config.getini("stackctl_file"):
        options["file"] = (config.inipath.parent if config.inipath else config.rootpath) / file
    else:
        options["directory"] = config.rootpath
    return _Wanted(options=options, services=services, scope=chosen, reset=reset)


def _fail(error: BaseException) -> NoReturn:
    """Fail the test with the message alone: the trace through stackctl explains nothing."""
    hint = getattr(error, "hint", "")
    pytest.fail(f"{error}{f'{chr(10)}hint: {hint}' if hint else ''}", pytrace=False)


# Logs in failing reports


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_BEGAN] = time.time()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and report.when in ("setup", "call"):
        for node in item.listchain():
            for made in node.stash.get(_USED, []):
                _attach(report, made, item.stash.get(_BEGAN, 0.0))
    return report


def _attach(report: pytest.TestReport, made: "Stack", began: float) -> None:
    from stackctl.errors import StackctlError

    try:
        now = made.logs(tail=_TAIL, since=began)
        before = made.logs(tail=_TAIL_BEFORE)
    except (StackctlError, OSError) as error:
        report.sections.append((f"logs of {made.name}", f"cannot be read: {error}"))
        return
    for name, text in now.items():
        title = f"log of {name}" if text else f"log of {name} (before this test)"
        report.sections.append((title, text or before.get(name, "") or "(it said nothing)"))


# pytest-xdist: a stack that the workers share is the controller's to remove


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist's
    run = node.config.stash.setdefault(_RUN, uuid.uuid4().hex)
    node.workerinput["stackctl_run"] = run


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - xdist's
    told = getattr(node, "workeroutput", None) or {}
    node.config.stash.setdefault(_SHARED, {}).update(told.get("stackctl_shared", {}))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["stackctl_shared"] = session.config.stash[_STACKS].shared
        return
    for name, engine in session.config.stash.get(_SHARED, {}).items():
        from stackctl.library.stack import remove

        remove(name, engine=engine)


_RUN = pytest.StashKey[str]()
