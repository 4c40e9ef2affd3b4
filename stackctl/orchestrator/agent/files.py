"""News of a set of files, whichever way they are written or replaced."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from stackctl.orchestrator.watch.changes import DirectoryEvents


class FileNews:
    """Calls ``tell`` on a thread of its own when one of the files watched changed, and some silence followed."""

    _SILENCE = 0.1

    def __init__(self, events: DirectoryEvents, tell: Callable[[], None]) -> None:
        self._events = events
        self._tell = tell
        self._folders: dict[int, str] = {}
        self._wanted: frozenset[str] = frozenset()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="files", daemon=True)
        self._thread.start()

    def watch(self, files: Iterable[str]) -> None:
        """Watch these files, which need not be there, and no others."""
        self._wanted = frozenset(map(os.path.normpath, files))
        for folder in {str(Path(path).parent) for path in self._wanted}:
            # A directory that is not there, or no more watches to be had: then without it.
            with contextlib.suppress(OSError):
                self._folders[self._events.add(folder)] = folder

    def close(self) -> None:
        self._closing = True
        self._events.wake()
        self._thread.join(5)
        self._events.close()

    def _run(self) -> None:
        pending = False
        while not self._closing:
            happened = self._events.read(self._SILENCE if pending else None)
            if not happened and pending and not self._closing:
                pending = False
                self._tell()
            pending = pending or any(self._concerns(number, name) for number, _, name in happened)

    def _concerns(self, number: int, name: str) -> bool:
        folder = self._folders.get(number)
        return folder is not None and f"{folder.rstrip('/')}/{name}" in self._wanted
