"""The container state machine: which step leads from which state to which; pure.

The states are those of the Docker Engine API; the texts of refusals are Docker's.
"""

import enum
from collections.abc import Mapping

from stackctl.contracts.container import ContainerRecord, Status
from stackctl.errors import ConflictError, NotModifiedError


class Step(enum.Enum):
    """What can happen to a container."""

    START = "start"
    EXIT = "exit"
    AWAIT_RESTART = "await restart"
    GIVE_UP = "give up restarting"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    REMOVE = "remove"
    FAIL_REMOVE = "fail to remove"


_TABLE: Mapping[Step, Mapping[Status, Status]] = {
    Step.START: {
        Status.CREATED: Status.RUNNING,
        Status.EXITED: Status.RUNNING,
        Status.RESTARTING: Status.RUNNING,
    },
    Step.EXIT: {
        Status.RUNNING: Status.EXITED,
        Status.PAUSED: Status.EXITED,
        Status.RESTARTING: Status.EXITED,
    },
    Step.AWAIT_RESTART: {
        Status.RUNNING: Status.RESTARTING,
        Status.PAUSED: Status.RESTARTING,
        Status.EXITED: Status.RESTARTING,
        Status.RESTARTING: Status.RESTARTING,
    },
    Step.GIVE_UP: {Status.RESTARTING: Status.EXITED},
    Step.PAUSE: {Status.RUNNING: Status.PAUSED},
    Step.UNPAUSE: {Status.PAUSED: Status.RUNNING},
    Step.REMOVE: {
        Status.CREATED: Status.REMOVING,
        Status.EXITED: Status.REMOVING,
        Status.DEAD: Status.REMOVING,
        Status.REMOVING: Status.REMOVING,
    },
    Step.FAIL_REMOVE: {Status.REMOVING: Status.DEAD},
}

LIVE = frozenset({Status.RUNNING, Status.PAUSED})
"""The states in which there are processes."""

BUSY = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
"""The states that Docker counts as running (State.Running)."""


def allowed(status: Status, step: Step) -> bool:
    """Tell whether the step may be taken from the state."""
    return status in _TABLE[step]


def following(record: ContainerRecord, step: Step) -> Status:
    """Return the state after the step; raises ConflictError or NotModifiedError with Docker's texts."""
    after = _TABLE[step].get(record.status)
    if after is None:
        raise refusal(record, step)
    return after


def refusal(record: ContainerRecord, step: Step) -> ConflictError | NotModifiedError:
    """Return the error that says why the step is impossible now."""
    status, name = record.status, record.id
    match step:
        case Step.START if status is Status.RUNNING:
            return NotModifiedError(f"Container {name} is already running")
        case Step.START if status is Status.PAUSED:
            return ConflictError("cannot start a paused container, try unpause instead")
        case Step.START:
            return ConflictError("container is marked for removal and cannot be started")
        case Step.PAUSE if status is Status.PAUSED:
            return ConflictError(f"Container {name} is already paused")
        case Step.PAUSE if status is Status.RESTARTING:
            return ConflictError(
                f"Container {name} is restarting, wait until the container is running"
            )
        case Step.UNPAUSE:
            return ConflictError(f"Container {name} is not paused")
        case Step.REMOVE if status in BUSY:
            return still_up(record)
    return ConflictError(f"container {name} is not running")


def still_up(record: ContainerRecord) -> ConflictError:
    """Return the error of removing a container that is up."""
    how = "unpause and then stop" if record.status is Status.PAUSED else "stop"
    return ConflictError(
        f'cannot remove container "{record.name}": container is {record.status.value}: '
        f"{how} the container before removing or force remove"
    )


def require_running(record: ContainerRecord) -> None:
    """Raise ConflictError unless the container's processes can be acted on."""
    if record.status is Status.PAUSED:
        raise ConflictError(f"Container {record.name} is paused, unpause the container before exec")
    if record.status is Status.RESTARTING:
        raise ConflictError(
            f"Container {record.id} is restarting, wait until the container is running"
        )
    if record.status is not Status.RUNNING:
        raise ConflictError(f"container {record.id} is not running")
