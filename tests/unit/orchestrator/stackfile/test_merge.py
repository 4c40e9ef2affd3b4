"""One tree over another."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.orchestrator.stackfile.marks import Map, Seq
from stackctl.orchestrator.stackfile.merge import Merge, unify
from stackctl.orchestrator.stackfile.problems import Problems


def marked(value):
    if isinstance(value, dict):
        made = Map()
        made.update({key: marked(item) for key, item in value.items()})
        return made
    return Seq(map(marked, value)) if isinstance(value, list) else value


def merged(base, other):
    problems = Problems()
    tree = Merge(problems).trees(
        marked({"services": {"a": base}}), marked({"services": {"a": other}})
    )
    unify(tree, problems)
    assert problems.found == []
    return tree["services"]["a"]


@pytest.mark.parametrize(
    ("base", "other", "result"),
    [
        ({"image": "a"}, {"image": "b"}, {"image": "b"}),
        ({"image": "a"}, {"user": "u"}, {"image": "a", "user": "u"}),
        ({"image": "a"}, {"image": None}, {"image": "a"}),
        ({"command": ["a", "b"]}, {"command": ["c"]}, {"command": ["c"]}),
        ({"command": "a b"}, {"command": None}, {"command": None}),
        ({"cap_add": ["A"]}, {"cap_add": ["B"]}, {"cap_add": ["A", "B"]}),
        ({"environment": {"A": 1}}, {"environment": ["B=2"]}, {"environment": ["A=1", "B=2"]}),
        ({"environment": ["A=1"]}, {"environment": {"A": True}}, {"environment": ["A=true"]}),
        ({"environment": {"A": None}}, {"environment": {}}, {"environment": ["A"]}),
        ({"labels": ["x=1"]}, {"labels": {"x": "2"}}, {"labels": ["x=2"]}),
        ({"dns": "1.1.1.1"}, {"dns": ["8.8.8.8"]}, {"dns": ["1.1.1.1", "8.8.8.8"]}),
        (
            {"extra_hosts": ["a=1"]},
            {"extra_hosts": ["a=1", "b=2"]},
            {"extra_hosts": ["a=1", "b=2"]},
        ),
        ({"build": "."}, {"build": {"target": "t"}}, {"build": {"context": ".", "target": "t"}}),
        ({"build": {"args": ["A=1"]}}, {"build": {"args": {"A": 2}}}, {"build": {"args": ["A=2"]}}),
        ({"networks": ["n"]}, {"networks": {"m": None}}, {"networks": {"n": None, "m": None}}),
        (
            {"depends_on": ["d"]},
            {"depends_on": {"d": {"condition": "service_healthy"}}},
            {"depends_on": {"d": {"condition": "service_healthy", "required": True}}},
        ),
        ({"volumes": ["./a:/x"]}, {"volumes": ["./b:/x", "c:/y"]}, {"volumes": ["./b:/x", "c:/y"]}),
        ({"ports": ["80:80"]}, {"ports": ["80:80", "81:81"]}, {"ports": ["80:80", "81:81"]}),
        (
            {"logging": {"driver": "a", "options": {"x": "1"}}},
            {"logging": {"driver": "b", "options": {"y": "2"}}},
            {"logging": {"driver": "b", "options": {"y": "2"}}},
        ),
        (
            {"logging": {"driver": "a", "options": {"x": "1"}}},
            {"logging": {"options": {"y": "2"}}},
            {"logging": {"driver": "a", "options": {"x": "1", "y": "2"}}},
        ),
        (
            {"ulimits": {"nofile": {"soft": 1, "hard": 2}}},
            {"ulimits": {"nofile": 3}},
            {"ulimits": {"nofile": 3}},
        ),
        (
            {"healthcheck": {"test": ["CMD", "a"], "retries": 1}},
            {"healthcheck": {"test": "b"}},
            {"healthcheck": {"test": "b", "retries": 1}},
        ),
        (
            {"secrets": ["s"]},
            {"secrets": [{"source": "s", "uid": "1"}]},
            {"secrets": [{"source": "s", "uid": "1"}]},
        ),
    ],
)
def test_each_key_merges_by_its_rule(base, other, result):
    assert merged(base, other) == result


def test_what_cannot_be_merged_is_a_mistake():
    problems = Problems()
    Merge(problems).trees(
        marked({"services": {"a": {"deploy": {"mode": "x"}}}}),
        marked({"services": {"a": {"deploy": 5}}}),
    )
    assert [problem.message for problem in problems.found] == [
        "services.a.deploy: cannot override a mapping with another kind of value"
    ]


SCALARS = st.one_of(st.text(alphabet="abc", max_size=3), st.integers(0, 9), st.booleans())
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "image": st.text(alphabet="abc", min_size=1, max_size=3),
        "command": st.lists(st.text(alphabet="ab", max_size=2), max_size=3),
        "environment": st.dictionaries(
            st.text(alphabet="AB", min_size=1, max_size=2), SCALARS, max_size=3
        ),
        "cap_add": st.lists(st.sampled_from("XYZ"), unique=True, max_size=3),
        "networks": st.lists(st.sampled_from(["n", "m"]), unique=True),
        "volumes": st.lists(st.sampled_from(["a:/a", "b:/b"]), unique=True),
        "dns": st.lists(st.sampled_from(["1.1.1.1", "8.8.8.8"]), unique=True),
    },
)


@given(SERVICES)
def test_merging_a_service_with_itself_changes_nothing_further(service):
    once = merged(deepcopy(service), deepcopy(service))
    assert merged(deepcopy(once), deepcopy(service)) == once


@given(SERVICES, SERVICES)
def test_the_last_scalar_wins_and_nothing_else_is_lost(first, second):
    result = merged(deepcopy(first), deepcopy(second))
    assert result.keys() == first.keys() | second.keys()
    for key in ("image", "command"):
        if key in second:
            assert result[key] == second[key]


@given(SERVICES)
def test_an_empty_tree_over_a_service_leaves_it_alone(service):
    assert merged(deepcopy(service), {}) == service
