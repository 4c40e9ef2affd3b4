"""Build checks: what a Dockerfile had better not do, by the rules and names of Docker's builder; pure.

They run where the file asks for it (``# check=error=true``, ``# check=skip=Rule,Other``) or the build argument
BUILDKIT_DOCKERFILE_CHECK does, in the same words; then findings are warnings, or with ``error`` the end of the build.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from stackctl.builder import instructions as ins
from stackctl.builder.expand import ExpandError, expand
from stackctl.builder.instructions import Instruction
from stackctl.builder.parser import Dockerfile, suggestion
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

EnvOf = Callable[[str], Collection[str] | None]
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
    file: Dockerfile,
    instructions: Sequence[Instruction],
    options: Options,
    env_of: EnvOf = lambda _: None,
) -> tuple[Finding, ...]:
    """Return the violations of the rules that are not skipped, in the file's order.

    ``env_of`` tells the names of an image's variables, None where they are not known: then nothing that may come from
    it is called undefined.
    """
    if "all" in options.skip:
        return ()
    every = [
        *_continuations(file),
        *(item for rule in _RULES for item in rule(instructions)),
        *_undefined(instructions, env_of, file.escape),
    ]
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


def _parents(stages: Sequence[Sequence[Instruction]]) -> list[int | None]:
    """Return for each stage the number of the one that it is FROM, None for an image."""
    known: dict[str, int] = {}
    found: list[int | None] = []
    for number, stage in enumerate(stages):
        start = stage[0]
        base = start.image.lower() if isinstance(start, ins.From) else ""
        found.append(known.get(base))
        if isinstance(start, ins.From) and start.name:
            known[start.name] = number
    return found


def _inherited(
    instructions: Sequence[Instruction], happens: Callable[[Instruction], bool]
) -> Iterator[tuple[Instruction, bool]]:
    """Yield every instruction of the stages with whether the thing happened before it, in its stage or those below."""
    stages = _stages(instructions)
    ends: list[bool] = []
    for stage, parent in zip(stages, _parents(stages), strict=True):
        happened = ends[parent] if parent is not None else False
        for item in stage:
            yield item, happened
            happened = happened or happens(item)
        ends.append(happened)


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
    for item, shell in _inherited(instructions, lambda item: isinstance(item, ins.Shell)):
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
    for item, anchored in _inherited(instructions, lambda item: isinstance(item, ins.Workdir)):
        if isinstance(item, ins.Workdir) and not anchored and not item.path.startswith(("/", "$")):
            text = f"the relative directory {item.path[:60]!r} depends on the base image"
            yield Finding(rule="WorkdirRelativePath", line=item.line, message=text)


def _ports(instructions: Sequence[Instruction]) -> Iterator[Finding]:
    for item in instructions:
        for port in item.ports if isinstance(item, ins.Expose) else ():
            if "/" in port and port != port.lower():
                text = f"the protocol of {port[:40]!r} should be in lower case"
                yield Finding(rule="ExposeProtoCasing", line=item.line, message=text)
            if ":" in port and "$" not in port:
                text = f"{port[:60]!r} names a host's address or port, which is none of the image's"
                yield Finding(rule="ExposeInvalidFormat", line=item.line, message=text)


def _undefined(
    instructions: Sequence[Instruction], env_of: EnvOf, escape: str
) -> Iterator[Finding]:
    stages = _stages(instructions)
    ends: list[set[str] | None] = []
    for stage, parent in zip(stages, _parents(stages), strict=True):
        start = stage[0]
        base = start.image if isinstance(start, ins.From) else ""
        below = ends[parent] if parent is not None else env_of(base)
        known = None if below is None else {*below, "PATH"}
        ends.append(known)
        if known is None:
            continue
        for item in stage:
            yield from _undefined_in(item, known, escape)
            if isinstance(item, ins.Env):
                known.update(name for name, _ in item.pairs)
            elif isinstance(item, ins.Arg):
                known.update(name for name, _ in item.args)


def _undefined_in(item: Instruction, known: set[str], escape: str) -> Iterator[Finding]:
    for text, is_heredoc in _texts(item):
        try:
            used = expand(
                text, dict.fromkeys(known, "x"), escape=escape, raw_quotes=is_heredoc
            ).used
        except ExpandError:
            continue
        for name in sorted(used - known):
            close = suggestion(name, known)
            message = f"the variable {name[:60]!r} is not defined{close}"
            yield Finding(rule="UndefinedVar", line=item.line, message=message)


def _texts(item: Instruction) -> list[tuple[str, bool]]:
    """Return the texts of an instruction in which variables are replaced, and whether each is a heredoc's."""
    texts: list[str] = []
    heredocs: list[str] = []
    if isinstance(item, ins.Pairs):
        texts = [word for pair in item.pairs for word in pair]
    elif isinstance(item, ins.Copy):
        texts = [*item.sources, item.destination, item.chown, item.chmod]
        heredocs = [one.text for one in item.heredocs if one.expand]
    elif isinstance(item, ins.Arg):
        texts = [default for _, default in item.args if default]
    elif isinstance(item, ins.Workdir):
        texts = [item.path]
    elif isinstance(item, ins.User):
        texts = [item.user]
    elif isinstance(item, ins.Volume):
        texts = [*item.paths]
    elif isinstance(item, ins.Stopsignal):
        texts = [item.signal]
    return [*((text, False) for text in texts), *((text, True) for text in heredocs)]


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
        elif "$" not in item.platform and not _named_for(item.name, item.platform):
            text = f"--platform should not be the constant {item.platform[:40]!r}"
            yield Finding(rule="FromPlatformFlagConstDisallowed", line=item.line, message=text)


def _named_for(stage: str, platform: str) -> bool:
    """Tell whether the name of a stage says that it is of that platform."""
    return any(part in stage for part in platform.lower().split("/") if part)


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
        if not all(line.strip() for line in lines):
            # Told at the end of the instruction, as Docker does.
            text = "an empty line inside a continued instruction"
            yield Finding(rule="NoEmptyContinuation", line=statement.end_line, message=text)


_RULES: Sequence[Callable[[Sequence[Instruction]], Iterator[Finding]]] = (
    _casing, _from_casing, _stage_names, _json_form, _repeated, _old_forms, _work_directories, _secrets,
    _platforms, _from_arguments, _ports,
)  # fmt: skip
