"""Changes: from directory events to batches of changed paths; what is ignored is not even watched.

An index of what was seen last (a few numbers an entry) tells what a directory that went away held, and what changed
while events were lost: after an overflow everything is looked at again. A batch says only *which* paths changed; what
they are now is read when they are sent, so that a late batch sends the newest.
"""

import contextlib
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from stackctl.errors import NotFoundError
from stackctl.frozen import frozen

# Seconds of silence that end a batch, and what it may take at most: a save is one or two events, a checkout thousands.
QUIET, LONGEST = 0.005, 0.05
QUIET_BULK, LONGEST_BULK = 0.05, 1.0
BULK = 64
# A checkout that is under way is waited for: as long as this in all, between two of its first few files, and of many.
LONGEST_CHECKOUT = 60.0
QUIET_CHECKOUT, QUIET_CHECKOUT_BULK = 0.25, 5.0

_ATTRIB, _CREATE, _OVERFLOW, _IGNORED = 0x4, 0x100, 0x4000, 0x8000
_Signature = tuple[int, int, int, int, int]


class DirectoryEvents(Protocol):
    """What tells of changes in directories; the masks are those of inotify(7)."""

    def add(self, path: str) -> int: ...
    def remove(self, number: int) -> None: ...
    def read(self, timeout: float | None) -> list[tuple[int, int, str]]: ...
    def wake(self) -> None: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class _Folder:
    number: int
    entries: dict[str, _Signature] = field(default_factory=dict)


@frozen
class Batch:
    """Changed paths, sorted; ``since`` is when the first event of it was read (monotonic seconds)."""

    paths: tuple[str, ...]
    since: float
    rescanned: bool = False


