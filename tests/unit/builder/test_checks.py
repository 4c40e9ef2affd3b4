"""Build checks: each rule finds what it names, and nothing in a file that keeps them."""

import json

import pytest

from stackctl.builder.checks import ARGUMENT, Options, findings, read_options
from stackctl.builder.instructions import read_text
from stackctl.errors import InvalidInputError
from tests.conformance.checks import CHECKS, RECORDED

GOOD = """ARG BASE=x
FROM --platform=$BUILDPLATFORM $BASE AS one
ARG VERSION
ENV PUBLIC_KEY=a
WORKDIR /w
WORKDIR sub
RUN a && \\
    # a comment
    b
SHELL ["/bin/sh", "-ec"]
CMD x
FROM one
ENTRYPOINT ["y"]
HEALTHCHECK CMD true
"""


def found(text: str, skip: frozenset[str] = frozenset()) -> list[tuple[str, int]]:
    file, instructions = read_text(text)
    return [(item.rule, item.line) for item in findings(file, instructions, Options(skip=skip))]


def test_a_file_that_keeps_the_rules_has_no_findings():
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("FROM x\nrun a\nRUN b\n", "ConsistentInstructionCasing", 2),
        ("FROM x as one\n", "FromAsCasing", 1),
        ("FROM x AS One\n", "StageNameCasing", 1),
        ("FROM x AS a\nFROM y AS a\n", "DuplicateStageName", 2),
        ("FROM x AS scratch\n", "ReservedStageName", 1),
        ("FROM x\nCMD a b\n", "JSONArgsRecommended", 2),
        ('FROM x\nCMD ["a"]\nCMD ["b"]\n', "MultipleInstructionsDisallowed", 2),
        ("FROM x\nMAINTAINER me\n", "MaintainerDeprecated", 2),
        ("FROM x\nENV A b\n", "LegacyKeyValueFormat", 2),
        ("FROM x\nWORKDIR w\n", "WorkdirRelativePath", 2),
        ("FROM x\nENV DB_PASSWORD=a\n", "SecretsUsedInArgOrEnv", 2),
        ("FROM x\nARG TOKEN\n", "SecretsUsedInArgOrEnv", 2),
        ("FROM --platform=linux/amd64 x\n", "FromPlatformFlagConstDisallowed", 1),
        ("FROM --platform=$TARGETPLATFORM x\n", "RedundantTargetPlatform", 1),
        ("FROM x:$TAG\n", "UndefinedArgInFrom", 1),
        ("FROM x\nRUN a \\\n\n  b\n", "NoEmptyContinuation", 4),
    ],
)
def test_a_rule_finds_what_it_names_unless_it_is_skipped(text, rule, line):
    assert found(text) == [(rule, line)]
    assert found(text, frozenset({rule.lower()})) == []
    assert found(text, frozenset({"all"})) == []


def test_options_come_from_the_file_or_the_argument():
    file, _ = read_text("# check=skip=A, B;error=true\nFROM x\n")
    assert read_options(file, {}) == Options(skip=frozenset({"a", "b"}), error=True)
    assert read_options(file, {ARGUMENT: "skip=all"}) == Options(skip=frozenset({"all"}))
    plain, _ = read_text("FROM x\n")
    assert read_options(plain, {}) is None
    with pytest.raises(InvalidInputError, match="Dockerfile:1: invalid check option"):
        read_options(plain, {ARGUMENT: "wrong"})


RECORD = json.loads(RECORDED.read_text())


def test_every_recorded_check_has_its_dockerfile():
    assert sorted(RECORD) == sorted(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_find_what_dockers_find(name):
    file, instructions = read_text(CHECKS[name])
    options = read_options(file, {}) or Options()
    found = findings(file, instructions, options, lambda _: ())
    assert sorted([item.rule, item.line] for item in found) == RECORD[name], found


def test_what_may_come_from_an_image_that_is_not_known_is_not_called_undefined():
    file, instructions = read_text("FROM somewhere AS a\nENV A=$B\nFROM a\nENV C=$D\n")
    assert findings(file, instructions, Options()) == ()
