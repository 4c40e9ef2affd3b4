"""Instants, durations and how they are told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api import times
from stackctl.errors import InvalidInputError


def test_an_instant_shows_as_many_decimals_as_it_has():
    assert times.rfc3339(0.0) == "0001-01-01T00:00:00Z"
    assert times.rfc3339(1136073600.0) == "2006-01-01T00:00:00Z"
    assert times.rfc3339(1136073600.25) == "2006-01-01T00:00:00.25Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("0", 0.0),
        ("1136073600", 1136073600.0),
        ("1136073600.000000001", 1136073600.000000001),
        ("2006-01-01T00:00:00Z", 1136073600.0),
        ("2006-01-01T01:00:00.5+01:00", 1136073600.5),
        ("2006-01-01", 1136073600.0),
        ("10m", 400.0),
        ("1h", -2600.0),
    ],
)
def test_since_and_until_take_every_form(text, expected):
    assert times.parse_instant(text, field="since", now=1000.0) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "1700000000.123456789",
        "2023-11-14T22:13:20.123456789Z",
        "2023-11-15T00:13:20.123456789+02:00",
    ],
)
def test_nanoseconds_are_exact(text):
    assert times.parse_nanoseconds(text, field="since", now=0.0) == 1700000000123456789


@pytest.mark.parametrize("text", ["yesterday", "-5", "2006-13-01", "1.2.3", "10x"])
def test_nonsense_is_refused_with_the_fields_name(text):
    with pytest.raises(InvalidInputError, match="since"):
        times.parse_instant(text, field="since", now=0.0)


@given(st.floats(1, 4e9))
def test_what_is_written_reads_back(seconds):
    text = times.rfc3339(seconds)
    assert times.parse_instant(text, field="x", now=0.0) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (180, "3 minutes"),
        (46 * 60, "46 minutes"),
        (3600, "About an hour"),
        (3 * 3600, "3 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (61 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_read_as_dockers(seconds, expected):
    assert times.human_duration(seconds) == expected


def test_go_durations_read_as_seconds():
    assert times.parse_duration("1h30m") == 5400.0
    assert times.parse_duration("1.5s") == 1.5
    assert times.parse_duration("250ms") == 0.25
    assert times.parse_duration("1h x") is None
    assert times.parse_duration("") is None
