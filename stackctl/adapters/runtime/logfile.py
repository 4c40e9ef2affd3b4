"""The log file conmon writes, read in large chunks: whole, the last lines, or as it grows.

A rotated log is LOG.1 (the youngest), LOG.2, …. Times are nanoseconds since the epoch; 0 is no limit.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from stackctl.adapters.runtime import logparts
from stackctl.adapters.runtime.loglines import Entry, Parser, Run
from stackctl.contracts.runtime import WHOLE_LOG, Ended, LogPart
from stackctl.host import inotify, pidfd

_T = TypeVar("_T")
_Feed = Callable[[bytes], list[_T]]
# Larger chunks do not fit the processor's cache any more; smaller batches cost clients more than they save.
_CHUNK = 1 << 18
_BATCH = 1 << 20


def read_entries(
    log_path: Path, *, since: int = 0, until: int = 0, tail: int = -1
) -> Iterator[list[Entry]]:
    """Yield the entries that are there now, a chunk's worth at a time."""
    parser = Parser(since=since, until=until)
    yield from _read(log_path, parser, parser.feed, tail=tail)
    if rest := parser.finish():
        yield rest


def read_runs(log_path: Path, part: LogPart = WHOLE_LOG) -> Iterator[list[Run]]:
    """Yield the lines that are there now, a chunk's worth at a time."""
    parser = _parser(part)
    yield from _read(log_path, parser, parser.feed_runs, tail=part.tail)
    if rest := parser.finish_runs():
        yield rest


async def follow_entries(
    log_path: Path, *, since: int = 0, tail: int = -1, ended: Ended
) -> AsyncGenerator[list[Entry], None]:
    """Yield what is there, then what comes, until ``ended`` is set and the rest is read."""
    parser = Parser(since=since)
    source = _followed(log_path, parser, parser.feed, tail=tail, ended=ended)
    async with contextlib.aclosing(source):
        async for batch in source:
            yield batch
    yield parser.finish()


async def follow_runs(
    log_path: Path, part: LogPart = WHOLE_LOG, *, ended: Ended
) -> AsyncGenerator[list[Run], None]:
    """As ``follow_entries``, in the form of ``read_runs``; ends with the first line younger than ``until``, too."""
    parser = _parser(part)
    source = _followed(log_path, parser, parser.feed_runs, tail=part.tail, ended=ended)
    async with contextlib.aclosing(source):
        async for batch in source:
            yield batch
    yield parser.finish_runs()


def _parser(part: LogPart) -> Parser:
    return Parser(since=part.since, until=part.until, stamped=part.stamped, details=part.details)


def _read(log_path: Path, parser: Parser, feed: _Feed[_T], *, tail: int) -> Iterator[list[_T]]:
    files, start = _opened(log_path, tail, parser.limits)
    try:
        for batch in _batches(files, feed, start):
            yield batch
            if parser.over:
                return
    finally:
        for descriptor in files:
            os.close(descriptor)


async def _followed(
    log_path: Path, parser: Parser, feed: _Feed[_T], *, tail: int, ended: Ended
) -> AsyncGenerator[list[_T], None]:
    watch = inotify.Watch()
    files: list[int] = []
    follower = logparts.Follower(log_path)
    try:
        # Watched before it is read, so that nothing written in between goes unseen.
        log_path.parent.mkdir(parents=True, exist_ok=True)
        watch.add(log_path.parent, inotify.CREATE | inotify.MOVED_TO)
        follower.make_file()
        watch.add(log_path, inotify.MODIFY)
        files, start = _opened(log_path, tail, parser.limits)
        for batch in _batches(files, feed, start):
            yield batch
            await asyncio.sleep(0)
        while True:
            done = ended.is_set()
            watch.drain()
            grown = False
            for batch in _grown(files, follower, watch, feed):
                grown = True
                yield batch
                await asyncio.sleep(0)
            if parser.over:
                break
            if done and not grown:
                break
            if not grown:
                await _change(watch, ended)
    finally:
        follower.close()
        watch.close()
        for descriptor in files:
            os.close(descriptor)


