"""Unit tests of the log file reader."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.adapters.runtime import logfile, loglines, logparts
from stackctl.contracts.runtime import LogPart
from stackctl.errors import ConflictError, HostError

SECOND = 10**9
BASE = 1_700_000_000 * SECOND
HALF = BASE + SECOND // 2


def line(number: int, text: str, tag: str = "F", stream: str = "stdout") -> str:
    return f"2023-11-14T22:13:{20 + number:02d}.500000000+00:00 {stream} {tag} {text}\n"


async def entries(path: Path, **query) -> list[tuple[int, int, bytes, bool]]:
    return [entry for batch in logfile.read_entries(path, **query) for entry in batch]


async def test_a_line_has_its_stream_time_and_newline(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(0, "a b") + line(1, "", stream="stderr"))
    assert await entries(path) == [
        (1, HALF, b"a b\n", True),
        (2, HALF + SECOND, b"\n", True),
    ]


async def test_pieces_are_joined_per_stream_up_to_16_kib(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        line(0, "x" * 8192, "P")
        + line(0, "err", "P", "stderr")
        + line(1, "x" * 8192, "P")
        + line(2, "y")
        + line(3, "or", "F", "stderr")
        + line(4, "no end", "P")
    )
    assert await entries(path) == [
        (1, HALF, b"x" * 16384, False),
        (1, HALF + 2 * SECOND, b"y\n", True),
        (2, HALF, b"error\n", True),
        (1, HALF + 4 * SECOND, b"no end", False),
    ]


async def test_since_and_until_are_both_inclusive(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(line(n, str(n)) for n in range(5)))
    found = await entries(path, since=HALF + SECOND, until=HALF + 3 * SECOND)
    assert [data for _, _, data, _ in found] == [b"1\n", b"2\n", b"3\n"]


async def test_another_time_zone_is_the_same_instant(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("2023-11-15T00:13:20.500000000+02:00 stdout F a\n")
    assert await entries(path) == [(1, HALF, b"a\n", True)]


async def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert await entries(tmp_path / "none") == []


@pytest.mark.parametrize("tail", [0, 1, 2, 5, 6, 7, 99])
async def test_the_tail_reaches_back_into_rotated_parts(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "log"
    texts = [str(n) for n in range(6)]
    Path(f"{path}.2").write_text(line(0, "0") + line(1, "1"))
    Path(f"{path}.1").write_text(line(2, "2") + line(3, "3"))
    path.write_text(line(4, "4") + line(5, "5"))
    found = [data.decode().strip() for _, _, data, _ in await entries(path, tail=tail)]
    assert found == texts[len(texts) - min(tail, 6) :]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("FP")), max_size=30),
    st.integers(0, 12),
    st.integers(8, 200),
)
def test_a_tail_is_the_end_of_the_whole_at_any_chunk_size(
    tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[int, str]], tail: int, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    # A piece is never empty.
    sizes = [(n + (tag == "P"), tag) for n, tag in shape]
    path.write_text("".join(line(0, chr(97 + n % 26) * n, tag) for n, tag in sizes))
    before = logfile._CHUNK
    logfile._CHUNK = chunk
    try:
        whole = [entry for batch in logfile.read_entries(path) for entry in batch]
        found = [entry for batch in logfile.read_entries(path, tail=tail) for entry in batch]
    finally:
        logfile._CHUNK = before
    assert found == (whole[-tail:] if tail else [])


class Ended(asyncio.Event):
    pass


async def test_following_ends_with_the_last_line_and_sees_growth_and_rotation(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    path.write_text(line(0, "0"))
    ended = Ended()
    found: list[bytes] = []

    async def follow() -> None:
        async for batch in logfile.follow_runs(path, ended=ended):
            found.extend(text for _, texts in batch for text in texts)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    with path.open("a") as log:
        log.write(line(1, "1"))

    async def reopen() -> None:
        with Path(f"{path}.1").open("a") as old:
            old.write(line(2, "2"))
        path.write_text(line(3, "3"))

    await logparts.rotate(path, reopen=reopen)
    with path.open("a") as log:
        log.write(line(4, "4"))
    ended.set()
    await task
    assert found == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]


async def test_a_log_that_is_not_there_is_not_rotated(tmp_path: Path) -> None:
    async def reopen() -> None:
        raise AssertionError("nothing to reopen")

    with pytest.raises(ConflictError, match="no log"):
        await logparts.rotate(tmp_path / "none", reopen=reopen)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.sampled_from("FFFFP"),
            st.sampled_from(
                ["", "text", "a stdout F b", "x stderr P y", "2023-11-14T22:13:20.5 stdout F z"]
            ),
        ),
        max_size=30,
    ),
    st.integers(1, 200),
)
def test_runs_hold_what_the_entries_hold_however_the_file_is_cut(
    lines: list[tuple[str, str, str]], size: int
) -> None:
    data = "".join(
        line(n % 40, text, tag, name) for n, (name, tag, text) in enumerate(lines)
    ).encode()
    slow, quick = loglines.Parser(), loglines.Parser()
    expected: list[tuple[int, bytes]] = []
    found: list[tuple[int, bytes]] = []
    for at in range(0, len(data), size):
        part = data[at : at + size]
        expected += [(stream, text) for stream, _, text, _ in slow.feed(part)]
        found += [(stream, text) for stream, texts in quick.feed_runs(part) for text in texts]
    assert found == expected
    assert quick.finish() == slow.finish()


def rotating(path: Path):
    """Return a rotation as a monitor would take part in it: it makes the new file when it is told to."""

    async def rotate(**options) -> None:
        async def reopen() -> None:
            path.touch()

        await logparts.rotate(path, reopen=reopen, **options)

    return rotate


def texts(path: Path, **options) -> list[bytes]:
    return [data for batch in logfile.read_entries(path, **options) for _, _, data, _ in batch]


async def test_compressed_parts_are_read_like_the_others(tmp_path: Path) -> None:
    path = tmp_path / "log"
    rotate = rotating(path)
    for number in range(6):
        with path.open("a") as log:
            log.write(line(2 * number, str(2 * number)) + line(2 * number + 1, str(2 * number + 1)))
        await rotate(keep=3, compress=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "log",
        "log.1.gz",
        "log.2.gz",
        "log.3.gz",
    ]
    kept = [b"%d\n" % number for number in range(6, 12)]
    assert texts(path) == kept
    assert texts(path, tail=3) == kept[-3:]
    with path.open("a") as log:
        log.write(line(12, "12"))
    assert texts(path, tail=1) == [b"12\n"]
    assert texts(path, tail=2) == [b"11\n", b"12\n"]
    assert texts(path, tail=100) == [*kept, b"12\n"]


async def test_a_follower_reads_parts_that_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(line(0, "0"))
    rotate = rotating(path)
    ended = asyncio.Event()
    source = logfile.follow_entries(path, ended=ended)
    seen = [data for _, _, data, _ in await anext(source)]
    # It stands still now while everything it has not read is removed.
    for number in range(1, 50):
        with path.open("a") as log:
            log.write(line(number, str(number)))
        await rotate(keep=number % 2, compress=bool(number % 3))
    ended.set()
    async for batch in source:
        seen += [data for _, _, data, _ in batch]
    assert seen == [b"%d\n" % number for number in range(50)]


async def test_a_reader_that_never_reads_holds_no_more_than_so_many_parts(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "log"
    path.write_text(line(0, "0"))
    monkeypatch.setattr(logparts, "_MOST_PARTS", 3)
    rotate = rotating(path)
    source = logfile.follow_entries(path, ended=asyncio.Event())
    await anext(source)
    for _ in range(5):
        await rotate(keep=0)
    with pytest.raises(HostError, match="while nobody read it"):
        async for _ in source:
            pass


def written(bursts) -> bytes:
    """Return a log as conmon writes it: the lines of one burst with one time, a last piece without its end."""
    return b"".join(
        f"2023-11-14T22:13:20.{number:09d}+00:00 {stream} ".encode()
        + (b"P " if cut and place == len(texts) else b"F ")
        + text
        + b"\n"
        for number, (stream, texts, cut) in enumerate(bursts)
        for place, text in enumerate(texts, 1)
    )


STAMP = b"2023-11-14T22:13:20.000000000+00:00 stdout F "
TEXTS = [b"", b"x", b"line " * 9, STAMP, STAMP + STAMP, b" stdout F ", b"y" * 9000]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stdout", "stdout", "stderr"]),
            st.builds(
                lambda texts, times: texts * times,
                st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12),
                st.sampled_from([1, 40]),
            ),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(1000, 1 << 17),
)
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
def test_blocks_of_lines_say_what_single_lines_say(bursts, chunk) -> None:
    data = written(bursts)
    plain, fast = loglines.Parser(), loglines.Parser()
    said = {1: b"", 2: b""}
    for start in range(0, len(data), chunk):
        for stream, lines in fast.feed_runs(data[start : start + chunk]):
            said[stream] += b"".join(lines)
    for stream, _, text, _ in fast.finish():
        said[stream] += text
    expected = {1: b"", 2: b""}
    for stream, _, text, _ in [*plain.feed(data), *plain.finish()]:
        expected[stream] += text
    assert said == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stdout", "stderr"]),
            st.lists(
                st.sampled_from([b"", b"x", b"line " * 9, b"y" * 9000]), min_size=1, max_size=6
            ),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.integers(1, 1 << 15),
    st.integers(0, 14),
    st.integers(0, 14),
)
def test_runs_with_times_say_what_entries_say(bursts, chunk, since, until) -> None:
    limits = {"since": since and BASE + since, "until": until and BASE + until}
    data = written(bursts)
    plain, fast = (
        loglines.Parser(**limits),
        loglines.Parser(**limits, stamped=True, details=b"a=b "),
    )
    entries, found = [], []
    for start in range(0, len(data), chunk):
        entries += plain.feed(data[start : start + chunk])
        found += fast.feed_runs(data[start : start + chunk])
    entries += plain.finish()
    found += fast.finish_runs()
    assert [(stream, text) for stream, texts in found for text in texts] == [
        (stream, f"2023-11-14T22:13:20.{at - BASE:09d}Z a=b ".encode() + text)
        for stream, at, text, _ in entries
    ]


def test_many_lines_come_as_one_text() -> None:
    count = 700
    data = written([("stdout", [b"%d" % number for number in range(count)], False)] * 2)
    whole = b"".join(b"%d\n" % number for number in range(count)) * 2
    assert loglines.Parser().feed_runs(data) == [(1, [whole])]
    few = written([("stdout", [b"x"], False)] * 9 + [("stdout", [b"y"], True)])
    parser = loglines.Parser()
    assert parser.feed_runs(few) == [(1, [b"x\n"] * 9)]
    # The last one is a piece: it waits for its end.
    assert parser.feed_runs(written([("stdout", [b"z"], False)])) == [(1, [b"yz\n"])]


def test_a_resumed_reader_gets_the_line_it_names_exactly(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(written([("stdout", [b"%d" % number], False) for number in range(3)]))
    at = BASE + 1
    assert [
        texts
        for batch in logfile.read_runs(path, LogPart(since=at, until=at))
        for _, texts in batch
    ] == [[b"1\n"]]
