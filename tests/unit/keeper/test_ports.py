import pytest

from stackctl.errors import ConflictError
from stackctl.keeper.loop import Loop
from stackctl.keeper.ports import Ports

# SCTP ports are reserved without a socket, so the rules show without a network.


def test_the_same_request_is_answered_as_before():
    ports = Ports(Loop())
    request = (80, "sctp", "", 0, 0)
    ((_, places),) = ports.reserve("c1", [request], ("10.0.0.2", ""))
    assert [host for host, _ in places] == ["0.0.0.0", "::"]
    assert ports.reserve("c1", [request], ("10.0.0.2", "")) == [(request, places)]
    one = (80, "sctp", "0.0.0.0", places[0][1], 0)
    assert ports.reserve("c1", [one], ("10.0.0.2", "")) == [(one, places[:1])]


def test_a_port_of_another_container_is_a_conflict_that_names_it():
    ports = Ports(Loop())
    ports.reserve("c1", [(80, "sctp", "", 7000, 0)], ("10.0.0.2", ""))
    with pytest.raises(
        ConflictError, match=r"0\.0\.0\.0:7000/sctp: address already in use"
    ) as raised:
        ports.reserve(
            "c2", [(81, "sctp", "", 7001, 0), (80, "sctp", "", 7000, 0)], ("10.0.0.3", "")
        )
    assert raised.value.hint == "c1"
    assert list(ports.held) == ["c1"], "all or nothing"


def test_a_range_takes_the_first_free_port_and_release_gives_back():
    ports = Ports(Loop())
    ports.reserve("c1", [(80, "sctp", "", 7000, 0)], ("10.0.0.2", ""))
    ((_, places),) = ports.reserve("c2", [(80, "sctp", "", 7000, 7002)], ("10.0.0.3", ""))
    assert places[0][1] == 7001
    for _ in range(2):
        ports.release("c1")
    ((_, places),) = ports.reserve("c3", [(80, "sctp", "", 7000, 0)], ("10.0.0.4", ""))
    assert places[0][1] == 7000
