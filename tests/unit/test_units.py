"""Sizes and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.errors import InvalidInputError
from stackctl.units import (
    format_bytes,
    format_duration,
    format_nanoseconds,
    parse_bytes,
    parse_duration,
    parse_nanoseconds,
)

NANOSECONDS = st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1b", 1),
        ("1k", 1024),
        ("1KB", 1024),
        ("1kib", 1024),
        ("1.5 GiB", 3 * 2**29),
        ("0.5k", 512),
        ("2tb", 2**41),
        ("1p", 2**50),
        ("1e3", 1000),
        ("+5k", 5120),
        ("-1", -1),
    ],
)
def test_a_size_counts_in_powers_of_1024(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1x",
        "1 k b",
        "-2",
        "--1",
        "1,5g",
        "9e99",
        "99999999999g",
        "1e",
        "1 kk",
        " 1k",
        "1k ",
        "١k",
    ],
)
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_bytes(text)


@given(st.integers(min_value=-1, max_value=2**63 - 1))
def test_a_size_survives_its_text(size):
    assert parse_bytes(format_bytes(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("1d", 86400),
        ("1w", 604800),
        ("-2s", -2),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        (".5s", 0.5),
    ],
)
def test_a_duration_is_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1m30", "1 m", "1m 30s", "1y", "1m-30s", "9999999w", "٣s"]
)
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (90 * 10**9, "1m30s"),
        (3600 * 10**9, "1h0m0s"),
        (3600 * 10**9 + 1_500_000, "1h0m0.0015s"),
        (-90 * 10**9, "-1m30s"),
    ],
)
def test_a_duration_prints_as_in_go(nanoseconds, text):
    assert format_nanoseconds(nanoseconds) == text


@given(NANOSECONDS)
def test_a_duration_survives_its_text(nanoseconds):
    assert parse_nanoseconds(format_nanoseconds(nanoseconds)) == nanoseconds


def test_seconds_print_to_the_nanosecond():
    assert format_duration(1.5) == "1.5s"


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_refusal(text):
    for parse in (parse_bytes, parse_duration):
        try:
            parse(text)
        except InvalidInputError as error:
            assert error.hint  # noqa: PT017 - both outcomes are fine
