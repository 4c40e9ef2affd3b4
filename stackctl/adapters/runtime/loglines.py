"""The lines of the log conmon writes (k8s-file), taken apart; pure.

A line is ``TIME STREAM TAG TEXT``: TIME in RFC 3339 with nanoseconds, TAG "F" for a whole line, "P" for a piece of
one. conmon splits a line every 8 KiB and where a read of its own ended; pieces are joined up to 16 KiB here, as
Docker does.
"""

import datetime
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence

# Stream, nanoseconds since the epoch, text, and whether the line is whole.
Entry = tuple[int, int, bytes, bool]
# Lines of one stream that came one after the other.
Run = tuple[int, list[bytes]]
JOIN = 16384
# Of so many lines in a chunk those that follow one another are given as one text.
_MANY = 512
_LONGEST_STAMP = 64
_TAG = len(b" stdout F ")
_KINDS = {
    b" stdout F ": (1, True), b" stderr F ": (2, True), b" stdout P ": (1, False), b" stderr P ": (2, False),
}  # fmt: skip
_EVER = 1 << 80
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Parser:
    """Bytes of a log in, entries or runs out; keeps what is unfinished from one chunk to the next.

    ``since`` and ``until`` are nanoseconds since the epoch, both inclusive; 0 for no limit. The lines of runs begin
    with their time, as Docker writes it, where they are ``stamped``, and with the ``details``.
    """

    def __init__(
        self, *, since: int = 0, until: int = 0, stamped: bool = False, details: bytes = b""
    ) -> None:
        self._since = since
        self._until = until or _EVER
        self._headed = stamped or bool(details)
        self._timed = self._headed or bool(since or until)
        self._stamped = stamped
        self._details = details
        self._rest = b""
        # A piece whose end is to come, for the quick way.
        self._held: list[bytes] = []
        self._stamp = b""
        self._second = b""
        self._whole = 0
        self._time = 0
        self._parts: dict[int, tuple[int, bytes]] = {}
        # As they were asked for.
        self.limits = (since, until)
        # Whether a line was younger than ``until``: nothing that is wanted follows.
        self.over = False

    def feed(self, data: bytes) -> list[Entry]:
        """Return the entries that are complete with this chunk."""
        return self._entries(self._split(data))

    def _split(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their newlines."""
        lines = data.split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        lines[:0] = self._held
        self._held = []
        return lines

    def _entries(self, lines: list[bytes]) -> list[Entry]:
        entries: list[Entry] = []
        append = entries.append
        since, until, parts = self._since, self._until, self._parts
        for line in lines:
            stamp, _, tail = line.partition(b" ")
            if stamp != self._stamp:
                self._read_time(stamp)
            at = self._time
            if at < since:
                continue
            if at > until:
                self.over = True
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
        """As ``feed``: the lines of one stream that follow one another as one item, several times as fast.

        Of very many lines a text may hold several.
        """
        lines = self._split(data)
        if not self._parts and (found := self._columns(lines)) is not None:
            return found
        # Pieces of both streams, or times on both sides of a limit.
        return self._runs_of(self._entries(lines))

    def finish(self) -> list[Entry]:
        """Return the pieces that no newline ended."""
        early = self.feed(b"")
        entries = [(stream, at, data, False) for stream, (at, data) in self._parts.items()]
        self._parts.clear()
        self._rest = b""
        return [*early, *sorted(entries, key=lambda entry: entry[1])]

    def finish_runs(self) -> list[Run]:
        """As ``finish``, in the form of ``feed_runs``."""
        return self._runs_of(self.finish())

    def _columns(self, lines: list[bytes]) -> list[Run] | None:
        """Return whole lines as runs; None for what is rare.

        The times of one monitor are equally long, so what a line consists of is cut out at the same places in all of
        them, by functions that run over whole lists.
        """
        if not lines:
            return []
        width = lines[0].find(b" ", 0, _LONGEST_STAMP)
        if width < 0:
            return None
        kinds = list(map(operator.itemgetter(slice(width, width + _TAG)), lines))
        found = set(kinds)
        if not found <= _KINDS.keys():
            return None
        bare = list(map(operator.itemgetter(slice(width + _TAG, None)), lines))
        texts = bare
        if self._timed:
            stamps = list(map(operator.itemgetter(slice(0, width)), lines))
            times = self._times(set(stamps))
            if times is None:
                return None
            oldest, youngest = min(times.values()), max(times.values())
            if youngest < self._since or oldest > self._until:
                self.over |= oldest > self._until
                return []
            if oldest < self._since or youngest > self._until:
                return None
            if self._headed:
                heads = {stamp: self._head(at) for stamp, at in times.items()}
                texts = list(map(operator.add, map(heads.__getitem__, stamps), bare))
        pieces = [kind for kind in found if not _KINDS[kind][1]]
        if not pieces:
            return list(_runs(kinds, texts))
        if len({_KINDS[kind][0] for kind in found}) > 1:
            return None
        said = _joined(pieces[0], kinds, texts, bare)
        if said is not None and kinds[-1] == pieces[0]:
            self._held = [lines[-1]]
        return None if said is None else [(_KINDS[pieces[0]][0], said)] if said else []

    def _times(self, stamps: set[bytes]) -> dict[bytes, int] | None:
        """Return the instants of time stamps; None when one is none."""
        found: dict[bytes, int] = {}
        for stamp in stamps:
            at = self._instant(stamp)
            if at is None:
                return None
            found[stamp] = at
        return found

    def _head(self, at: int) -> bytes:
        """Return what a line begins with: its time as Docker writes it (UTC, nine decimals), the details."""
        if not self._stamped:
            return self._details
        whole, fraction = divmod(at, 10**9)
        moment = _EPOCH + datetime.timedelta(seconds=whole)
        stamp = moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%s.%09dZ %s" % (stamp, fraction, self._details)

    def _runs_of(self, entries: Sequence[Entry]) -> list[Run]:
        return [
            (stream, [self._head(entry[1]) + entry[2] for entry in group])
            for stream, group in itertools.groupby(entries, key=operator.itemgetter(0))
        ]

    def _piece(self, stream: int, at: int, data: bytes, append: Callable[[Entry], None]) -> None:
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
        at = self._instant(stamp)
        if (
            at is not None
        ):  # or it is not a line of conmon's, which keeps the time of the one before
            self._time = at

    def _instant(self, stamp: bytes) -> int | None:
        second, _, fraction = stamp.partition(b".")
        try:
            if second != self._second:
                moment = datetime.datetime.fromisoformat(second.decode() + "+00:00")
                self._second, self._whole = second, int(moment.timestamp())
            at = self._whole * 10**9 + int(fraction[:9].ljust(9, b"0"))
            zone = fraction[9:]
            if zone not in (b"+00:00", b"Z", b""):
                sign = -1 if zone[:1] == b"-" else 1
                hours, minutes = zone[1:].split(b":")
                at -= sign * (int(hours) * 3600 + int(minutes) * 60) * 10**9
        except ValueError:
            return None
        return at


def _runs(kinds: list[bytes], texts: list[bytes]) -> Iterator[Run]:
    """Yield whole lines in runs of one stream each."""
    start = 0
    for kind, group in itertools.groupby(kinds):
        stop = start + sum(1 for _ in group)
        said: list[bytes] = []
        _append_lines(said, texts[start:stop], many=len(kinds) > _MANY)
        yield _KINDS[kind][0], said
        start = stop


def _joined(
    piece: bytes, kinds: list[bytes], texts: list[bytes], bare: list[bytes]
) -> list[bytes] | None:
    """Return the lines of one stream, those in two pieces joined, without a last piece whose end is to come.

    None where a line is in more pieces.
    """
    said: list[bytes] = []
    many = len(kinds) > _MANY
    end = len(kinds) - (kinds[-1] == piece)
    begun = b""
    start = 0
    while start < end:
        try:
            stop = kinds.index(piece, start, end)
        except ValueError:
            stop = end
        if begun:
            if stop == start:
                return None
            said.append(begun + bare[start] + b"\n")
            start += 1
        _append_lines(said, texts[start:stop], many=many)
        begun = texts[stop] if stop < end and bare[stop] else b""
        start = stop + 1
    if begun:
        return None
    return [b"".join(said)] if many else said


def _append_lines(said: list[bytes], texts: list[bytes], *, many: bool) -> None:
    if not many:
        said.extend([text + b"\n" for text in texts])
    elif texts:
        texts.append(b"")
        said.append(b"\n".join(texts))
