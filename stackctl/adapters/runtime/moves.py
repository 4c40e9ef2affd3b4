"""Moves of processes between cgroups, made quick by telling the kernel in time that some will come.

Every process that joins a container's cgroups takes one lock of the whole kernel, cgroup_threadgroup_rwsem. Forks and
exits read it, so reading is made cheap and writing is not: the first writer waits for an RCU grace period, some 10 ms
in which nothing else happens, and those that follow within about such a time do not wait. A move of this process to
the cgroup it is in changes nothing and takes the same lock. Done beside the work that comes before a container's first
process can be moved, it takes the wait out of the way.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

_PAUSE = 0.004  # seconds, well below the time after which the kernel closes the lock again


class Moves:
    """Keeps the kernel ready for moves while any is expected; ``write`` is the move that changes nothing."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._guard = threading.Lock()
        self._expected = 0
        self._none = threading.Event()

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Processes will be moved within this block, by whomever; costs one thread, shared by all blocks."""
        with self._guard:
            self._expected += 1
            if self._expected == 1:
                self._none = threading.Event()
                threading.Thread(
                    target=self._keep_ready, args=(self._none,), name="moves", daemon=True
                ).start()
        try:
            yield
        finally:
            with self._guard:
                self._expected -= 1
                if not self._expected:
                    self._none.set()

    def _keep_ready(self, none: threading.Event) -> None:
        while not none.is_set():
            try:
                self._write()
            except OSError:
                return  # a hierarchy that may not be written: moves wait then, as they would without this
            none.wait(_PAUSE)
