"""The ``changes`` of commit and import: Dockerfile instructions applied to an image's configuration; pure."""

from collections.abc import Sequence
from dataclasses import replace

from stackctl.builder import instructions as ins
from stackctl.builder.image import State
from stackctl.builder.instructions import read
from stackctl.builder.metadata import Scope, change, variables, working_dir
from stackctl.builder.parser import parse
from stackctl.contracts.state import ImageConfig
from stackctl.engine.image_config import ImageDocument
from stackctl.errors import InvalidInputError

_ALLOWED = (
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """Return the configuration after the instructions, which see its environment.

    Raises InvalidInputError in the words of a build, for instructions too that do more than change a configuration.
    """
    if not changes:
        return config
    file = parse("\n".join(changes), name="")
    for statement in file.statements:
        if statement.keyword not in _ALLOWED:
            word = statement.original.split()[0]
            raise InvalidInputError(
                f"{word[:40]} is not a valid change command",
                hint=f"these are: {', '.join(_ALLOWED)}",
            )
    cmd_set = False
    for instruction in read(file):
        state = State(document=ImageDocument(config=config))
        scope = Scope(file=file, line=instruction.line, variables=variables(state))
        if isinstance(instruction, ins.Workdir):
            config = replace(config, working_dir=working_dir(instruction, state, scope))
        elif (changed := change(instruction, state, scope, cmd_set=cmd_set)) is not None:
            config = changed.config
        cmd_set = cmd_set or isinstance(instruction, ins.Cmd)
    return config
