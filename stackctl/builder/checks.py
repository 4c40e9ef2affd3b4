"""Build checks: what a Dockerfile had better not do, by the rules and names of Docker's builder; pure.

They run where the file asks for it (``# check=error=true``, ``# check=skip=Rule,Other``) or the build argument
BUILDKIT_DOCKERFILE_CHECK does, in the same words; then findings are warnings, or with ``error`` the end of the build.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from stackctl.builder import instructions as ins
from stackctl.builder.instructions import Instruction
from stackctl.builder.parser import Dockerfile
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_SECRET = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"(?:^|_)public(?:_|$)", re.IGNORECASE)


@frozen
class Finding:
    """One violation of a rule."""

    rule: str
    line: int
    message: str


@frozen
class Options:
    """Which rules to leave out ("all" for every one), and whether a finding ends the build."""

    skip: frozenset[str] = frozenset()
    error: bool = False


def read_options(file: Dockerfile, args: Mapping[str, str]) -> Options | None:
    """Return what was asked for, None when nothing was; raises InvalidInputError for an option there is not."""
    text = args.get(ARGUMENT, file.check)
    if not text:
        return None
    skip: set[str] = set()
    error = False
    for part in text.split(";"):
        name, equals, value = (word.strip() for word in part.partition("="))
        if name == "skip" and equals:
            skip |= {word.strip().lower() for word in value.split(",")}
        elif name == "error" and value.lower() in ("true", "false", "1", "0"):
            error = value.lower() in ("true", "1")
        elif name != "experimental":
            raise file.error(
                1, f"invalid check option {part.strip()[:60]!r}", hint="skip=RULE,… or error=true"
            )
    return Options(skip=frozenset(skip), error=error)


def findings(
    file: Dockerfile, instructions: Sequence[Instruction], options: Options
) -> tuple[Finding, ...]:
    """Return the violations of the rules that are not skipped, in the file's order."""
    if "all" in options.skip:
        return ()
    every = [*_continuations(file), *(item for rule in _RULES for item in rule(instructions))]
    found = [item for item in every if item.rule.lower() not in options.skip]
    return tuple(sorted(found, key=lambda item: item.line))


def listed(file: Dockerfile, found: Sequence[Finding]) -> str:
    """Return findings as one text: how many, then each with its line of the file."""
    count = f"{len(found)} finding" + ("s" if len(found) > 1 else "")
    texts = [file.error(item.line, f"{item.rule}: {item.message}").message for item in found]
    return "\n".join([f"the check of {file.name} has {count}", *texts])


def refuse(file: Dockerfile, found: Sequence[Finding]) -> InvalidInputError:
    """Return the error that findings are under ``error=true``."""
    rules = ", ".join(dict.fromkeys(item.rule for item in found))
    first = found[0]
    return file.error(
        first.line,
        f"{first.rule}: {first.message}",
        hint=f"the file ends its build on findings (check=error=true); rules violated: {rules}",
    )


def _stages(instructions: Sequence[Instruction]) -> list[list[Instruction]]:
    stages: list[list[Instruction]] = []
    for item in instructions:
        if isinstance(item, ins.From):
            stages.append([])
        if stages:
            stages[-1].append(item)
    return stages