class Changes:
    """Watches the paths given (files or directories) and what is below them.

    ``enters`` tells whether a directory is of interest, ``covers`` whether any path is; ``unfinished`` tells that a
    change of many files is under way, which is then one batch. Raises NotFoundError for a path that is not there.
    """

    def __init__(
        self,
        paths: Iterable[str],
        events: DirectoryEvents,
        *,
        enters: Callable[[str], bool],
        covers: Callable[[str], bool],
        unfinished: Callable[[], bool] = lambda: False,
    ) -> None:
        self._events = events
        self._unfinished = unfinished
        self._woken = False
        self._enters = enters
        self._covers = covers
        self._folders: dict[str, _Folder] = {}
        self._paths: dict[int, str] = {}
        self._roots = tuple(dict.fromkeys(path.rstrip("/") or "/" for path in paths))
        # A root is also watched from above: it may be replaced as a whole.
        self._above = {posixpath.dirname(root) for root in self._roots}
        for root in self._roots:
            if not os.path.lexists(root):
                raise NotFoundError(f"{root} is not there")
        for root in self._roots:
            self._enter(posixpath.dirname(root), set())

    def next(self, timeout: float | None = None) -> Batch | None:
        """Return the next batch; None after ``timeout`` seconds without one, or when woken."""
        end = None if timeout is None else time.monotonic() + timeout
        self._woken = False
        changed: set[str] = set()
        started, last, rescanned = 0.0, 0.0, False
        while True:
            now = time.monotonic()
            if changed and now - started > self._longest(changed):
                break
            if changed:
                wait: float | None = QUIET_BULK if len(changed) > BULK else QUIET
            else:
                wait = None if end is None else max(end - now, 0.0)
            events = self._events.read(wait)
            if not events:
                if changed and self._goes_on(changed, last):
                    continue
                break
            last = time.monotonic()
            started = started or last
            rescanned |= self._take(events, changed)
            if not changed:
                started = 0.0
                if end is not None and time.monotonic() > end:
                    break
        if not changed:
            return None
        return Batch(paths=tuple(sorted(changed)), since=started, rescanned=rescanned)

    def _longest(self, changed: set[str]) -> float:
        if self._unfinished():
            return LONGEST_CHECKOUT
        return LONGEST_BULK if len(changed) > BULK else LONGEST

    def _goes_on(self, changed: set[str], last: float) -> bool:
        """Tell whether more is to be expected, though it is quiet since ``last``.

        A lock of git alone does not say so: a commit being written takes one too, and a save must not wait for that.
        """
        if self._woken or not self._unfinished():
            return False
        longest = QUIET_CHECKOUT_BULK if len(changed) > BULK else QUIET_CHECKOUT
        return time.monotonic() - last < longest

    def everything(self, below: str) -> tuple[str, ...]:
        """Return every path known at or below a path, sorted."""
        found: set[str] = set()
        parent, name = posixpath.split(below)
        if name in self._folders.get(parent, _Folder(0)).entries:
            found.add(below)
        self._all(below, found)
        return tuple(sorted(found))

    def wake(self) -> None:
        self._woken = True
        self._events.wake()

    def close(self) -> None:
        self._events.close()

    def _all(self, directory: str, found: set[str]) -> None:
        folder = self._folders.get(directory)
        for name in folder.entries if folder else ():
            path = posixpath.join(directory, name)
            found.add(path)
            self._all(path, found)

    # Events

    def _take(self, events: list[tuple[int, int, str]], changed: set[str]) -> bool:
        """Look at what the events name; True when everything was looked at, since some were lost."""
        seen: dict[tuple[str, str], int] = {}
        for number, mask, name in events:
            if mask & _OVERFLOW:
                self._rescan(changed)
                return True
            directory = self._paths.get(number)
            if directory is None:
                continue
            if mask & _IGNORED:
                # The directory is gone, though another one may have its name (and its inode's number) by now.
                self._paths.pop(number, None)
                parent, own = posixpath.split(directory)
                seen[parent, own] = seen.get((parent, own), 0) | mask
                continue
            if not name:
                continue
            seen[directory, name] = seen.get((directory, name), 0) | mask
        for (directory, name), mask in seen.items():
            self._look(directory, name, changed, only_created=mask & 0xFFF == _CREATE)
        return False

    def _look(
        self, directory: str, name: str, changed: set[str], *, only_created: bool = False
    ) -> None:
        folder = self._folders.get(directory)
        path = posixpath.join(directory, name)
        if folder is None or not self._interesting(path):
            return
        try:
            info = os.lstat(path)
        except OSError:
            if folder.entries.pop(name, None) is not None:
                self._leave(path, changed)
                changed.add(path)
            return
        if only_created and stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and not info.st_size:
            # Its writer has not closed it yet; that will be told.
            return
        old, now = folder.entries.get(name), _signature(info)
        folder.entries[name] = now
        if path in self._folders and not self._is_still(path, old, now):
            self._leave(path, changed)
        if self._covers(path) and not (stat.S_ISDIR(info.st_mode) and old == now):
            changed.add(path)
        if stat.S_ISDIR(info.st_mode) and path not in self._folders:
            self._enter(path, changed)

    def _is_still(self, path: str, old: _Signature | None, now: _Signature) -> bool:
        """Tell whether a watched directory is the one it was."""
        number = self._folders[path].number
        same = old is not None and old[0] == now[0] and stat.S_ISDIR(now[1])
        return same and self._paths.get(number) == path

    def _interesting(self, path: str) -> bool:
        return self._covers(path) or self._enters(path)

    # Directories

    def _enter(self, directory: str, changed: set[str]) -> None:
        """Watch a directory, then read it: what happens in between is told, what was before is found."""
        pending = [directory]
        while pending:
            at = pending.pop()
            if at in self._folders or not (self._enters(at) or at in self._above):
                continue
            try:
                number = self._events.add(at)
                # A directory that was moved has its number already: it is here now.
                self._paths[number] = at
                folder = self._folders[at] = _Folder(number)
                with os.scandir(at) as scan:
                    entries = list(scan)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue
            for entry in entries:
                path = posixpath.join(at, entry.name)
                covered = self._covers(path)
                if not covered and not self._enters(path):
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                folder.entries[entry.name] = _signature(info)
                if covered:
                    changed.add(path)
                if stat.S_ISDIR(info.st_mode):
                    pending.append(path)

    def _leave(self, directory: str, changed: set[str]) -> None:
        """Forget a directory and all below it, which count as changed."""
        folder = self._folders.pop(directory, None)
        if folder is None:
            return
        if self._paths.get(folder.number) == directory:
            del self._paths[folder.number]
            self._events.remove(folder.number)
        for name in folder.entries:
            path = posixpath.join(directory, name)
            if self._covers(path):
                changed.add(path)
            self._leave(path, changed)

    def _rescan(self, changed: set[str]) -> None:
        """Compare everything with the index."""
        for directory, folder in list(self._folders.items()):
            if self._folders.get(directory) is not folder:
                continue
            with contextlib.suppress(OSError):
                # The watch may have ended without our being told.
                number = self._events.add(directory)
                self._paths[number] = directory
                folder.number = number
            try:
                names = set(os.listdir(directory))
            except OSError:
                names = set()
            for name in names | set(folder.entries):
                path = posixpath.join(directory, name)
                old = folder.entries.get(name)
                try:
                    same = old is not None and _signature(os.lstat(path)) == old
                except OSError:
                    same = False
                if not same:
                    self._look(directory, name, changed)


def _signature(info: os.stat_result) -> _Signature:
    if stat.S_ISDIR(info.st_mode):
        # What is in a directory is told by itself; its times would make it change with each of them.
        return info.st_ino, info.st_mode, 0, 0, 0
    return info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns
