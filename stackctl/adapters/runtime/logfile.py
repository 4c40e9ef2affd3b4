"""The log file conmon writes (k8s-file), read in large chunks: whole, the last lines, or as it grows.

A line is ``TIME STREAM TAG TEXT``: TIME in RFC 3339 with nanoseconds, TAG "F" for a whole line, "P" for a piece of
one. conmon splits a line every 8 KiB; pieces are joined up to 16 KiB here, as Docker does. A rotated log is LOG.1
(the youngest), LOG.2, ….
"""

import asyncio
import contextlib
import datetime
import itertools
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from stackctl.adapters.runtime import logparts
from stackctl.contracts.runtime import Ended
from stackctl.host import inotify, pidfd

Entry = tuple[int, float, bytes, bool]
# Lines of one stream that came one after the other.
Run = tuple[int, list[bytes]]
_T = TypeVar("_T")
_Feed = Callable[[bytes], list[_T]]
JOIN = 16384
_CHUNK = 1 << 20
# From so many lines on blocks are tried, as long as the first of them hold so many lines each.
_MANY = 512
_TRIAL = 32
_WORTH = 8
_BLOCK = 1 << 15
_LONGEST_STAMP = 64
_KINDS = {
    b"stdout F ": (1, True), b"stderr F ": (2, True), b"stdout P ": (1, False), b"stderr P ": (2, False),
}  # fmt: skip
_PIECES = {1: b" stdout P ", 2: b" stderr P "}
_TAG = 9
# A chunk that holds whole lines only is taken apart by one expression: three times as fast as line by line.
_WHOLE = {
    stream: re.compile(rb"^[^ \n]+ " + name + rb" F ([^\n]*\n)", re.MULTILINE)
    for stream, name in ((1, b"stdout"), (2, b"stderr"))
}
_MIXED = re.compile(rb"^[^ \n]+ std(out|err) F ([^\n]*\n)", re.MULTILINE)


class Parser:
    """Bytes of a log in, entries out; keeps what is unfinished from one chunk to the next."""

    def __init__(self, *, since: float = 0.0, until: float = 0.0) -> None:
        self._since = since
        self._until = until
        self._rest = b""
        self._stamp = b""
        self._second = b""
        self._whole = 0
        self._time = 0.0
        self._parts: dict[int, tuple[float, bytes]] = {}

    def feed(self, data: bytes) -> list[Entry]:
        """Return the entries that are complete with this chunk."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        entries: list[Entry] = []
        append = entries.append
        since, until, parts = self._since, self._until, self._parts
        for line in lines:
            stamp, _, tail = line.partition(b" ")
            if stamp != self._stamp:
                self._read_time(stamp)
            at = self._time
            if at < since or (until and at > until):
                continue
            stream = 2 if tail.startswith(b"stderr") else 1
            if tail[7:9] == b"F ":
                if stream in parts:
                    at, before = parts.pop(stream)
                    append((stream, at, before + tail[9:] + b"\n", True))
                else:
                    append((stream, at, tail[9:] + b"\n", True))
            elif tail[7:9] == b"P ":
                self._piece(stream, at, tail[9:], append)
        return entries

    def feed_runs(self, data: bytes) -> list[Run]:
        """As ``feed``, without the times: the lines of one stream that follow one another as one item.

        Of very many lines an item may hold several.
        """
        if self._parts or self._since or self._until:
            return runs_of(self.feed(data))
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        body, self._rest = data[:cut], data[cut:]
        count = body.count(b"\n")
        if count > _MANY and (found := _blocks(body)) is not None:
            blocks, taken = found
            self._rest = body[taken:] + self._rest
            return blocks
        streams = [stream for stream, name in ((1, b" stdout "), (2, b" stderr ")) if name in body]
        if len(streams) == 1:
            lines = _WHOLE[streams[0]].findall(body)
            if len(lines) == count:
                return [(streams[0], lines)]
        else:
            pairs = _MIXED.findall(body)
            if len(pairs) == count:
                return [
                    (1 if name == b"out" else 2, [line for _, line in group])
                    for name, group in itertools.groupby(pairs, key=lambda pair: pair[0])
                ]
        # Pieces of lines among them.
        body, self._rest = body + self._rest, b""
        return runs_of(self.feed(body))

    def finish(self) -> list[Entry]:
        """Return the pieces that no newline ended."""
        early = self.feed(b"")
        entries = [(stream, at, data, False) for stream, (at, data) in self._parts.items()]
        self._parts.clear()
        self._rest = b""
        return [*early, *sorted(entries, key=lambda entry: entry[1])]

    @property
    def pending(self) -> bool:
        return bool(self._parts)

    def _piece(self, stream: int, at: float, data: bytes, append: Callable[[Entry], None]) -> None:
        first, before = self._parts.pop(stream, (at, b""))
        joined = before + data
        while len(joined) >= JOIN:
            append((stream, first, joined[:JOIN], False))
            joined = joined[JOIN:]
            first = at
        if joined:
            self._parts[stream] = (first, joined)

    def _read_time(self, stamp: bytes) -> None:
        self._stamp = stamp
        second, _, fraction = stamp.partition(b".")
        try:
            if second != self._second:
                moment = datetime.datetime.fromisoformat(second.decode() + "+00:00")
                self._second, self._whole = second, int(moment.timestamp())
            self._time = self._whole + float(b"0." + fraction[:9])
            zone = fraction[9:]
            if zone not in (b"+00:00", b"Z", b""):
                sign = -1 if zone[:1] == b"-" else 1
                hours, minutes = zone[1:].split(b":")
                self._time -= sign * (int(hours) * 3600 + int(minutes) * 60)
        except ValueError:
            # Not a line of conmon's: it keeps the time of the one before.
            return


def _blocks(body: bytes) -> tuple[list[Run], int] | None:
    """Return many lines as blocks of lines, and how much of ``body`` they are; None where that does not pay.

    conmon stamps what it read at once, eight KiB or so, with one time: the lines of a block begin with the same bytes,
    which one ``replace`` takes away. A line feed before them tells them from what a container wrote. Where a read
    ended within a line a piece of it stands, and the next block begins with the rest.
    """
    runs: list[Run] = []
    position, end = 0, len(body)
    blocks = lines = 0
    # Of a line whose end has not come yet: its stream, where it began, and how many blocks came before it.
    piece, began, before = 0, 0, (0, 0)
    while position < end:
        head = body.find(b" ", position, position + _LONGEST_STAMP) + 1
        stream, whole = _KINDS.get(body[head : head + _TAG], (0, False))
        if not head or not stream or piece not in (0, stream):
            return None
        prefix = body[position : head + _TAG]
        last = 0
        if whole:
            mark = b"\n" + prefix
            # Searching backwards is slow: a read that ended within a line tells where its block does.
            limit = body.find(_PIECES[stream], position, position + _BLOCK)
            last = body.rfind(mark, position, limit if limit >= 0 else position + _BLOCK) + 1
            stop = body.find(b"\n", last or position) + 1
            block = body[position:stop]
            text = block[len(prefix) :].replace(mark, b"\n")
            count = block.count(b"\n")
            if len(block) - len(text) != count * len(prefix):
                return None  # pieces, or lines of the other stream, in between
            lines += count
            piece = 0
        else:
            stop = body.find(b"\n", position) + 1
            text = body[head + _TAG : stop - 1]
            if not piece:
                piece, began = stream, position
                before = (len(runs), len(runs[-1][1]) if runs else 0)
        if runs and runs[-1][0] == stream:
            runs[-1][1].append(text)
        else:
            runs.append((stream, [text]))
        position = stop
        blocks += 1
        if blocks == _TRIAL and lines < _WORTH * blocks:
            return None
    if not piece:
        return runs, end
    del runs[before[0] :]
    if runs:
        del runs[-1][1][before[1] :]
    return (runs, began) if began else None


def runs_of(entries: list[Entry]) -> list[Run]:
    """Return entries as runs of one stream each."""
    return [
        (stream, [entry[2] for entry in group])
        for stream, group in itertools.groupby(entries, key=lambda entry: entry[0])
    ]


async def read(
    log_path: Path, *, since: float = 0.0, until: float = 0.0, tail: int = -1
) -> AsyncIterator[Entry]:
    """Yield the entries that are there now."""
    for batch in read_batches(log_path, since=since, until=until, tail=tail):
        for entry in batch:
            yield entry
        await asyncio.sleep(0)


def read_batches(
    log_path: Path, *, since: float = 0.0, until: float = 0.0, tail: int = -1
) -> Iterator[list[Entry]]:
    """Yield the entries that are there now, a chunk's worth at a time."""
    files, start = _opened(log_path, tail, since=since, until=until)
    try:
        parser = Parser(since=since, until=until)
        yield from _batches(files, parser.feed, start)
        if rest := parser.finish():
            yield rest
    finally:
        for descriptor in files:
            os.close(descriptor)


def read_runs(log_path: Path, *, tail: int = -1) -> Iterator[list[Run]]:
    """Yield the lines that are there now without their times, a chunk's worth at a time."""
    files, start = _opened(log_path, tail, since=0.0, until=0.0)
    try:
        parser = Parser()
        yield from _batches(files, parser.feed_runs, start)
        if rest := parser.finish():
            yield runs_of(rest)
    finally:
        for descriptor in files:
            os.close(descriptor)


async def follow(
    log_path: Path, *, since: float = 0.0, tail: int = -1, ended: Ended
) -> AsyncIterator[Entry]:
    """Yield what is there, then what comes, until ``ended`` is set and the rest is read."""
    batches = follow_batches(log_path, since=since, tail=tail, ended=ended)
    async with contextlib.aclosing(batches):
        async for batch in batches:
            for entry in batch:
                yield entry


async def follow_batches(
    log_path: Path, *, since: float = 0.0, tail: int = -1, ended: Ended
) -> AsyncGenerator[list[Entry], None]:
    """As ``follow``, a chunk's worth of entries at a time."""
    parser = Parser(since=since)
    source = _followed(log_path, parser.feed, since=since, tail=tail, ended=ended)
    async with contextlib.aclosing(source):
        async for batch in source:
            yield batch
    yield parser.finish()


async def follow_runs(
    log_path: Path, *, tail: int = -1, ended: Ended
) -> AsyncGenerator[list[Run], None]:
    """As ``follow_batches``, without the times."""
    parser = Parser()
    source = _followed(log_path, parser.feed_runs, since=0.0, tail=tail, ended=ended)
    async with contextlib.aclosing(source):
        async for batch in source:
            yield batch
    yield runs_of(parser.finish())


async def _followed(
    log_path: Path, feed: _Feed[_T], *, since: float, tail: int, ended: Ended
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
        files, start = _opened(log_path, tail, since=since, until=0.0)
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
    log_path: Path, tail: int, *, since: float, until: float
) -> tuple[list[int], tuple[int, int]]:
    """Return the open parts of a log, oldest first, and which of them and where in it to begin.

    Compressed parts are opened only where the others hold too few lines.
    """
    if tail >= 0:
        files = logparts.open_plain(log_path)
        start = _tail_start(files, tail, since=since, until=until)
        if start != (0, 0):
            return files, start
        for descriptor in files:
            os.close(descriptor)
    files = logparts.open_all(log_path)
    return files, _tail_start(files, tail, since=since, until=until)


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
        while files and (data := os.read(files[-1], _CHUNK)):
            yield feed(data)
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
        while data := os.read(descriptor, _CHUNK):
            yield feed(data)


def _tail_start(files: list[int], tail: int, *, since: float, until: float) -> tuple[int, int]:
    """Return which file and offset the last ``tail`` lines begin at; they are counted backwards from the end."""
    if tail < 0 or not files:
        return 0, 0
    counter = _TailCounter(tail, since=since, until=until)
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

    def __init__(self, wanted: int, *, since: float, until: float) -> None:
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
