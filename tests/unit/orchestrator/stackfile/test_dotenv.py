"""Env files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.orchestrator.stackfile.dotenv import EnvFileError, parse, parse_raw

OUTSIDE = {"HOME": "/home/me", "SET": "outside"}


def parsed(text):
    values = {}
    parse(text, values, OUTSIDE.get)
    return values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1", {"A": "1"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=\n", {"A": ""}),
        ("A = 1 \n", {"A": "1"}),
        ("A: yaml\n", {"A": "yaml"}),
        ("export A=1\n", {"A": "1"}),
        ("# comment\n\nA=1 # more\nB=a#b\n", {"A": "1", "B": "a#b"}),
        ("A='$SET # x'\n", {"A": "$SET # x"}),
        ('A="x\\ny\\t\\"z\\""\n', {"A": 'x\ny\t"z"'}),
        ("A='it\\'s'\n", {"A": "it's"}),
        ('A="two\nlines"\nB=1\n', {"A": "two\nlines", "B": "1"}),
        ("A=${SET}/x\n", {"A": "outside/x"}),
        ("A=1\nB=$A$A\n", {"A": "1", "B": "11"}),
        ("SET=inside\nB=$SET\n", {"SET": "inside", "B": "outside"}),
        ("A=$$x\n", {"A": "$x"}),
        ('A="\\$x"\n', {"A": "$x"}),
        ("A=${NO:-d}\n", {"A": "d"}),
        ("SET\nNOPE\nA=1\n", {"SET": "outside", "A": "1"}),
        ("SET", {"SET": "outside"}),
        ("A.b-c=1\n", {"A.b-c": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("", {}),
    ],
)
def test_an_env_file_is_read(text, values):
    assert parsed(text) == values


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\nB C=2\n", 2),
        ("A=1\nB!=2\n", 2),
        ("\n\nA='open\n", 3),
        ("A=${NO:?x}\n", 1),
        ("A=1\nB=${\n", 2),
    ],
)
def test_a_wrong_line_is_named(text, line):
    with pytest.raises(EnvFileError) as caught:
        parsed(text)
    assert caught.value.line == line


def test_a_raw_file_is_taken_as_it_stands():
    values = {}
    parse_raw("# c\nA='q' # x\nB=$SET\nSET\nNO\n  C=1 \n", values, OUTSIDE.get)
    assert values == {"A": "'q' # x", "B": "$SET", "SET": "outside", "C": "1 "}


def test_a_line_of_a_raw_file_ends_at_its_line_feed():
    values = {}
    parse_raw("A=x\r\r\nB=y\u2028z\r\nC=\x0b1\x85\nD=", values, OUTSIDE.get)
    assert values == {"A": "x\r", "B": "y\u2028z", "C": "\x0b1\x85", "D": ""}


def test_a_raw_file_wants_names():
    with pytest.raises(EnvFileError):
        parse_raw("A=1\nB C=2\n", {}, OUTSIDE.get)


@given(st.text(alphabet="AB=:#'\"\\$ {}\n\t.é", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        parsed(text)
    except EnvFileError as error:
        assert 1 <= error.line <= text.count("\n") + 1  # noqa: PT017 - both outcomes are fine
