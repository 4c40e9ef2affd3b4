"""The stage graph and the target; pure.

A stage is what stands between two FROMs. It needs the stages its FROM, its COPY --from and its RUN --mount=from name;
stages that the target does not need are not built.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from stackctl.builder.expand import ExpandError, expand
from stackctl.builder.instructions import (
    Arg,
    Copy,
    From,
    Instruction,
    Onbuild,
    Run,
    read_trigger,
)
from stackctl.builder.parser import Dockerfile, suggestion
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

SCRATCH = "scratch"


@frozen
class Stage:
    """One stage. ``base`` is the expanded FROM; ``parent`` the index of the stage it names, or None for an image.

    ``first_step`` is the number of its FROM among the steps that are built, counted from 1.
    """

    index: int
    name: str
    base: str
    parent: int | None
    platform: str
    start: From
    instructions: tuple[Instruction, ...]
    needs: frozenset[int]
    first_step: int = 0


@frozen
class StagePlan:
    """The stages to build, in the file's order, the last one the target; ``global_args`` are ARGs before FROM."""

    stages: tuple[Stage, ...]
    target: int
    steps: int
    global_args: Mapping[str, str]
    unused_args: frozenset[str]


def plan_stages(
    file: Dockerfile,
    instructions: Sequence[Instruction],
    *,
    target: str = "",
    args: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
    named: Collection[str] = (),
    triggers_of: Callable[[str], Sequence[str]] = lambda _: (),
) -> StagePlan:
    """Return what is to be built; raises InvalidInputError naming the line.

    ``args`` are the build arguments given, ``defaults`` values known without being declared (BUILDPLATFORM …),
    ``named`` the named contexts, which go before stages of the same name. ``triggers_of`` tells the ONBUILD triggers of an
    image, as far as they are known.
    """
    given = dict(args or {})
    head, groups = _split(file, instructions)
    global_args = _global_args(file, head, given, dict(defaults or {}))
    visible = {**(defaults or {}), **global_args}
    stages: list[Stage] = []
    by_name: dict[str, int] = {}
    for index, (start, body) in enumerate(groups):
        base = _expanded(file, start.line, start.image, visible)
        if not base:
            raise file.error(
                start.line,
                f"base name ({start.image}) should not be blank",
                hint="Give the ARG before FROM a default.",
            )
        parent = None if base.lower() in named else by_name.get(base.lower())
        needs = {parent} if parent is not None else set()
        left = (
            [item.trigger for item in groups[parent][1] if isinstance(item, Onbuild)]
            if parent is not None
            else triggers_of(base)
        )
        triggers = _triggers(left, start.line)
        _refuse_cycle(file, body, start.name, by_name, named)
        needs |= _references(file, [*triggers, *body], by_name, index, named)
        stages.append(
            Stage(
                index=index,
                name=start.name,
                base=base,
                parent=parent,
                platform=_expanded(file, start.line, start.platform, visible),
                start=start,
                instructions=tuple(body),
                needs=frozenset(needs),
            )
        )
        if start.name:
            by_name[start.name] = index
    wanted = _target(file, stages, by_name, target)
    return _numbered(stages, wanted, global_args, given, head)


def find_stage(names: Mapping[str, int], reference: str, before: int) -> int | None:
    """Return the index of the stage a ``--from`` names, by name or number, among those before; else None."""
    if reference.lower() in names and names[reference.lower()] < before:
        return names[reference.lower()]
    if (
        reference.isascii()
        and reference.isdigit()
        and len(reference) < 6
        and int(reference) < before
    ):
        return int(reference)
    return None


