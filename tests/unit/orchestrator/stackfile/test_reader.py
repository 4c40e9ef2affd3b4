"""Text to marked trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.orchestrator.stackfile.marks import Source, nearest
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.reader import read
from stackctl.orchestrator.stackfile.scalars import ScalarError, Timestamp, resolve, resolve_plain


def read_text(text):
    problems = Problems()
    documents = read(Source(name="f.yaml", path="/f.yaml", text=text), problems)
    return documents, problems.found


def tree_of(text):
    documents, found = read_text(text)
    assert found == []
    return documents[0].tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("0777", 511),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b101", 5),
        ("-0x10", -16),
        ("08", 8.0),
        ("1_000", 1000),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("+5", 5),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("-", "-"),
        ("0x", "0x"),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("9" * 1000, "9" * 1000),
    ],
)
def test_a_plain_scalar_means_what_compose_takes_it_for(text, value):
    result = resolve_plain(text)
    assert result == value
    assert type(result) is type(value)


def test_a_date_is_told_from_text():
    assert isinstance(resolve_plain("2001-12-14"), Timestamp)
    assert resolve_plain("2001-12-14 10:20:30.5") == "2001-12-14T10:20:30.5Z"


@pytest.mark.parametrize(
    ("tag", "text", "value"),
    [
        ("str", "1", "1"),
        ("int", "1", 1),
        ("float", "1", 1.0),
        ("binary", "aGk=", "hi"),
        ("null", "", None),
    ],
)
def test_a_tag_forces_the_type(tag, text, value):
    assert resolve(f"tag:yaml.org,2002:{tag}", text) == value


@pytest.mark.parametrize(
    ("tag", "text"), [("bool", "yes"), ("int", "x"), ("binary", "*"), ("null", "x")]
)
def test_a_tag_that_does_not_fit_is_an_error(tag, text):
    with pytest.raises(ScalarError):
        resolve(f"tag:yaml.org,2002:{tag}", text)


@given(st.text(max_size=30))
def test_any_plain_scalar_resolves(text):
    resolve_plain(text)


def test_anchors_and_merge_keys_expand_and_keep_their_places():
    tree = tree_of("x-a: &a\n  image: x\n  user: u\nservices:\n  web:\n    <<: *a\n    user: own\n")
    assert tree["services"]["web"] == {"image": "x", "user": "own"}
    mark, exact = nearest(tree, ("services", "web", "image"))
    assert exact
    assert mark is not None
    assert mark.value.start_mark.line == 1


def test_of_several_merged_mappings_the_first_wins():
    assert tree_of("a: &a {k: 1}\nb: &b {k: 2, l: 2}\nc: {<<: [*a, *b]}\n")["c"] == {"k": 1, "l": 2}


def test_an_alias_used_twice_gives_two_copies():
    tree = tree_of("a: &a {k: [1]}\nb: *a\nc: *a\n")
    tree["b"]["k"].append(2)
    assert tree["c"]["k"] == [1]


def test_reset_and_override_are_remembered_with_their_paths():
    documents, found = read_text("services:\n  a:\n    ports: !reset []\n    dns: !override [x]\n")
    assert found == []
    assert documents[0].tree == {"services": {"a": {"dns": ["x"]}}}
    assert [where for where, _ in documents[0].resets] == [
        ("services", "a", "ports"),
        ("services", "a", "dns"),
    ]


def test_every_document_of_a_file_is_read():
    documents, _ = read_text("a: 1\n---\nb: 2\n")
    assert [document.tree for document in documents] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2\n", 2, 'key "a" stands here twice, first on line 1'),
        ("a:\n  1: x\n", 2, "a key must be text, not 1"),
        ("a:\n  true: x\n", 2, "a key must be text, not true"),
        ("a:\n  ? [x]\n  : y\n", 2, "a key must be text, not a mapping or list"),
        ("a: &a [b, *a]\n", 1, 'the anchor "a" contains itself'),
        ("a: &a {<<: *a}\n", 1, 'the anchor "a" contains itself'),
        ("a: &a\n  b: {<<: [*a]}\n", 2, 'the anchor "a" contains itself'),
        (
            "a: !!python/object/apply:os.system [id]\n",
            1,
            'the tag "!!python/object/apply:os.system"',
        ),
        (
            "x:\n- !!python/name:os.system x\n",
            2,
            'the tag "!!python/name:os.system" makes an object',
        ),
        ("%TAG !y! tag:yaml.org,2002:python/\n---\na: !y!name:os x\n", 3, "!!python/name:os"),
        ("!!python/str a: 1\n", 1, 'the tag "!!python/str"'),
        ("a: !ruby/object:Gem {}\n", 1, 'the tag "!ruby/object:Gem"'),
        ("a: !!javax.script.ScriptEngineManager []\n", 1, "!!javax.script"),
        ("a: {<<: 5}\n", 1, "<< takes a mapping or a list of mappings"),
        ("a: !!bool yes\n", 1, "cannot read 'yes' as a !!bool"),
        ("a: b: c\n", 1, "not valid YAML: mapping values are not allowed"),
        ("a:\n\t- b\n", 2, "not valid YAML"),
        ("a: *nope\n", 1, "not valid YAML: found undefined alias"),
        ('a: "b\n', 2, "not valid YAML"),
        ("a: 1\nb: \x00\n", 2, "a NUL byte may not stand here"),
        ("a: \x1b[2J\n", 1, "the control character U+001B may not stand here"),
    ],
)
def test_a_mistake_has_its_line(text, line, message):
    documents, found = read_text(text)
    assert documents == []
    assert found[0].line == line
    assert message in found[0].message


def test_a_tag_of_people_s_own_means_nothing():
    assert tree_of("a: !Ref b\nb: !!foo 1\nc: !python x\n") == {"a": "b", "b": "1", "c": "x"}


def test_a_character_that_may_not_stand_is_shown_where_it_stands():
    _, found = read_text("a: 1\nbc: \x00\n")
    assert (found[0].line, found[0].column, found[0].excerpt) == (2, 5, "bc:")
    assert "UTF-16" in found[0].hint


def test_all_duplicates_are_told_at_once():
    _, found = read_text("a: 1\na: 2\nb: 1\nb: 2\n")
    assert [problem.line for problem in found] == [2, 4]


def test_a_long_chain_of_merge_keys_is_harmless():
    text = "m0: &m0 {a: 1}\n" + "\n".join(
        f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 200)
    )
    assert tree_of(text)["m199"] == {"a": 1}


@given(st.text(alphabet=" \n\t:-[]{}&*!#|>'\"ab%@`,?1~$\x00é", max_size=60))
def test_any_text_is_read_or_refused(text):
    documents, found = read_text(text)
    assert documents == [] or found == []
