"""The schema, and what is said about departures from it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stackctl.orchestrator.stackfile.marks import Map, Seq
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.schema import _Compiler, load_schema, validate

SCHEMA = json.loads(Path(__file__).parents[4].joinpath("schemas/stack.schema.json").read_text())
INDEPENDENT = Draft202012Validator(SCHEMA)


def marked(value):
    if isinstance(value, dict):
        made = Map()
        made.update({key: marked(item) for key, item in value.items()})
        return made
    return Seq(map(marked, value)) if isinstance(value, list) else value


def ours_accepts(tree):
    problems = Problems()
    validate(marked(tree), problems)
    return not problems.found


def test_every_keyword_of_the_schema_is_understood():
    compiler = _Compiler(SCHEMA)
    found = [(word, part) for word in ("type", "oneOf", "$ref") for _, part in parts_with(word)]
    # A property may be called "type".
    parts = [part for word, part in found if isinstance(part[word], str | list)]
    assert len(parts) > 300
    for part in parts:
        compiler.compile(part)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert load_schema() == SCHEMA


def test_every_key_of_a_service_is_described():
    service = SCHEMA["$defs"]["service"]["properties"]
    assert len(service) == 93 + len(["x-ready"])
    for name, part in service.items():
        target = SCHEMA["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part
        assert part.get("description") or target.get("description"), name


def service(**keys):
    return {"services": {"web": {"image": "x", **keys}}}


TREES = [
    {},
    service(),
    service(ports=["80:80", 81, {"target": 80}]),
    service(ports=["80:80", "80:80"]),
    service(ports=[{"targe": 80}]),
    service(ports=None),
    service(cpu_percent=50),
    service(cpu_percent=50.5),
    service(cpu_percent=500),
    service(cpu_percent="50"),
    service(environment={"A": 1, "B": None, "C": True}),
    service(environment={"A": [1]}),
    service(environment=["A=1", "A=1"]),
    service(networks={"a": None, "b": {"aliases": ["x"]}}),
    service(networks={"a": {"alias": ["x"]}}),
    service(depends_on={"a": {"condition": "service_healthy"}}),
    service(depends_on={"a": {"condition": "healthy"}}),
    service(depends_on={"a": {}}),
    service(volumes=[{"type": "bind", "source": "a", "target": "b"}]),
    service(volumes=[{"type": "nfs"}]),
    service(volumes=[{"source": "a"}]),
    service(volumes=[{"type": "tmpfs", "tmpfs": {"size": -1}}]),
    service(healthcheck={"test": ["CMD", 1]}),
    service(pull_policy="sometimes"),
    service(pull_policy="every_2h"),
    service(**{"x-any": [1, {"a": None}]}),
    service(imag="x"),
    service(command=None),
    service(entrypoint=["a", 1]),
    service(ulimits={"nofile": {"soft": 1}}),
    service(develop=None, deploy=None),
    service(deploy={"resources": {"limits": {"memory": 5}}}),
    service(gpus="all"),
    service(gpus="some"),
    service(scale=1.0),
    service(scale=1.5),
    service(pre_start=[{"command": ["a"], "image": "i"}]),
    {"services": {"no name": {}}},
    {"services": []},
    {"networks": {"n": None, "m": {"external": True}}},
    {"networks": {"n m": []}},
    {"models": {"m": {"model": "x"}, "n": {}}},
    {"secrets": {"s": None}},
    {"x-any": 5},
    {"servics": {}},
]


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_an_independent_validator_agrees(tree):
    assert ours_accepts(tree) == INDEPENDENT.is_valid(tree)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2000), st.sampled_from(["a", "b", "10s"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["a", "target", "source", "type", "x-a"]), inner, max_size=3
        ),
    ),
    max_leaves=4,
)
KEYS = sorted(SCHEMA["$defs"]["service"]["properties"])


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_an_independent_validator_agrees_about_any_service(keys):
    tree = {"services": {"web": keys}}
    assert ours_accepts(tree) == INDEPENDENT.is_valid(tree)


@pytest.mark.parametrize(
    ("body", "line", "column", "message", "hint"),
    [
        ("imgae: x", 3, 5, 'unknown key "imgae" (services.web)', 'did you mean "image"?'),
        (
            "dependsOn: [x]",
            3,
            5,
            'unknown key "dependsOn" (services.web)',
            'did you mean "depends_on"?',
        ),
        ("image: 5", 3, 12, "expected text, got the number 5", "quote it to make it text"),
        ("image: 2001-01-01", 3, 12, "expected text, got a date", "quote it to make it text"),
        ("cap_add: x", 3, 14, 'expected a list, got "x"', ""),
        ("command: [a, 1]", 3, 18, "expected text, got the number 1", "quote it to make it text"),
        ("networks: 5", 3, 15, "expected a list or a mapping, got the number 5", ""),
        (
            "cgroup: hots",
            3,
            13,
            'expected one of host, private; got "hots"',
            'did you mean "host"?',
        ),
        ("oom_score_adj: 5000", 3, 20, "5000 is more than 1000", ""),
        ("security_opt: [a, a]", 3, 23, "the same as item 0", ""),
        ("healthcheck: {retrys: 1}", 3, 19, 'unknown key "retrys"', 'did you mean "retries"?'),
        ("develop: {watch: [{path: x}]}", 3, 23, '"action" is missing', ""),
    ],
)
def test_a_departure_is_explained(problems, body, line, column, message, hint):
    found = problems(f"services:\n  web:\n    {body}\n")
    problem = next(problem for problem in found if message in problem.message)
    assert (problem.line, problem.column) == (line, column)
    assert problem.hint == hint
    assert problem.excerpt.strip() == body


def test_all_departures_and_undefined_names_are_told_in_one_run(problems):
    found = problems(
        """
        services:
          web:
            image: 5
            prots: ["80:80"]
            networks: [nope]
          db:
            image: x
            depends_on: [web, cache]
        """
    )
    assert [(problem.line, problem.where) for problem in found] == [
        (4, "services.web.image"),
        (5, "services.web.prots"),
        (6, "services.web.networks.nope"),
        (9, "services.db.depends_on.cache"),
    ]


def test_an_error_reads_like_a_compiler_message(problems):
    (problem,) = problems(
        "services:\n  web:\n    image: x\n    depends_on: [wbe]\n  web2:\n    image: y\n"
    )
    assert str(problem) == (
        'stack.yaml:4:18: service "web" depends on "wbe", which is not defined\n'
        "  4 |     depends_on: [wbe]\n"
        "    |                  ^\n"
        'hint: did you mean "web"?'
    )


def test_a_misspelt_key_is_not_missed_as_well(problems):
    (problem,) = problems("services:\n  web:\n    imgae: x\n")
    assert problem.hint == 'did you mean "image"?'


def parts_with(keyword, node=SCHEMA, path="#"):
    if isinstance(node, dict):
        if keyword in node and path != "#/properties":
            yield path, node
        for key, inner in node.items():
            if key not in ("examples", "default", "enum"):
                yield from parts_with(keyword, inner, f"{path}/{key}")
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from parts_with(keyword, inner, f"{path}/{index}")


def test_every_example_and_default_fits_its_own_part():
    wrong = []
    for keyword in ("examples", "default"):
        for path, part in parts_with(keyword):
            validator = Draft202012Validator({**part, "$defs": SCHEMA["$defs"]})
            values = part[keyword] if keyword == "examples" else [part[keyword]]
            wrong += [(path, value) for value in values if not validator.is_valid(value)]
    assert wrong == []


def resolved(part):
    if "$ref" not in part:
        return part
    return {**SCHEMA["$defs"][part["$ref"].removeprefix("#/$defs/")], **part}


def kinds(part):
    part = resolved(part)
    if "oneOf" in part:
        return {kind for option in part["oneOf"] for kind in kinds(option)}
    named = part.get("type", [])
    return {named} if isinstance(named, str) else set(named)


PROPERTIES = [
    (f"{path}/{name}", resolved(part), name in node.get("required", ()))
    for path, node in parts_with("properties")
    for name, part in node["properties"].items()
]
# Left out, these mean that there is none, or what another key or the engine says.
WITHOUT_DEFAULT = {"build", "extends", "provider", "exec", "http", "x-ready"}


@pytest.mark.parametrize("keyword", ["description", "examples"])
def test_an_editor_finds_a_description_and_an_example_for_every_property(keyword):
    assert len(PROPERTIES) > 300
    assert [path for path, part, _ in PROPERTIES if not part.get(keyword)] == []


def test_an_editor_finds_the_default_of_every_property_that_has_one():
    silent = [
        path
        for path, part, required in PROPERTIES
        if "default" not in part
        and not required
        and kinds(part) & {"boolean", "array", "object"}
        and path.rsplit("/", 1)[-1] not in WITHOUT_DEFAULT
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("path", "default"),
    [
        ("depends_on", {}),
        ("healthcheck", {}),
        ("scale", 1),
        ("shm_size", "64m"),
        ("cpu_period", 100_000),
        ("privileged", False),
    ],
)
def test_the_default_is_what_holds_when_the_key_is_left_out(path, default):
    assert resolved(SCHEMA["$defs"]["service"]["properties"][path])["default"] == default
