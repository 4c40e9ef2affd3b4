"""Text to words."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.stackfile.shellwords import split


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  a   b ", ["a", "b"]),
        ("a 'b c' \"d e\"", ["a", "b c", "d e"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("'' \"\"", ["", ""]),
        ('a\\ b \\n \\\\ "\\"" \'\\n\'', ["a b", "n", "\\", '"', "\\n"]),
        ("sh -c $(date +%s)", ["sh", "-c", "$(date +%s)"]),
        ("echo `date +%s`", ["echo", "`date +%s`"]),
        ("a; b && c | d > e < f", ["a;", "b", "&&", "c", "|", "d", ">", "e", "<", "f"]),
        ("a\tb\nc", ["a", "b", "c"]),
    ],
)
def test_words_are_told_apart(text, words):
    assert split(text) == words


@pytest.mark.parametrize("text", ["'", '"a', "a\\", "$(a", "`a", "(a)", "a)"])
def test_what_stays_open_is_refused(text):
    with pytest.raises(InvalidInputError):
        split(text)


@given(st.lists(st.text(max_size=8), max_size=4))
def test_quoted_words_come_back(words):
    assert split(" ".join(map(shlex.quote, words))) == words