def _casing(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    words = [(item.line, item.original.split(None, 1)[0]) for item in instructions]
    upper = sum(word.isupper() for _, word in words)
    wanted = str.upper if upper * 2 >= len(words) else str.lower
    for line, word in words:
        if word != wanted(word):
            text = f"the command {word!r} should be written as the others: {wanted(word)!r}"
            yield Finding(rule="ConsistentInstructionCasing", line=line, message=text)


def _from_casing(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for item in instructions:
        if not isinstance(item, ins.From) or not item.name:
            continue
        words = item.original.split()
        keyword, mark, name = words[0], words[-2], words[-1]
        if keyword.isupper() != mark.isupper():
            text = f"{mark!r} and {keyword!r} should be written alike"
            yield Finding(rule="FromAsCasing", line=item.line, message=text)
        if name != name.lower():
            text = f"the stage name {name!r} should be in lower case"
            yield Finding(rule="StageNameCasing", line=item.line, message=text)


def _stage_names(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    seen: set[str] = set()
    for item in instructions:
        if not isinstance(item, ins.From) or not item.name:
            continue
        if item.name in seen:
            text = f"the stage name {item.name!r} is there already"
            yield Finding(rule="DuplicateStageName", line=item.line, message=text)
        if item.name in ("scratch", "context"):
            text = f"the stage name {item.name!r} is reserved"
            yield Finding(rule="ReservedStageName", line=item.line, message=text)
        seen.add(item.name)


def _json_form(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for stage in _stages(instructions):
        shell = False
        for item in stage:
            shell = shell or isinstance(item, ins.Shell)
            if isinstance(item, ins.Cmd | ins.Entrypoint) and item.shell and not shell:
                word = item.original.split(None, 1)[0].upper()
                text = f"the exec form (JSON) of {word} lets signals reach the program"
                yield Finding(rule="JSONArgsRecommended", line=item.line, message=text)


def _repeated(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for stage in _stages(instructions):
        for kind in (ins.Cmd, ins.Entrypoint, ins.HealthcheckInstruction):
            of_kind = [item for item in stage if isinstance(item, kind)]
            for item in of_kind[:-1]:
                word = item.original.split(None, 1)[0].upper()
                text = f"only the last {word} of a stage counts"
                yield Finding(rule="MultipleInstructionsDisallowed", line=item.line, message=text)


def _old_forms(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for item in instructions:
        if isinstance(item, ins.Maintainer):
            text = "MAINTAINER is deprecated in favour of a LABEL"
            yield Finding(rule="MaintainerDeprecated", line=item.line, message=text)
        if isinstance(item, ins.Pairs) and "=" not in item.original.split()[1]:
            text = f"{item.original.split()[0]} should be written name=value"
            yield Finding(rule="LegacyKeyValueFormat", line=item.line, message=text)


def _work_directories(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for stage in _stages(instructions):
        anchored = False
        for item in stage:
            if not isinstance(item, ins.Workdir):
                continue
            if not anchored and not item.path.startswith(("/", "$")):
                text = f"the relative directory {item.path[:60]!r} depends on the base image"
                yield Finding(rule="WorkdirRelativePath", line=item.line, message=text)
            anchored = True


def _secrets(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for item in instructions:
        names: list[str] = []
        if isinstance(item, ins.Env):
            names = [name for name, _ in item.pairs]
        elif isinstance(item, ins.Arg):
            names = [name for name, _ in item.args]
        for name in names:
            if _SECRET.search(name) and not _NOT_SECRET.search(name):
                text = f"{name[:60]!r} looks like a secret, and stays readable in the image"
                yield Finding(rule="SecretsUsedInArgOrEnv", line=item.line, message=text)


def _platforms(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for item in instructions:
        if not isinstance(item, ins.From) or not item.platform:
            continue
        if item.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            text = "the target platform is what FROM takes anyway"
            yield Finding(rule="RedundantTargetPlatform", line=item.line, message=text)
        elif "$" not in item.platform:
            text = f"--platform should not be the constant {item.platform[:40]!r}"
            yield Finding(rule="FromPlatformFlagConstDisallowed", line=item.line, message=text)


def _from_arguments(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    known = {f"{side}{part}" for side in ("BUILD", "TARGET") for part in _PLATFORM_PARTS}
    outside = True
    for item in instructions:
        if isinstance(item, ins.From):
            outside = False
            for name in _VARIABLE.findall(f"{item.image} {item.platform}"):
                if name not in known:
                    text = f"FROM uses {name[:60]!r}, which no ARG before the first FROM declares"
                    yield Finding(rule="UndefinedArgInFrom", line=item.line, message=text)
        elif outside and isinstance(item, ins.Arg):
            known |= {name for name, _ in item.args}


_PLATFORM_PARTS = ("PLATFORM", "OS", "ARCH", "VARIANT", "OSVERSION")


def _continuations(file: Dockerfile) -> Iterator[Finding]:
    for statement in file.statements:
        if statement.heredocs:
            continue
        lines = file.lines[statement.line - 1 : statement.end_line]
        for number, line in enumerate(lines, statement.line):
            if not line.strip():
                text = "an empty line inside a continued instruction"
                yield Finding(rule="NoEmptyContinuation", line=number, message=text)
                break


_RULES: Sequence[Callable[[Sequence[Instruction]], Iterator[Finding]]] = (
    _casing, _from_casing, _stage_names, _json_form, _repeated, _old_forms, _work_directories, _secrets,
    _platforms, _from_arguments,
)  # fmt: skip
