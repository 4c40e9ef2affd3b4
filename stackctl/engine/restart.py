"""Restart policy and backoff; pure.

Docker's numbers: the first wait is 100 ms, each further one twice as long, at most a minute; a container that ran
for ten seconds begins anew.
"""

from stackctl.contracts.container import RestartPolicy
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
RESET_AFTER = 10.0
NAMES = ("", "no", "always", "unless-stopped", "on-failure")


@frozen
class Decision:
    """Whether to start again, and after how many seconds."""

    restart: bool
    delay: float = 0.0


def after_exit(
    policy: RestartPolicy,
    *,
    exit_code: int,
    manually_stopped: bool,
    restart_count: int,
    ran_for: float,
    last_delay: float,
) -> Decision:
    """Decide for a container that ended while the daemon watched; ``last_delay`` 0.0 when there was none."""
    if manually_stopped or not _wants(policy, exit_code, restart_count):
        return Decision(restart=False)
    if last_delay == 0.0 or ran_for >= RESET_AFTER:
        return Decision(restart=True, delay=FIRST_DELAY)
    return Decision(restart=True, delay=min(last_delay * 2, LONGEST_DELAY))


def after_daemon_start(
    policy: RestartPolicy, *, exit_code: int, manually_stopped: bool, restart_count: int
) -> bool:
    """Decide for a container that is found stopped when a daemon starts.

    Here "always" means always, also for one that was stopped by hand; that is what sets it apart from
    "unless-stopped".
    """
    if policy.name == "always":
        return True
    return not manually_stopped and _wants(policy, exit_code, restart_count)


def check(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raise InvalidInputError for a policy that Docker refuses."""
    if policy.name not in NAMES:
        raise InvalidInputError(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidInputError("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidInputError(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidInputError("can't create 'AutoRemove' container with restart policy")


def _wants(policy: RestartPolicy, exit_code: int, restart_count: int) -> bool:
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and exit_code != 0:
        most = policy.maximum_retry_count
        return most == 0 or restart_count < most
    return False
