"""Patterns of .dockerignore, against a table from Docker's rules and against a slow reference."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.errors import InvalidInputError
from stackctl.ignore import Ignore, read_patterns


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["a"], "a", True),
        (["a"], "b/a", False),
        (["a"], "a/b/c", True),
        (["/a"], "a", True),
        (["a/"], "a/b", True),
        (["*.go"], "x.go", True),
        (["*.go"], "d/x.go", False),
        (["*/*.go"], "d/x.go", True),
        (["**/*.go"], "x.go", True),
        (["**/*.go"], "d/e/x.go", True),
        (["**"], "any/thing", True),
        (["a/**"], "a/b", True),
        (["a/**"], "a", False),
        (["a/**/b"], "a/b", True),
        (["a/**/b"], "a/x/y/b", True),
        (["**/b"], "xb", False),
        (["**/b"], "x/b/c", True),
        (["**b"], "xb", True),
        (["?"], "ab", False),
        (["a?c"], "abc", True),
        (["[a-c]x"], "bx", True),
        (["[^a-c]x"], "bx", False),
        (["a\\*"], "a*", True),
        (["a\\*"], "ab", False),
        (["*", "!keep"], "keep", False),
        (["*", "!keep"], "keep/below", False),
        (["d", "!d/keep"], "d/keep", False),
        (["d", "!d/keep"], "d/other", True),
        (["!a", "a"], "a", True),
        (["a", "!a", "a/b"], "a/b", True),
        (["a", "!a", "a/b"], "a/c", False),
        (["./a/../b"], "b", True),
        (["a.b"], "axb", False),
        (["a(b)|{c}$"], "a(b)|{c}$", True),
    ],
)
def test_a_pattern_ignores_what_docker_ignores(patterns, path, ignored):
    assert Ignore(patterns).ignores(path) is ignored


def test_comments_blank_lines_and_slashes_are_cleaned_away():
    text = "\ufeff# comment\n\n  a  \n/b/\n! c/../d \n #kept\n"
    assert read_patterns(text) == ("a", "b", "!d", "#kept")


@pytest.mark.parametrize("pattern", ["[", "[]", "[a-]", "a\\", "!", "[^"])
def test_a_malformed_pattern_is_refused(pattern):
    with pytest.raises(InvalidInputError):
        Ignore([pattern]).ignores("x")


def test_walking_skips_ignored_directories_and_finds_what_is_taken_back(tmp_path: Path):
    for name in ("a/b/keep", "a/b/drop", "a/c/x", "node/deep/x", "y"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = [path for path, _ in Ignore(["a", "!a/b/keep", "node"]).walk(tmp_path)]
    assert found == ["a", "a/b", "a/b/keep", "y"]


def test_a_directory_is_skipped_only_when_nothing_below_can_be_taken_back():
    assert Ignore(["a"]).skips("a")
    assert not Ignore(["a", "!a/b"]).skips("a")
    assert not Ignore(["a", "!**/b"]).skips("a")
    assert Ignore(["a", "!c/b"]).skips("a")


PARTS = st.sampled_from(["a", "b", "ab", "a.b", "*", "?", "a*", "**", "[ab]", "*b"])
PATTERN = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PATH = st.lists(st.sampled_from(["a", "b", "ab", "a.b", "aab"]), min_size=1, max_size=4)


def _matches(pattern: list[str], path: list[str]) -> bool:
    """The rules again, by plain recursion over components."""
    if not pattern:
        return not path
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        if not rest:
            return len(path) > 0
        return any(_matches(rest, path[n:]) for n in range(len(path) + 1))
    return bool(path) and _part(head, path[0]) and _matches(rest, path[1:])


def _part(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_part(pattern[1:], text[n:]) for n in range(len(text) + 1))
    if pattern.startswith("[ab]"):
        return text[:1] in ("a", "b") and _part(pattern[4:], text[1:])
    return bool(text) and pattern[0] in ("?", text[0]) and _part(pattern[1:], text[1:])


@given(st.lists(st.tuples(st.booleans(), PATTERN), max_size=4), PATH)
def test_it_agrees_with_a_slow_reference(patterns, path):
    ignored = False
    for keeps, pattern in patterns:
        parts = pattern.split("/")
        if any(_matches(parts, path[:n]) for n in range(1, len(path) + 1)):
            ignored = not keeps
    texts = [f"!{pattern}" if keeps else pattern for keeps, pattern in patterns]
    assert Ignore(texts).ignores("/".join(path)) is ignored


@given(st.text(max_size=60), st.text(max_size=30))
def test_any_text_gives_an_answer_or_one_error(patterns, path):
    try:
        answer = Ignore.parse(patterns).ignores(path)
    except InvalidInputError as failure:
        answer = bool(failure.message)
        assert answer
    assert answer in (True, False)
