"""Every form of substitution."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.builder.expand import ExpandError, expand

VARIABLES = {"v": "value", "e": "", "path": "/usr/local/lib.tar.gz", "n": "v", "star": "*"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$v", "value"),
        ("${v}x", "valuex"),
        ("$vx", ""),
        ("$none", ""),
        ("\\$v", "$v"),
        ("'$v'", "$v"),
        ('"$v"', "value"),
        ('"\\$v \\" \\n"', '$v " \\n'),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("$ x", "$ x"),
        ("${v:-d}", "value"),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${none-d}", "d"),
        ("${none:-${v}}", "value"),
        ("${none:-'a}b'}", "a}b"),
        ("${v:+x}", "x"),
        ("${e:+x}", ""),
        ("${e+x}", "x"),
        ("${none+x}", ""),
        ("${v?no}", "value"),
        ("${e?no}", ""),
        ("${path#*/}", "usr/local/lib.tar.gz"),
        ("${path##*/}", "lib.tar.gz"),
        ("${path%.*}", "/usr/local/lib.tar"),
        ("${path%%.*}", "/usr/local/lib"),
        ("${path#nothing}", "/usr/local/lib.tar.gz"),
        ("${path/local/x}", "/usr/x/lib.tar.gz"),
        ("${path//l/L}", "/usr/LocaL/Lib.tar.gz"),
        ("${path//[/x}", "/usr/local/lib.tar.gz"),
        ("${path/u?r/$v}", "/value/local/lib.tar.gz"),
        ("${path//\\//_}", "_usr_local_lib.tar.gz"),
        ("${v/v*/x}", "x"),
        ("${star#$star}", ""),
        ("${v#$star}", "value"),
        ("$1 $@", " "),
    ],
)
def test_a_form_gives_what_the_dockerfile_reference_says(text, result):
    assert expand(text, VARIABLES).text == result


@pytest.mark.parametrize(
    "text",
    [
        "'open",
        '"open',
        "${",
        "${v",
        "${v:",
        "${v:x}",
        "${v^}",
        "${}",
        "${none:?}",
        "${none?gone}",
        "${e:?gone}",
    ],
)
def test_a_malformed_text_is_refused(text):
    with pytest.raises(ExpandError):
        expand(text, VARIABLES)


def test_the_message_of_a_required_variable_is_kept():
    with pytest.raises(ExpandError, match="none: set it"):
        expand("${none:?set it}", {})


def test_words_are_split_outside_quotes_only():
    result = expand('80 "a b" $two \'\' x"y z"', {"two": "1 2"})
    assert result.words == ("80", "a b", "1", "2", "", "xy z")


def test_the_names_that_were_asked_for_are_told():
    assert expand("$a ${b:-$c} '$d'", {}).used == {"a", "b", "c"}


def test_another_escape_character_leaves_backslashes_alone():
    assert expand("C:\\dir`$v", VARIABLES, escape="`").text == "C:\\dir$v"


def test_heredocs_keep_their_quotes_and_lose_their_escapes():
    assert (
        expand("'$v' \"\\n\" \\$v \\\\", VARIABLES, raw_quotes=True).text == "'value' \"n\" $v \\"
    )


@given(st.text(alphabet="${}v:-+?#%/*'\"\\ a", max_size=40))
def test_any_text_ends_in_a_text_or_one_error(text):
    try:
        result = expand(text, VARIABLES)
    except ExpandError as failure:
        error = str(failure)
    else:
        assert isinstance(result.text, str)
        return
    assert error


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="ab", max_size=8))
def test_trimming_agrees_with_a_slow_reference(pattern, value):
    def matches(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(matches(pattern[1:], text[n:]) for n in range(len(text) + 1))
        return bool(text) and pattern[0] in ("?", text[0]) and matches(pattern[1:], text[1:])

    cuts = [n for n in range(len(value) + 1) if matches(pattern, value[:n])]
    got = expand("${x#" + pattern + "}", {"x": value}).text
    assert got == (value[cuts[0] :] if cuts else value)
    tails = [n for n in range(len(value) + 1) if matches(pattern, value[n:])]
    got = expand("${x%%" + pattern + "}", {"x": value}).text
    assert got == (value[: tails[0]] if tails else value)