def _opened(
    log_path: Path, tail: int, limits: tuple[int, int]
) -> tuple[list[int], tuple[int, int]]:
    """Return the open parts of a log, oldest first, and which of them and where in it to begin.

    Compressed parts are opened only where the others hold too few lines.
    """
    if tail >= 0:
        files = logparts.open_plain(log_path)
        start = _tail_start(files, tail, limits)
        if start != (0, 0):
            return files, start
        for descriptor in files:
            os.close(descriptor)
    files = logparts.open_all(log_path)
    return files, _tail_start(files, tail, limits)


async def _change(watch: inotify.Watch, ended: Ended) -> None:
    changed = asyncio.ensure_future(pidfd.readable(watch.descriptor))
    over = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait((changed, over), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (changed, over):
            task.cancel()
        await asyncio.gather(changed, over, return_exceptions=True)


def _grown(
    files: list[int], follower: logparts.Follower, watch: inotify.Watch, feed: _Feed[_T]
) -> Iterator[list[_T]]:
    """Yield what was written since; goes over to the new files when the log was rotated."""
    while True:
        # Asked before reading: conmon closes the old file before the new one appears, so what is read now is all.
        younger = follower.next()
        if files:
            yield from _fed(files[-1], feed)
        if younger < 0:
            return
        for descriptor in files:
            os.close(descriptor)
        files[:] = [younger]
        with contextlib.suppress(OSError):
            watch.add(follower.path, inotify.MODIFY)


def _batches(files: list[int], feed: _Feed[_T], start: tuple[int, int]) -> Iterator[list[_T]]:
    first, offset = start
    for place, descriptor in enumerate(files):
        if place < first:
            continue
        os.lseek(descriptor, offset if place == first else 0, os.SEEK_SET)
        yield from _fed(descriptor, feed)


def _fed(descriptor: int, feed: _Feed[_T]) -> Iterator[list[_T]]:
    """Yield what comes of a file from where it stands to its end."""
    batch: list[_T] = []
    size = 0
    while data := os.read(descriptor, _CHUNK):
        batch += feed(data)
        size += len(data)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if size:
        yield batch


def _tail_start(files: list[int], tail: int, limits: tuple[int, int]) -> tuple[int, int]:
    """Return which file and offset the last ``tail`` lines begin at; they are counted backwards from the end."""
    if tail < 0 or not files:
        return 0, 0
    counter = _TailCounter(tail, limits)
    for place in range(len(files) - 1, -1, -1):
        position = os.fstat(files[place]).st_size
        carried = b""
        while position > 0:
            size = min(_CHUNK, position)
            position -= size
            data = os.pread(files[place], size, position) + carried
            # All but the first line of the chunk are whole; that one waits for the bytes before it.
            cut = data.find(b"\n") + 1 if position else 0
            found = counter.take(data[cut:])
            if found is not None:
                return place, position + cut + found
            carried = data[:cut]
    return 0, 0


class _TailCounter:
    """Counts whole lines backwards; pieces belong to the line that they are of."""

    def __init__(self, wanted: int, limits: tuple[int, int]) -> None:
        since, until = limits
        self._wanted = wanted
        self._seen = 0
        self._filter = Parser(since=since, until=until) if since or until else None
        self._until = until

    def take(self, data: bytes) -> int | None:
        """Take the chunk before the last; returns the offset in it where the wanted lines begin."""
        end = len(data)
        while end > 0:
            start = data.rfind(b"\n", 0, end - 1) + 1
            line = data[start:end]
            if self._counts(line):
                if self._seen == self._wanted:
                    return end
                self._seen += 1
            end = start
        return None

    def _counts(self, line: bytes) -> bool:
        if not line.endswith(b"\n"):
            return False
        rest = line.partition(b" ")[2]
        if rest[7:9] != b"F " and self._seen:
            return False
        if self._until and self._filter is not None:
            return bool(self._filter.feed(line) or self._filter.finish())
        return True
