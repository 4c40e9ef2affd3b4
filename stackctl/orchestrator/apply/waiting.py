"""Whether a service is as its dependents need it, and why not."""

from stackctl.errors import NotFoundError, StackctlError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.apply.probes import Probes
from stackctl.orchestrator.planning.graph import COMPLETED, HEALTHY
from stackctl.orchestrator.planning.plan import WaitContainers
from stackctl.values import JsonObject

_LOG_LINES = 10
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}  # fmt: skip


@frozen
class Look:
    """What a look at a wait found: ``said`` is what the probe that failed said, "" where it is for events to tell."""

    met: bool
    said: str = ""


MET = Look(met=True)
UNMET = Look(met=False)


def look(
    engine: Engine, action: WaitContainers, containers: dict[str, str], probes: Probes
) -> Look:
    """Tell whether the condition holds; raises StackctlError saying why where it cannot hold any more."""
    for name in action.containers:
        found = look_at(engine, action, containers.get(name, name), name, probes)
        if not found.met:
            return found
    return MET


def look_at(
    engine: Engine, action: WaitContainers, identity: str, name: str, probes: Probes
) -> Look:
    """Look at one container, called ``name``."""
    try:
        body = engine.inspect_container(identity)
    except NotFoundError as error:
        raise NotFoundError(f"service {action.service!r}: container {name} is gone") from error
    if not _one(engine, action, identity, name, body):
        return UNMET
    running = _part(body, "State").get("Status") == "running"
    if action.ready is None or action.condition == COMPLETED or not running:
        return MET
    said = probes.look(identity, body, action.ready)
    return Look(met=False, said=said) if said else MET


def timed_out(
    engine: Engine, action: WaitContainers, containers: dict[str, str], said: str
) -> StackctlError:
    """Return why a wait took too long, with what the last probe and the log say."""
    goal = {COMPLETED: "complete", HEALTHY: "healthy"}.get(action.condition, "ready")
    text = f"service {action.service!r} was not {goal} within {action.timeout:g} s"
    if said:
        text += f"\n  last probe: {said}"
    for name in action.containers:
        text += _about(engine, containers.get(name, name))
    return StackctlError(text, hint=f"stackctl logs {action.service}")


def _about(engine: Engine, identity: str) -> str:
    try:
        body = engine.inspect_container(identity)
    except StackctlError:
        return ""
    return _details(engine, identity, body)


def _one(
    engine: Engine, action: WaitContainers, identity: str, name: str, body: JsonObject
) -> bool:
    state = _part(body, "State")
    status = str(state.get("Status", ""))
    ended = status in ("exited", "dead")
    health = str(_part(state, "Health").get("Status", "")) if state.get("Health") else ""
    if ended:
        clean = state.get("ExitCode") == 0
        if clean and (action.condition == COMPLETED or action.exit_ok):
            return True
        if clean and action.condition not in (HEALTHY, COMPLETED) and not action.exit_ok:
            raise failure(engine, action.service, name, identity, body, "ended with exit code 0")
        raise failure(engine, action.service, name, identity, body, exit_reason(state))
    if action.condition == COMPLETED:
        return False
    if health in ("", "none"):
        if action.condition == HEALTHY and status == "running" and action.ready is None:
            raise StackctlError(
                f"service {action.service!r}: container {name} has no healthcheck, so it never gets healthy",
                hint="Give it a healthcheck or x-ready, or depend on service_started.",
            )
        return status == "running"
    if health == "unhealthy":
        raise failure(engine, action.service, name, identity, body, "is unhealthy")
    return health == "healthy" and status == "running"


def exit_reason(state: JsonObject) -> str:
    """Return how a container ended, in words."""
    code = state.get("ExitCode")
    if state.get("OOMKilled"):
        return "was killed: it ran out of memory"
    text = f"ended with exit code {code}"
    if isinstance(code, int) and code > 128 and code - 128 in _SIGNALS:
        return f"{text} ({_SIGNALS[code - 128]})"
    meaning = {126: "the command cannot be executed", 127: "the command was not found"}
    return f"{text} ({meaning[code]})" if isinstance(code, int) and code in meaning else text


def failure(
    engine: Engine,
    service: str,
    name: str,
    identity: str,
    body: JsonObject,
    reason: str,
) -> StackctlError:
    """Return why a container is not as it should be, with what its last probe and its log say."""
    text = f"service {service!r}: container {name} {reason}"
    text += _details(engine, identity, body)
    return StackctlError(text, hint=f"stackctl logs {service}")


def _details(engine: Engine, identity: str, body: JsonObject) -> str:
    text = ""
    state = _part(body, "State")
    if state.get("Error"):
        text += f"\n  error: {state['Error']}"
    probes = _part(state, "Health").get("Log")
    if isinstance(probes, list) and probes and isinstance(probes[-1], dict):
        last = probes[-1]
        said = str(last.get("Output", "")).strip()
        text += f"\n  last probe (exit code {last.get('ExitCode')}): {said}"
    lines = log_tail(engine, identity, terminal=bool(_part(body, "Config").get("Tty")))
    if lines:
        text += "\n  last log lines:" + "".join(f"\n    {line}" for line in lines)
    return text


def log_tail(engine: Engine, container: str, *, terminal: bool) -> list[str]:
    """Return a container's last log lines; none when the engine cannot give them."""
    try:
        stream = engine.logs(container, tail=str(_LOG_LINES), terminal=terminal)
        data = b"".join(part for _, part in stream)
    except StackctlError:
        return []
    return data.decode(errors="replace").splitlines()[-_LOG_LINES:]


def _part(body: JsonObject, name: str) -> JsonObject:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
