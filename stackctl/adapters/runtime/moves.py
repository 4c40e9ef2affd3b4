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
from contextlib import AbstractContextManager

_PAUSE = 0.004  # seconds, well below the time after which the kernel closes the lock again


class Moves:
    """Keeps the kernel ready for moves while any is expected.

    ``staying`` is entered for as long, and gives the move that changes nothing. One thread does it all; it is started
    by the first block, sleeps between them and ends with ``close``.
    """

    def __init__(self, staying: Callable[[], AbstractContextManager[Callable[[], None]]]) -> None:
        self._staying = staying
        self._changed = threading.Condition()
        self._expected = 0
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Processes will be moved within this block, by whomever."""
        with self._changed:
            self._expected += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_ready, name="moves", daemon=True)
                self._thread.start()
            elif self._expected == 1:
                self._changed.notify()
        try:
            yield
        finally:
            # The thread sees it by itself, when nothing waits for the time it takes.
            with self._changed:
                self._expected -= 1

    def close(self) -> None:
        """End the thread; a later block starts another."""
        with self._changed:
            self._thread = None
            self._changed.notify()

    def _keep_ready(self) -> None:
        while self._is_wanted():
            try:
                with self._staying() as move:
                    while self._expected:
                        move()
                        with self._changed:
                            self._changed.wait(_PAUSE)
            except OSError:
                return  # a hierarchy that may not be written: moves wait, as they would without this

    def _is_wanted(self) -> bool:
        """Wait for a block to begin; False once the thread shall end."""
        this = threading.current_thread()
        with self._changed:
            self._changed.wait_for(lambda: self._expected or self._thread is not this)
            return self._thread is this
