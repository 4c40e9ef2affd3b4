from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.contracts.container import ContainerRecord, ContainerSpec, Status
from stackctl.engine import lifecycle
from stackctl.engine.lifecycle import Step
from stackctl.errors import ConflictError, NotModifiedError

RECORD = ContainerRecord(
    id="a" * 64,
    name="one",
    created=1.0,
    spec=ContainerSpec(image="x"),
    image_id="sha256:0",
    layers=(),
    path="true",
    args=(),
)


@given(st.lists(st.sampled_from(Step), max_size=30))
def test_every_walk_stays_in_the_table_and_refusals_change_nothing(steps: list[Step]) -> None:
    record = RECORD
    for step in steps:
        if lifecycle.allowed(record.status, step):
            record = replace(record, status=lifecycle.following(record, step))
        else:
            with pytest.raises((ConflictError, NotModifiedError)):
                lifecycle.following(record, step)
        assert record.status in Status


@pytest.mark.parametrize("status", sorted(lifecycle.BUSY, key=lambda item: item.value))
def test_what_is_up_is_never_removed(status: Status) -> None:
    with pytest.raises(ConflictError, match="before removing or force remove"):
        lifecycle.following(replace(RECORD, status=status), Step.REMOVE)


def test_starting_what_runs_is_not_modified_and_starting_what_is_paused_conflicts() -> None:
    with pytest.raises(NotModifiedError):
        lifecycle.following(replace(RECORD, status=Status.RUNNING), Step.START)
    with pytest.raises(ConflictError, match="unpause"):
        lifecycle.following(replace(RECORD, status=Status.PAUSED), Step.START)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status.PAUSED, "is paused, unpause the container before exec"),
        (Status.RESTARTING, "is restarting, wait until the container is running"),
        (Status.EXITED, "is not running"),
    ],
)
def test_exec_is_refused_in_docker_s_words(status: Status, text: str) -> None:
    with pytest.raises(ConflictError, match=text):
        lifecycle.require_running(replace(RECORD, status=status))
