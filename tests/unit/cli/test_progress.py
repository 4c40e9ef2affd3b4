"""The live tree of operations."""

from stackctl.cli.render.progress import Active, tree
from stackctl.orchestrator.apply.progress import ProgressEvent, Step
from stackctl.orchestrator.planning.plan import Cause, CreateNetwork, Operation, PullImage


def operation(name: str, *after: str) -> Operation:
    action = CreateNetwork(name=name, key=name)
    return Operation(id=name, action=action, cause=Cause(reason="new"), after=after)


def active(name: str) -> Active:
    return Active(operation=operation(name), since=0.0)


def test_what_waits_stands_under_what_it_waits_for_with_its_other_reasons():
    pending = {
        item.id: item for item in (operation("start", "create", "db"), operation("wait", "start"))
    }
    lines = tree([active("create"), active("db")], pending, now=1.0, rows=20)
    assert [line.lstrip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ") for line in lines] == [
        "create  1.0s",
        "└ start  waits also for db",
        "└ wait",
        "db  1.0s",
    ]


def test_a_small_window_shows_what_is_under_way_first():
    pending = {f"w{n}": operation(f"w{n}", "a") for n in range(10)}
    lines = tree([active("a"), active("b")], pending, now=0.0, rows=4)
    assert len(lines) == 3
    assert lines[-1] == "  … 10 more"


def test_bytes_of_a_pull_are_summed_over_its_layers():
    pull = Operation(id="pull image x", action=PullImage(name="x"), cause=Cause(reason="missing"))
    one = Active(operation=pull, since=0.0)
    for part, current in (("l1", 500), ("l2", 1500), ("l1", 1000)):
        one.take(
            ProgressEvent(
                step=Step.PROGRESS, operation=pull, at=0.0, part=part, current=current, total=2000
            )
        )
    assert one.text(2.0) == "pull image x  2 layers 2.5kB/4kB  2.0s"
