"""The kernel is kept ready for moves between cgroups exactly as long as some are expected."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stackctl.adapters.runtime.cgroups import CgroupFacts, Cgroups, own_facts
from stackctl.adapters.runtime.moves import Moves


class Counter:
    """Stands in for the cgroup: counts how often it is entered, left and written."""

    def __init__(self, failure: int = 0) -> None:
        self.written = 0
        self.entered = 0
        self.left = threading.Event()
        self.enough = threading.Event()
        self.failure = failure

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Callable[[], None]]:
        self.entered += 1
        self.left.clear()
        try:
            yield self.write
        finally:
            self.left.set()

    def write(self) -> None:
        self.written += 1
        if self.written >= 3:
            self.enough.set()
        if self.failure:
            raise OSError(self.failure, "no")

    def restart(self) -> None:
        self.enough.clear()
        self.written = 0


def threads() -> int:
    return sum(thread.name == "moves" for thread in threading.enumerate())


def test_moves_that_are_expected_are_prepared_again_and_again() -> None:
    staying = Counter()
    with Moves(staying).expected():
        assert staying.enough.wait(10)
    assert staying.left.wait(10)
    so_far = staying.written
    time.sleep(0.05)
    assert staying.written == so_far


def test_one_thread_serves_all_blocks_and_sleeps_between_them() -> None:
    before = threads()
    staying = Counter()
    moves = Moves(staying)
    with moves.expected():
        with moves.expected():
            assert staying.enough.wait(10)
        staying.restart()
        assert staying.enough.wait(10), "the inner block ended it for the outer one"
    assert staying.left.wait(10)
    for _ in range(3):
        staying.restart()
        with moves.expected():
            assert staying.enough.wait(10), "a later block finds nobody"
        assert staying.left.wait(10)
    assert threads() == before + 1
    assert staying.entered == 4
    moves.close()
    until = time.monotonic() + 10
    while threads() > before and time.monotonic() < until:
        time.sleep(0.002)
    assert threads() == before
    staying.restart()
    with moves.expected():
        assert staying.enough.wait(10), "it cannot be used after a close"
    moves.close()
    moves.close()


def test_blocks_that_follow_one_another_at_once_are_all_served() -> None:
    staying = Counter()
    moves = Moves(staying)
    for _ in range(200):
        with moves.expected():
            pass
    staying.restart()
    with moves.expected():
        assert staying.enough.wait(10)


def test_a_block_that_raises_ends_it_too() -> None:
    staying = Counter()

    def block() -> None:
        with Moves(staying).expected():
            assert staying.enough.wait(10)
            raise ValueError("this")

    with pytest.raises(ValueError, match="this"):
        block()
    assert staying.left.wait(10)


def test_where_it_may_not_be_written_nothing_is_tried_again() -> None:
    staying = Counter(errno.EACCES)
    moves = Moves(staying)
    with moves.expected():
        assert staying.left.wait(10)
    with moves.expected():
        time.sleep(0.02)
    assert staying.written == 1


def test_staying_writes_into_the_own_cgroup_of_the_first_mounted_hierarchy(tmp_path: Path) -> None:
    line = Path("/proc/self/cgroup").read_text().splitlines()[0]
    _, names, path = line.split(":", 2)
    own = tmp_path / path.lstrip("/")
    own.mkdir(parents=True, exist_ok=True)
    procs = own / "cgroup.procs"
    procs.write_text("")
    name = names.split(",")[0]
    facts = CgroupFacts(controllers={name: tmp_path}) if name else CgroupFacts(unified=tmp_path)
    cgroups = Cgroups(facts, "/p")
    before = len(os.listdir("/proc/self/fd"))
    with cgroups.staying() as move:
        move()
        move()
    assert procs.read_text() == "00"
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_a_process_that_was_moved_stays_where_it_is_now(tmp_path: Path) -> None:
    """A real hierarchy: what is written is the cgroup of the time."""
    facts = own_facts()
    _, names, path = Path("/proc/self/cgroup").read_text().splitlines()[0].split(":", 2)
    root = facts.controllers.get(names.split(",")[0], facts.unified) if names else facts.unified
    assert root is not None
    own = root / path.lstrip("/")
    other = own / f"stackctl-test-{os.getpid()}"
    cgroups = Cgroups(facts, "/p")
    with cgroups.staying() as move:
        move()
    other.mkdir()
    try:
        (other / "cgroup.procs").write_text("0")
        with cgroups.staying() as move:
            move()
        assert str(os.getpid()) in (other / "cgroup.procs").read_text().split()
        (own / "cgroup.procs").write_text("0")
        with cgroups.staying() as move:
            move()
        assert str(os.getpid()) in (own / "cgroup.procs").read_text().split()
    finally:
        (own / "cgroup.procs").write_text("0")
        other.rmdir()
