"""The kernel is kept ready for moves between cgroups exactly as long as some are expected."""

import errno
import threading
import time
from pathlib import Path

from stackctl.adapters.runtime.cgroups import CgroupFacts, Cgroups
from stackctl.adapters.runtime.moves import Moves


class Counter:
    def __init__(self, failure: int = 0) -> None:
        self.written = 0
        self.enough = threading.Event()
        self.failure = failure

    def __call__(self) -> None:
        self.written += 1
        if self.written >= 3:
            self.enough.set()
        if self.failure:
            raise OSError(self.failure, "no")


def ended(deadline: float = 10.0) -> bool:
    until = time.monotonic() + deadline
    while any(thread.name == "moves" for thread in threading.enumerate()):
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def test_moves_that_are_expected_are_prepared_again_and_again() -> None:
    write = Counter()
    with Moves(write).expected():
        assert write.enough.wait(10)
    assert ended()
    so_far = write.written
    time.sleep(0.05)
    assert write.written == so_far


def test_one_thread_serves_all_and_ends_with_the_last() -> None:
    write = Counter()
    moves = Moves(write)
    with moves.expected():
        with moves.expected():
            assert sum(thread.name == "moves" for thread in threading.enumerate()) == 1
        write.enough.clear()
        write.written = 0
        assert write.enough.wait(10), "the inner block ended it for the outer one"
    assert ended()
    with moves.expected():
        write.enough.clear()
        write.written = 0
        assert write.enough.wait(10), "a later block finds nobody"
    assert ended()


def test_a_block_that_raises_ends_it_too() -> None:
    moves = Moves(Counter())
    try:
        with moves.expected():
            raise ValueError
    except ValueError:
        pass
    assert ended()


def test_where_it_may_not_be_written_nothing_is_tried_again() -> None:
    write = Counter(errno.EACCES)
    with Moves(write).expected():
        assert ended()
    assert write.written == 1


def test_staying_writes_into_the_own_cgroup_of_the_first_mounted_hierarchy(tmp_path: Path) -> None:
    line = Path("/proc/self/cgroup").read_text().splitlines()[0]
    _, names, path = line.split(":", 2)
    own = tmp_path / path.lstrip("/")
    own.mkdir(parents=True, exist_ok=True)
    procs = own / "cgroup.procs"
    procs.write_text("")
    name = names.split(",")[0]
    facts = CgroupFacts(controllers={name: tmp_path}) if name else CgroupFacts(unified=tmp_path)
    Cgroups(facts, "/p").stay()
    assert procs.read_text() == "0"
