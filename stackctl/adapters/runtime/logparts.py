"""The parts of a log: LOG, and older ones as LOG.1 (the youngest), LOG.2.gz, …; rotating, compressing, following them.

A follower is told of every part when it becomes the current one, and keeps it open from then on: parts that are
removed, by a small ``max-file`` and a slow reader, are still read to their end.
"""

import asyncio
import contextlib
import gzip
import os
import shutil
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from stackctl.errors import ConflictError, HostError
from stackctl.host import inotify, pidfd

_HISTORY = 100
_ROTATE_TIMEOUT = 5.0
_TRIES = 5
_MOST_PARTS = 4096
_COPY = 1 << 20
_LEVEL = 3
_followers: dict[Path, set["Follower"]] = {}
_rotating: set[Path] = set()


class Follower:
    """What one reader has still to read after the file it has open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: deque[int] = deque()
        self._lost = False
        _followers.setdefault(path, set()).add(self)

    def make_file(self) -> None:
        """Make the log where there is none yet, to have something to watch."""
        if self.path in _rotating:
            return  # the monitor makes it, and whoever rotates waits for that
        with contextlib.suppress(OSError):
            self.path.touch(mode=0o600, exist_ok=True)

    def offer(self) -> None:
        """Take note of the file that has just become the log."""
        if len(self._parts) >= _MOST_PARTS:
            self._lost = True
            return
        with contextlib.suppress(OSError):
            self._parts.append(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))

    def next(self) -> int:
        """Return the descriptor of the next part, the caller's from now on; -1 when there is none.

        Raises HostError once a reader stood still for so long that no more parts could be held open for it.
        """
        if self._parts:
            return self._parts.popleft()
        if self._lost:
            raise HostError(f"the log was rotated {_MOST_PARTS} times while nobody read it")
        return -1

    def close(self) -> None:
        """Forget it; may be repeated."""
        others = _followers.get(self.path, set())
        others.discard(self)
        if not others:
            _followers.pop(self.path, None)
        while self._parts:
            os.close(self._parts.popleft())


def files_of(log_path: Path) -> list[Path]:
    """Return the parts of a log that exist, oldest first."""
    older = []
    for number in range(1, _HISTORY):
        path = _existing(log_path, number)
        if path is None:
            break
        older.append(path)
    return [*reversed(older), log_path]


def _existing(log_path: Path, number: int) -> Path | None:
    plain = _numbered(log_path, number)
    return next((path for path in (plain, _compressed(plain)) if path.exists()), None)


def _numbered(log_path: Path, number: int) -> Path:
    return log_path.with_name(f"{log_path.name}.{number}")


def _compressed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def open_all(log_path: Path) -> list[int]:
    """Return descriptors of all parts, oldest first; compressed ones are unpacked into files without a name."""
    return _open(log_path, plain_only=False)


def open_plain(log_path: Path) -> list[int]:
    """As ``open_all``, without the compressed parts and what is older."""
    return _open(log_path, plain_only=True)


def _open(log_path: Path, *, plain_only: bool) -> list[int]:
    for _ in range(_TRIES):
        paths = files_of(log_path)
        if plain_only:
            packed = [place for place, path in enumerate(paths) if path.suffix == ".gz"]
            paths = paths[packed[-1] + 1 if packed else 0 :]
        descriptors = _open_each(paths)
        # A part that went meanwhile was compressed in this moment: it is there under its other name.
        if len(descriptors) == len(paths) or not log_path.exists():
            return descriptors
        for descriptor in descriptors:
            os.close(descriptor)
    return _open_each(files_of(log_path))


def _open_each(paths: Iterable[Path]) -> list[int]:
    descriptors = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            flags = os.O_RDONLY | os.O_CLOEXEC
            descriptors.append(_unpacked(path) if path.suffix == ".gz" else os.open(path, flags))
    return descriptors


def _unpacked(path: Path) -> int:
    with gzip.open(path, "rb") as packed:
        descriptor = os.memfd_create(path.name, os.MFD_CLOEXEC)
        try:
            while data := packed.read(_COPY):
                os.write(descriptor, data)
        except (OSError, EOFError, zlib.error):
            pass  # half a part is better than no log
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


async def rotate(
    log_path: Path,
    *,
    reopen: Callable[[], Awaitable[None]],
    keep: int = _HISTORY,
    compress: bool = False,
) -> None:
    """Move LOG aside as LOG.1 (LOG.1 as LOG.2, …) and have the monitor write a new one; ``keep`` old ones stay.

    Raises ConflictError when there is no log or nobody writes it any more; every line stays readable, for those who
    follow also what is not kept.
    """
    if not log_path.exists():
        raise ConflictError(f"there is no log {log_path} to rotate")
    for number in range(len(files_of(log_path)) - 1, 0, -1):
        if (part := _existing(log_path, number)) is not None:
            older = _numbered(log_path, number + 1)
            part.rename(_compressed(older) if part.suffix == ".gz" else older)
    watch = inotify.Watch()
    _rotating.add(log_path)
    try:
        watch.add(log_path.parent, inotify.CREATE | inotify.MOVED_TO)
        log_path.rename(_numbered(log_path, 1))
        await reopen()
        async with asyncio.timeout(_ROTATE_TIMEOUT):
            while not log_path.exists():
                await pidfd.readable(watch.descriptor)
                watch.drain()
    except TimeoutError as error:
        raise HostError(f"the monitor did not reopen {log_path}") from error
    finally:
        _rotating.discard(log_path)
        watch.close()
    for follower in _followers.get(log_path, ()):
        follower.offer()
    for number in range(len(files_of(log_path)), keep, -1):
        if (part := _existing(log_path, number)) is not None:
            part.unlink(missing_ok=True)
    if compress and keep:
        await asyncio.to_thread(_compress, _numbered(log_path, 1))


def _compress(path: Path) -> None:
    """Put a compressed file in a part's place, so that one of the two is always there."""
    draft = path.with_name(f"{path.name}.part")
    try:
        with path.open("rb") as source, gzip.open(draft, "wb", compresslevel=_LEVEL) as packed:
            shutil.copyfileobj(source, packed, _COPY)
        shutil.copystat(path, draft)
        draft.rename(_compressed(path))
        path.unlink(missing_ok=True)
    except OSError:
        # A full disk: the part stays as it is.
        draft.unlink(missing_ok=True)
