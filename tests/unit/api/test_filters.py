"""The filters parameter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api.filters import atoi, flag, labels_match, parse_filters
from stackctl.api.gotime import filter_instant
from stackctl.errors import InvalidInputError


def test_both_forms_read_alike():
    assert parse_filters('{"label":["a=b"],"status":["exited"]}') == parse_filters(
        '{"label":{"a=b":true},"status":{"exited":false}}'
    )


def test_nothing_filters_nothing():
    assert parse_filters("") == {} == parse_filters("null") == parse_filters("{}")


@pytest.mark.parametrize(
    "text", ['{"a":{"b":1}}', "{", "[]", '"x"', '{"a":"b"}', '{"a":[1]}', '{"a":3}']
)
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(InvalidInputError, match="filter"):
        parse_filters(text)


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(InvalidInputError, match="invalid filter 'bogus'"):
        parse_filters('{"bogus":["x"]}', known={"label"})


@given(st.text(max_size=40))
def test_any_text_is_filters_or_invalid_input(text):
    try:
        parse_filters(text)
    except InvalidInputError:
        pass


def test_all_labels_must_match():
    labels = {"a": "1", "b": ""}
    assert labels_match(("a", "b"), labels)
    assert labels_match(("a=1", "b="), labels)
    assert not labels_match(("a=2",), labels)
    assert not labels_match(("a", "c"), labels)


def test_a_flag_reads_dockers_words():
    assert flag({"dangling": ("true",)}, "dangling")
    assert not flag({"dangling": ("0",)}, "dangling")
    assert flag({}, "dangling", default=True)


def test_a_flag_that_contradicts_itself_is_refused():
    for values in (("true", "false"), (), ("True",)):
        with pytest.raises(InvalidInputError, match="dangling"):
            flag({"dangling": values}, "dangling")


def test_numbers_are_read_as_go_reads_them():
    assert [atoi(text) for text in ("+3", "-03", "9223372036854775807")] == [3, -3, (1 << 63) - 1]
    with pytest.raises(
        InvalidInputError, match='parsing "9223372036854775808": value out of range'
    ):
        atoi("9223372036854775808")
    for text in ("", "1_0", "٣", "1.0"):
        with pytest.raises(InvalidInputError, match="invalid syntax"):
            atoi(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 4600.0), ("-1h", 13600.0), ("1.5s", 9998.0), ("0", 0.0), ("12.5", 12.5), ("1970-01-02", 86400.0),
        ("1970-01-01T02", 7200.0), ("1970-01-01T02:03Z", 7380.0), ("1970-01-01T02:00:01+01:00", 3601.0),
        ("1970-01-01T00:00:00.25", 0.25), ("1970-01-02-01:00", 90000.0), ("1969-12-31", -86400.0),
        ("2000-02-29", 951782400.0), ("0000-01-01", -62167219200.0),
    ],
)  # fmt: skip
def test_instants_are_read_as_docker_reads_them(text, seconds):
    assert filter_instant(text, now=10000.0) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 'failed to parse value as time or duration: ""'),
        ("NaN", 'failed to parse value as time or duration: "NaN"'),
        ("1e9", 'failed to parse value as time or duration: "1e9"'),
        ("-5", 'parsing time "-5" as "2006-01-02": cannot parse "-5" as "2006"'),
        ("2001-1-1", 'parsing time "2001-1-1" as "2006-01-02": cannot parse "1-1" as "01"'),
        ("2001-02-29", 'parsing time "2001-02-29": day out of range'),
        ("2001-02-28x", 'parsing time "2001-02-28x": extra text: "x"'),
        ("2001-01-01T24:00", 'parsing time "2001-01-01T24:00": hour out of range'),
        ("2001-01-01T1:60", 'parsing time "2001-01-01T1:60": minute out of range'),
        ("2001-01-01 01:00", 'parsing time "2001-01-01 01:00": extra text: " 01:00"'),
        (
            "2001-01-01T00:00:00+1",
            'parsing time "2001-01-01T00:00:00+1" as "2006-01-02T15:04Z07:00": cannot parse ":00+1" as "Z07:00"',
        ),
    ],
)
def test_what_is_no_instant_is_told_in_dockers_words(text, words):
    with pytest.raises(InvalidInputError) as caught:
        filter_instant(text, now=0.0)
    assert caught.value.message == words


@given(st.text("0123456789-+:.TZ ", max_size=30))
def test_any_text_is_an_instant_or_invalid_input(text):
    try:
        filter_instant(text, now=0.0)
    except InvalidInputError:
        pass
