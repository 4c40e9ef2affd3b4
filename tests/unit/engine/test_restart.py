import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.contracts.container import RestartPolicy
from stackctl.engine import restart
from stackctl.errors import InvalidInputError

NAMES = st.sampled_from(["", "no", "always", "unless-stopped", "on-failure"])


def decide(name: str, **facts: float) -> restart.Decision:
    defaults = {
        "exit_code": 1, "manually_stopped": False, "restart_count": 0, "ran_for": 0.0, "last_delay": 0.0,
    }  # fmt: skip
    most = int(facts.pop("most", 0))
    policy = RestartPolicy(name=name, maximum_retry_count=most)
    return restart.after_exit(policy, **{**defaults, **facts})  # type: ignore[arg-type]


@given(NAMES, st.integers(0, 255))
def test_what_was_stopped_by_hand_stays_stopped(name: str, code: int) -> None:
    assert not decide(name, exit_code=code, manually_stopped=True).restart


@given(st.floats(0, 9.9), st.integers(1, 30))
def test_the_delay_doubles_up_to_a_minute(ran_for: float, times: int) -> None:
    delay = 0.0
    for turn in range(times):
        delay = decide("always", ran_for=ran_for, last_delay=delay).delay
        assert delay == min(0.1 * 2**turn, 60.0)


def test_ten_seconds_of_running_begin_the_backoff_anew() -> None:
    assert decide("always", ran_for=10.0, last_delay=30.0).delay == 0.1


def test_on_failure_counts_and_ignores_success() -> None:
    assert not decide("on-failure", exit_code=0).restart
    assert decide("on-failure", restart_count=1, most=2).restart
    assert not decide("on-failure", restart_count=2, most=2).restart
    assert decide("on-failure", restart_count=10_000).restart


@pytest.mark.parametrize(
    ("name", "manually", "wanted"),
    [
        ("always", True, True),
        ("always", False, True),
        ("unless-stopped", True, False),
        ("unless-stopped", False, True),
        ("no", False, False),
        ("", False, False),
    ],
)
def test_a_daemon_s_start_tells_always_from_unless_stopped(
    name: str, manually: bool, wanted: bool
) -> None:
    policy = RestartPolicy(name=name)
    found = restart.after_daemon_start(
        policy, exit_code=0, manually_stopped=manually, restart_count=0
    )
    assert found is wanted


@pytest.mark.parametrize(
    ("policy", "auto_remove"),
    [
        (RestartPolicy(name="sometimes"), False),
        (RestartPolicy(name="on-failure", maximum_retry_count=-1), False),
        (RestartPolicy(name="always", maximum_retry_count=1), False),
        (RestartPolicy(name="always"), True),
    ],
)
def test_policies_that_docker_refuses_are_refused(policy: RestartPolicy, auto_remove: bool) -> None:
    with pytest.raises(InvalidInputError):
        restart.check(policy, auto_remove=auto_remove)
