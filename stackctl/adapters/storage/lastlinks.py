"""LastLinks: files whose last name is gone are let go of in the background, several at once.

A file system frees a file's blocks when its last name and its last descriptor are gone, inside the call that drops
them, and on some disks the disk is told of each (ext4 with ``discard`` and no journal: a millisecond a file). Whoever
replaces or removes thousands of files therefore keeps a descriptor of each until the name is gone, and hands it over.
"""

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

_TOGETHER = 32
_MOST_WAITING = 16  # bundles, so that descriptors stay few
_THREADS = 8


@dataclass(slots=True)
class LastLinks:
    """Takes descriptors and closes them; ``close`` returns when all are closed."""

    _held: list[int] = field(default_factory=list)
    _threads: ThreadPoolExecutor | None = None
    _handed: list[Future[None]] = field(default_factory=list)

    def take(self, fd: int) -> None:
        """Own a descriptor from now on."""
        self._held.append(fd)
        if len(self._held) >= _TOGETHER:
            self._hand_over()

    def close(self) -> None:
        _close(self._held)
        self._held = []
        if self._threads is not None:
            self._threads.shutdown()

    def _hand_over(self) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="last links")
        if len(self._handed) >= _MOST_WAITING:
            self._handed.pop(0).result()
        bundle, self._held = self._held, []
        self._handed.append(self._threads.submit(_close, bundle))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


@contextlib.contextmanager
def last_links() -> Iterator[LastLinks]:
    """Give one for the duration."""
    links = LastLinks()
    try:
        yield links
    finally:
        links.close()
