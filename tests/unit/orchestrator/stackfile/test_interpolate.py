"""References to variables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.orchestrator.stackfile.interpolate import TemplateError, Variables, substitute

ENVIRONMENT = {"SET": "value", "EMPTY": "", "A1": "one", "_X": "under"}
NAMES = st.sampled_from(["SET", "EMPTY", "UNSET", "A1"])
PLAIN = st.text(alphabet=st.characters(exclude_characters="$", codec="utf-8"), max_size=20)


def filled(text):
    return substitute(text, Variables(ENVIRONMENT))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$SET", "value"),
        ("${SET}", "value"),
        ("x${SET}y$A1", "xvalueyone"),
        ("$UNSET", ""),
        ("$SET.x", "value.x"),
        ("$$SET", "$SET"),
        ("$${SET}", "${SET}"),
        ("100$", "100$"),
        ("$ SET $1 $-", "$ SET $1 $-"),
        ("${UNSET:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${SET-d}", "value"),
        ("${UNSET-}", ""),
        ("${SET:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${UNSET+r}", ""),
        ("${SET:?e}", "value"),
        ("${EMPTY?e}", ""),
        ("${UNSET:-${SET}}", "value"),
        ("${UNSET:-${EMPTY:-${A1}}}", "one"),
        ("${UNSET:-a}${UNSET:-b} and ${SET}", "ab and value"),
        ('${UNSET:-{"a": 1}}', '{"a": 1}'),
        ("${UNSET:-a:b-c?d+e}", "a:b-c?d+e"),
        ("${UNSET:-$$}", "$"),
    ],
)
def test_a_reference_is_replaced(text, result):
    assert filled(text) == result


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("${", 0),
        ("ab${SET", 2),
        ("${}", 0),
        ("${1}", 0),
        ("${SET!x}", 0),
        ("x ${SET.y}", 2),
        ("${UNSET:-a\nb}", 0),
        ("$SET ${UNSET?}", 5),
        ("${EMPTY:?needed}", 0),
        ("${SET:-${UNSET:?inner}}", 0),
    ],
)
def test_a_wrong_or_missing_reference_is_an_error_at_its_place(text, offset):
    with pytest.raises(TemplateError) as caught:
        filled(text)
    assert caught.value.offset == offset
    assert caught.value.hint


def test_the_reason_of_a_required_variable_is_told():
    with pytest.raises(TemplateError, match="UNSET is missing a value: ask value"):
        filled("${UNSET:?ask $SET}")


def test_nesting_is_bounded():
    with pytest.raises(TemplateError, match="nested deeper"):
        filled("${U:-" * 500 + "}" * 500)


def test_a_variable_that_is_not_set_is_remembered():
    variables = Variables(ENVIRONMENT)
    substitute("$SET $UNSET ${OTHER:-x}", variables)
    assert list(variables.unset) == ["UNSET"]
    assert list(variables.used) == ["SET", "UNSET", "OTHER"]


@given(PLAIN)
def test_text_without_a_dollar_is_unchanged(text):
    assert filled(text) == text


@given(st.text(max_size=30))
def test_doubling_dollars_keeps_any_text(text):
    assert filled(text.replace("$", "$$")) == text


@given(NAMES, st.text(alphabet="ab c", max_size=5))
def test_a_default_is_used_exactly_when_the_variable_is_unset_or_empty(name, default):
    assert filled("${" + name + ":-" + default + "}") == (ENVIRONMENT.get(name) or default)


@given(st.text(alphabet="${}:-?+ab_A1 \n", max_size=40))
def test_any_text_is_replaced_or_refused(text):
    try:
        filled(text)
    except TemplateError as error:
        assert 0 <= error.offset <= len(text)  # noqa: PT017 - both outcomes are fine


def test_only_values_are_interpolated(loader):
    loaded = loader(
        """
        services:
          web:
            image: ${IMAGE:-nginx}
            labels:
              $KEY: ${VALUE-none}
        """
    )
    web = loaded.stack.services["web"]
    assert web.image == "nginx"
    assert web.labels == {"$KEY": "none"}


def test_text_becomes_a_number_or_boolean_where_one_is_wanted(loader):
    web = loader(
        """
        services:
          web: {image: x, tty: "yes", scale: "${N}", cpus: "0.5", healthcheck: {retries: "3"}}
        """,
        environ={"N": "2"},
    ).stack.services["web"]
    assert (web.tty, web.scale, web.cpus) == (True, 2, 0.5)
    assert web.healthcheck is not None
    assert web.healthcheck.retries == 3


def test_a_wrong_number_names_the_variable_it_came_from(problems):
    (problem,) = problems(
        """
        services:
          web: {image: x, scale: "${N}"}
        """,
        environ={"N": "many"},
    )
    assert "expected an integer, got 'many'" in problem.message
    assert "${N}" in problem.hint
    assert (problem.line, problem.column) == (3, 26)


def test_the_column_of_a_bad_reference_is_that_of_its_dollar(problems):
    (problem,) = problems("services:\n  web:\n    image: app:${TAG!}\n")
    assert (problem.line, problem.column) == (3, 16)
