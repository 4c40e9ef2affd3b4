"""A plan without what has to wait."""

from stackctl.orchestrator.model.develop import Hook
from stackctl.orchestrator.planning.partial import without
from stackctl.orchestrator.planning.plan import (
    Cause,
    CreateContainer,
    Operation,
    Plan,
    RunHook,
    StartContainer,
)


def operation(action, *after: str) -> Operation:
    key = f"{action.verb} {action.name}"
    return Operation(id=key, action=action, cause=Cause(reason="test"), after=after)


def start(name: str, *after: str, identity: str = "") -> Operation:
    return operation(StartContainer(name=name, service=name, id=identity), *after)


def test_what_comes_after_a_service_that_waits_goes_with_it():
    create = operation(
        CreateContainer(name="db", service="db", number=1, created_as="db", image="x")
    )
    plan = Plan(
        stack="s",
        operations=(
            create,
            start("db", create.id),
            start("web", "start db"),
            start("cache"),
        ),
    )
    assert [item.id for item in without(plan, {"db"})] == ["start cache"]
    assert [item.id for item in without(plan, {"web"})] == ["create db", "start db", "start cache"]


def test_what_waited_for_a_job_that_is_done_waits_no_more():
    hook = RunHook(name="job", service="job", point="post_start", hook=Hook(command=("x",)))
    plan = Plan(
        stack="s",
        operations=(
            start("job", identity="c1"),
            operation(hook, "start job"),
            start("web", "run hook job", "start cache"),
            start("cache"),
        ),
    )
    kept = without(plan, done={"c1"})
    assert [(item.id, item.after) for item in kept] == [
        ("start web", ("start cache",)),
        ("start cache", ()),
    ]
