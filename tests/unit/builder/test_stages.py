"""Which stages are built."""

import pytest

from stackctl.builder.instructions import read_text
from stackctl.builder.stages import StagePlan, plan_stages
from stackctl.errors import InvalidInputError


def plan(text: str, **options) -> StagePlan:
    file, instructions = read_text(text)
    return plan_stages(file, instructions, **options)


THREE = "FROM a AS one\nRUN x\nFROM b AS two\nCOPY --from=one /x /x\nFROM c AS three\nRUN --mount=from=1,target=/m y\n"


def test_only_what_the_target_needs_is_built():
    assert [stage.index for stage in plan(THREE).stages] == [0, 1, 2]
    assert [stage.index for stage in plan(THREE, target="one").stages] == [0]
    assert [stage.index for stage in plan(THREE, target="two").stages] == [0, 1]
    assert plan(THREE, target="TWO").target == 1


def test_steps_are_numbered_over_the_stages_that_are_built():
    found = plan("ARG V=1\n" + THREE)
    assert [stage.first_step for stage in found.stages] == [2, 4, 6]
    assert found.steps == 7


def test_arguments_before_from_are_expanded_in_it():
    found = plan("ARG V=1\nARG W=${V}-x\nFROM img:$W\n", args={"V": "2", "U": "3"})
    assert found.stages[0].base == "img:2-x"
    assert found.unused_args == {"U"}


def test_a_stage_can_stand_on_another():
    assert plan("FROM a AS base\nFROM base\n").stages[1].parent == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN x\nFROM a", "Dockerfile:1: no build stage"),
        ("ARG X\nFROM $X", "Dockerfile:2: base name"),
        ("FROM a\nCOPY --from=1 /x /y", "Dockerfile:2: invalid from flag value 1"),
        ("FROM ${x", "Dockerfile:1: failed to process"),
    ],
)
def test_what_cannot_be_planned_is_located(text, words):
    with pytest.raises(InvalidInputError) as caught:
        plan(text)
    assert caught.value.message.startswith(words)


def test_an_unknown_target_gets_a_suggestion():
    with pytest.raises(InvalidInputError, match="did you mean three"):
        plan(THREE, target="thre")