def _split(
    file: Dockerfile, instructions: Sequence[Instruction]
) -> tuple[list[Arg], list[tuple[From, list[Instruction]]]]:
    head: list[Arg] = []
    groups: list[tuple[From, list[Instruction]]] = []
    for instruction in instructions:
        if isinstance(instruction, From):
            groups.append((instruction, []))
        elif groups:
            groups[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            head.append(instruction)
        else:
            raise file.error(
                instruction.line, "no build stage in current context: FROM must come first"
            )
    if not groups:
        raise file.error(head[-1].line, "the file has no FROM after its ARGs")
    return head, groups


def _global_args(
    file: Dockerfile, head: Sequence[Arg], given: Mapping[str, str], defaults: Mapping[str, str]
) -> dict[str, str]:
    known: dict[str, str] = {}
    for arg in head:
        for name, default in arg.args:
            if name in given:
                known[name] = given[name]
            elif default is not None:
                known[name] = _expanded(file, arg.line, default, {**defaults, **known})
            elif name in defaults:
                known[name] = defaults[name]
    return known


def _expanded(file: Dockerfile, line: int, text: str, variables: Mapping[str, str]) -> str:
    try:
        return expand(text, variables, escape=file.escape).text
    except ExpandError as error:
        raise file.error(line, f"failed to process {text[:120]!r}: {error}") from error


def _triggers(texts: Sequence[str], line: int) -> list[Instruction]:
    """Return what ONBUILD triggers do; one that is wrong is told when it is done."""
    found: list[Instruction] = []
    for text in texts:
        with contextlib.suppress(InvalidInputError):
            found.append(read_trigger(text, line=line))
    return found


def _refuse_cycle(
    file: Dockerfile,
    body: Sequence[Instruction],
    name: str,
    names: Mapping[str, int],
    named: Collection[str],
) -> None:
    """Raise for a stage that takes from itself, unless something before it has its name."""
    if not name or name in names or name in named:
        return
    for item in body:
        if name in (reference.lower() for reference in _sources(item)):
            raise file.error(item.line, f"circular dependency: the stage {name} takes from itself")


def _sources(item: Instruction) -> list[str]:
    """Return what an instruction takes files from: the names of stages, images and contexts."""
    if isinstance(item, Copy):
        return [item.from_] if item.from_ else []
    return [mount.from_ for mount in item.mounts if mount.from_] if isinstance(item, Run) else []


def _references(
    file: Dockerfile,
    body: Sequence[Instruction],
    names: Mapping[str, int],
    index: int,
    named: Collection[str],
) -> set[int]:
    found: set[int] = set()
    for instruction in body:
        for reference in _sources(instruction):
            if reference.lower() in named:
                continue
            stage = find_stage(names, reference, index)
            if stage is not None:
                found.add(stage)
            elif reference.isascii() and reference.isdigit():
                raise file.error(
                    instruction.line,
                    f"invalid from flag value {reference[:40]}: no stage before this one has that number",
                )
    return found


def _target(
    file: Dockerfile, stages: Sequence[Stage], names: Mapping[str, int], target: str
) -> int:
    if not target:
        return len(stages) - 1
    found = names.get(target.lower())
    if found is None:
        raise file.error(
            stages[-1].start.line,
            f"failed to reach build target {target[:80]} in Dockerfile{suggestion(target, names)}",
        )
    return found


def _numbered(
    stages: Sequence[Stage],
    target: int,
    global_args: Mapping[str, str],
    given: Mapping[str, str],
    head: Sequence[Arg],
) -> StagePlan:
    needed: set[int] = set()
    waiting = [target]
    while waiting:
        index = waiting.pop()
        if index not in needed:
            needed.add(index)
            waiting.extend(stages[index].needs)
    built: list[Stage] = []
    step = len(head) + 1
    for stage in stages:
        if stage.index in needed:
            built.append(replace(stage, first_step=step))
            step += 1 + len(stage.instructions)
    declared = {name for arg in head for name, _ in arg.args} | {
        name
        for stage in stages
        for instruction in stage.instructions
        if isinstance(instruction, Arg)
        for name, _ in instruction.args
    }
    return StagePlan(
        stages=tuple(built),
        target=target,
        steps=step - 1,
        global_args=dict(global_args),
        unused_args=frozenset(name for name in given if name not in declared),
    )
