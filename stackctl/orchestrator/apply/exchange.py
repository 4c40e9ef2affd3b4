"""Exchanging replicas one after another: each step has its undo, until the new container is ready.

``update`` is one operation of a plan. What one service's operations have done is kept in ``Run.updates``, so that a
failure can take all of them back.
"""

import contextlib
import threading
import time
from collections.abc import Callable

from stackctl.errors import InterruptedByUserError, StackctlError
from stackctl.orchestrator.apply import hooks
from stackctl.orchestrator.apply.operations import create_container
from stackctl.orchestrator.apply.run import Exchanged, Run, ServiceUpdate, Tell
from stackctl.orchestrator.apply.waiting import failure, look_at, timed_out
from stackctl.orchestrator.model.deploy import UpdateConfig
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.planning.graph import READY
from stackctl.orchestrator.planning.plan import UpdateContainer, WaitContainers
from stackctl.orchestrator.planning.updates import START_FIRST

_LOOK_AGAIN = 0.25
_GRACE = 10.0


def update(run: Run, action: UpdateContainer, tell: Tell) -> None:
    """Exchange one replica; a failure leaves the former one serving, and is a warning where it is tolerated."""
    state = run.updates[action.service]
    if action.delay:
        _say(tell, f"waiting {action.delay:g} s")
        _rest(run, action.delay)
    try:
        exchanged = _exchange(run, action, tell)
    except StackctlError as error:
        with run.lock:
            state.failed[action.name] = error
            state.kept.append(action.name)
        run.kept.add(action.replaces)
        run.containers[action.name] = action.replaces
        if isinstance(error, InterruptedByUserError):
            raise
        if state.has_failed and action.failure_action != "continue":
            state.halted = True
            raise
        tell({"warning": f"{error.message}\n  {action.name} keeps its former container"})
        return
    with run.lock:
        state.done.append(exchanged)
    if action.order == START_FIRST:
        _say(tell, "the former one finishes its connections")
        _let_go(run, run.service(action.service), exchanged.old, action.timeout)


def _exchange(run: Run, action: UpdateContainer, tell: Tell) -> Exchanged:
    engine, service, old = run.engine, run.service(action.service), action.replaces
    with contextlib.ExitStack() as undo:
        create_container(run, action, tell)
        new = run.containers[action.name]
        _push(undo, lambda: engine.remove_container(new, force=True, volumes=not action.inherited))
        for hook in service.pre_start:
            if hook.per_replica or action.prepares:
                _say(tell, "running its pre_start hooks")
                hooks.run_before(engine, run.wanted(), service, new, hook)
        if action.order == START_FIRST:
            engine.start_aside(new)
        else:
            _stop(run, service, old, action.timeout)
            _push(undo, lambda: engine.start_container(old))
            engine.start_container(new)
        for hook in service.post_start:
            hooks.run_inside(engine, new, service=service.name, point="post_start", hook=hook)
        _say(tell, "waiting until the new one is ready")
        _await_ready(run, service, action.name, new)
        if action.strategy.monitor:
            _say(tell, f"watching the new one for {action.strategy.monitor:g} s")
            _watch(run, service, action.name, new, action.strategy.monitor)
        if action.order == START_FIRST:
            engine.relieve_container(new, old)
            _push(undo, lambda: engine.relieve_container(old, new))
        if action.former == action.name:
            engine.rename_container(old, f"{new[:12]}_{action.name}")
            _push(undo, lambda: engine.rename_container(old, action.former))
        engine.rename_container(new, action.name)
        undo.pop_all()
    return Exchanged(action=action, new=new, old=old)


def _push(undo: contextlib.ExitStack, step: Callable[[], None]) -> None:
    """Push an undo that must not hide why there is something to undo."""

    def quietly() -> None:
        with contextlib.suppress(StackctlError):
            step()

    undo.callback(quietly)


def _stop(run: Run, service: Service, identity: str, timeout: float | None) -> None:
    for hook in service.pre_stop:
        hooks.run_inside(run.engine, identity, service=service.name, point="pre_stop", hook=hook)
    run.engine.stop_container(identity, timeout=timeout)


def _let_go(run: Run, service: Service, identity: str, timeout: float | None) -> None:
    """Stop a container that was relieved, when those who are connected to it have finished or its grace is over."""
    grace = timeout if timeout is not None else service.stop_grace_period
    run.engine.drain_container(identity, timeout=_GRACE if grace is None else grace)
    _stop(run, service, identity, timeout)


