"""The filters parameter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api.filters import flag, labels_match, parse_filters
from stackctl.errors import InvalidInputError


def test_both_forms_read_alike():
    assert parse_filters('{"label":["a=b"],"status":["exited"]}') == parse_filters(
        '{"label":{"a=b":true},"status":{"exited":true,"paused":false}}'
    )


def test_nothing_filters_nothing():
    assert parse_filters("") == {} == parse_filters("null") == parse_filters("{}")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"a":"b"}', '{"a":[1]}', '{"a":3}'])
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
    with pytest.raises(InvalidInputError, match="dangling"):
        flag({"dangling": ("true", "false")}, "dangling")
