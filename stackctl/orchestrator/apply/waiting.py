"""Whether a service is as its dependents need it, and why not."""

from stackctl.errors import NotFoundError, StackctlError
from stackctl.orchestrator.apply.contract import Engine
from stackctl.orchestrator.planning.graph import COMPLETED, HEALTHY
from stackctl.orchestrator.planning.plan import WaitContainers
from stackctl.values import JsonObject

_LOG_LINES = 10
_SIGNALS = {1: "SIGHUP", 2: "SIGINT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}  # fmt: skip


def is_met(engine: Engine, action: WaitContainers, containers: dict[str, str]) -> bool:
    """Tell whether the condition holds; raises StackctlError saying why where it cannot hold any more."""
    return all(_one(engine, action, containers.get(name, name), name) for name in action.containers)


def _one(engine: Engine, action: WaitContainers, identity: str, name: str) -> bool:
    try:
        body = engine.inspect_container(identity)
    except NotFoundError as error:
        raise NotFoundError(f"service {action.service!r}: container {name} is gone") from error
    state = _part(body, "State")
    status = str(state.get("Status", ""))
    ended = status in ("exited", "dead")
    health = str(_part(state, "Health").get("Status", "")) if state.get("Health") else ""
    if ended:
        clean = state.get("ExitCode") == 0
        if clean and (action.condition == COMPLETED or action.exit_ok):
            return True
        if clean and action.condition not in (HEALTHY, COMPLETED) and not action.exit_ok:
            raise _failure(engine, action, name, identity, body, "ended with exit code 0")
        raise _failure(engine, action, name, identity, body, exit_reason(state))
    if action.condition == COMPLETED:
        return False
    if health in ("", "none"):
        if action.condition == HEALTHY and status == "running":
            raise StackctlError(
                f"service {action.service!r}: container {name} has no healthcheck, so it never gets healthy",
                hint="Give it a healthcheck, or depend on service_started.",
            )
        return status == "running"
    if health == "unhealthy":
        raise _failure(engine, action, name, identity, body, "is unhealthy")
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


def _failure(
    engine: Engine,
    action: WaitContainers,
    name: str,
    identity: str,
    body: JsonObject,
    reason: str,
) -> StackctlError:
    text = f"service {action.service!r}: container {name} {reason}"
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
    return StackctlError(text, hint=f"stackctl logs {action.service}")


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