def _await_ready(run: Run, service: Service, name: str, identity: str) -> None:
    """Wait until a container is healthy where it has a healthcheck, and its probes succeed; raises why it is not."""
    limit = service.ready.timeout if service.ready else 0.0
    wait = _wait(service, name, limit)
    end = time.monotonic() + limit if limit else None
    while True:
        _check_interrupted(run)
        _check_restarts(run, service, name, identity)
        found = look_at(run.engine, wait, identity, name, run.probes)
        if found.met:
            return
        if end is not None and time.monotonic() >= end:
            raise timed_out(run.engine, wait, {name: identity}, found.said)
        run.await_news(service.ready.interval if found.said and service.ready else _LOOK_AGAIN)


def _watch(run: Run, service: Service, name: str, identity: str, seconds: float) -> None:
    """See that a container stays as it should be for a while."""
    wait = _wait(service, name, 0.0)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        run.await_news(min(left, _LOOK_AGAIN))
        _check_interrupted(run)
        _check_restarts(run, service, name, identity)
        look_at(run.engine, wait, identity, name, run.probes)


def _wait(service: Service, name: str, limit: float) -> WaitContainers:
    return WaitContainers(
        name=service.name,
        service=service.name,
        containers=(name,),
        condition=READY,
        ready=service.ready,
        timeout=limit,
    )


def _check_interrupted(run: Run) -> None:
    if run.stopping.is_set():
        raise InterruptedByUserError("interrupted")


def _check_restarts(run: Run, service: Service, name: str, identity: str) -> None:
    """Raise why, where a restart policy has had to start it again: it would hide that the container fails."""
    body = run.engine.inspect_container(identity)
    count = body.get("RestartCount")
    if isinstance(count, int) and count > 0:
        reason = (
            f"ended and was restarted {count} times" if count > 1 else "ended and was restarted"
        )
        raise failure(run.engine, service.name, name, identity, body, reason)


def _rest(run: Run, seconds: float) -> None:
    if run.stopping.wait(seconds):
        raise InterruptedByUserError("interrupted")


def _say(tell: Tell, text: str) -> None:
    tell({"status": text})


# What a failure leads to


def settle(run: Run, name: str) -> str:
    """Do what a service's failure_action says after a failure, and return what became of its replicas.

    Called when nothing of the plan is under way any more.
    """
    state = run.updates[name]
    texts: list[str] = []
    back: list[str] = []
    action = state.done[0].action if state.done else None
    if state.halted and action is not None and action.failure_action == "rollback":
        back, texts = _roll_back(run, state)
    forward = [item for item in state.done if item.action.name not in back]
    for item in forward:
        with contextlib.suppress(StackctlError):
            run.engine.remove_container(item.old, force=True)
    parts = {
        "rolled back to the former definition": back,
        "updated": [item.action.name for item in forward],
        "left as it was": state.kept,
    }
    said = [f"{what}: {', '.join(sorted(names))}" for what, names in parts.items() if names]
    return "\n".join(f"  {line}" for line in (*said, *texts))


def _roll_back(run: Run, state: ServiceUpdate) -> tuple[list[str], list[str]]:
    """Give replicas back to their former containers, last one first; return which, and what went wrong."""
    service = run.service(state.done[0].action.service)
    given = service.deploy.rollback_config if service.deploy else None
    config = given or UpdateConfig()
    left = list(reversed(state.done))
    size = 1 if config.parallelism is None else config.parallelism or len(left)
    back: list[str] = []
    texts: list[str] = []
    while left:
        group, left = left[:size], left[size:]
        threads = [
            threading.Thread(target=_go_back, args=(run, service, item, config, back, texts))
            for item in group
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if texts and config.failure_action != "continue":
            break
        if left and config.delay:
            run.stopping.wait(config.delay)
    return back, texts


def _go_back(
    run: Run,
    service: Service,
    item: Exchanged,
    config: UpdateConfig,
    back: list[str],
    texts: list[str],
) -> None:
    engine, action = run.engine, item.action
    overlaps = action.order == START_FIRST and config.order in ("", START_FIRST)
    try:
        if overlaps:
            engine.start_aside(item.old)
            _await_former(run, service, item)
            engine.relieve_container(item.old, item.new)
        else:
            engine.stop_container(item.new, timeout=action.timeout)
            engine.start_container(item.old)
            _await_former(run, service, item)
        engine.rename_container(item.new, action.created_as)
        engine.rename_container(item.old, action.name)
        if overlaps:
            _let_go(run, service, item.new, action.timeout)
        engine.remove_container(item.new, force=True, volumes=not action.inherited)
    except StackctlError as error:
        texts.append(f"{action.name} could not be rolled back: {error.message}")
        return
    back.append(action.name)


def _await_former(run: Run, service: Service, item: Exchanged) -> None:
    run_on = run.stopping.is_set()
    if run_on:
        return  # the user is in a hurry
    _await_ready(run, service, item.action.name, item.old)
    if (
        monitor := (service.deploy.rollback_config or UpdateConfig()).monitor
        if service.deploy
        else 0
    ):
        _watch(run, service, item.action.name, item.old, monitor)
