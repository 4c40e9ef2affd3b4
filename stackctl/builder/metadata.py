"""Instructions that change only the image's configuration; pure."""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stackctl.builder import instructions as ins
from stackctl.builder.expand import ExpandError, expand
from stackctl.builder.image import State
from stackctl.builder.parser import Dockerfile
from stackctl.contracts.state import ImageConfig
from stackctl.engine.signals import signal_number
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

DEFAULT_SHELL = ("/bin/sh", "-c")
PROXY_ARGS = frozenset(
    name
    for word in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (word, word.lower())
)
# A host's address and port before it say nothing of the image, as in Docker.
_PORT = re.compile(
    r"(?:(?:[0-9.]+:|\[[0-9a-fA-F:]+\]:)?(?:[0-9]{1,5}(?:-[0-9]{1,5})?)?:)?"
    r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/([A-Za-z]+))?",
    re.ASCII,
)


@frozen
class Scope:
    """Where an instruction stands: its file (for messages) and the variables it sees."""

    file: Dockerfile
    line: int
    variables: Mapping[str, str]

    def text(self, text: str) -> str:
        """Return the text with variables replaced; raises InvalidInputError naming the line."""
        return self.words(text)[0]

    def words(self, text: str) -> tuple[str, tuple[str, ...]]:
        try:
            result = expand(text, self.variables, escape=self.file.escape)
        except ExpandError as error:
            raise self.error(f"failed to process {text[:120]!r}: {error}") from error
        return result.text, result.words

    def error(self, message: str, *, hint: str = "") -> InvalidInputError:
        return self.file.error(self.line, message, hint=hint)


@frozen
class Changed:
    """What an instruction makes of a configuration, and how the history words it."""

    config: ImageConfig
    created_by: str
    author: str = ""


def variables(state: State) -> dict[str, str]:
    """Return what an instruction sees: the environment, over it the build arguments that were declared after it."""
    env = dict(item.partition("=")[::2] for item in state.config.env)
    return {**env, **state.args}


def proxy_env(given: Mapping[str, str]) -> dict[str, str]:
    """Return what the proxy arguments of a build set in its steps: every program reads one case of the names."""
    return {
        name: value
        for key, value in given.items()
        if key in PROXY_ARGS
        for name in (key.upper(), key.lower())
    }


def with_env(env: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return the environment with variables set; those that are there keep their place."""
    values = dict(item.partition("=")[::2] for item in env)
    values.update(pairs)
    return tuple(f"{name}={value}" for name, value in values.items())


def change(
    instruction: ins.Instruction, state: State, scope: Scope, *, cmd_set: bool = True
) -> Changed | None:
    """Return the changed configuration; None when the instruction is not one of these.

    ``cmd_set`` tells that CMD was set in this stage, so that ENTRYPOINT leaves it alone.
    """
    if isinstance(instruction, ins.Entrypoint):
        config, words = _entrypoint(instruction, state.config)
        return Changed(
            config=config if cmd_set else replace(config, cmd=None), created_by=_nop(words)
        )
    reader = _CHANGES.get(type(instruction))
    if reader is None:
        return None
    if isinstance(instruction, ins.Maintainer):
        return Changed(
            config=state.config,
            created_by=_nop(f"MAINTAINER {instruction.name}"),
            author=instruction.name,
        )
    config, words = reader(instruction, state.config, scope)
    return Changed(config=config, created_by=_nop(words))


def _nop(words: str) -> str:
    return f"/bin/sh -c #(nop)  {words}"


def shell_of(config: ImageConfig) -> tuple[str, ...]:
    return config.shell or DEFAULT_SHELL


def _resolved(instruction: ins.Command, config: ImageConfig) -> tuple[str, ...]:
    if instruction.shell and instruction.args:
        return (*shell_of(config), *instruction.args)
    return instruction.args


def _cmd(instruction: ins.Cmd, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    del scope
    args = _resolved(instruction, config)
    return replace(config, cmd=args), f"CMD {ins.command_text(args)}"


def _entrypoint(instruction: ins.Entrypoint, config: ImageConfig) -> tuple[ImageConfig, str]:
    args = _resolved(instruction, config)
    return replace(config, entrypoint=args or None), f"ENTRYPOINT {ins.command_text(args)}"


def _env(instruction: ins.Env, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    pairs = [(scope.text(name), scope.text(value)) for name, value in instruction.pairs]
    for name, _ in pairs:
        if not name or "=" in name:
            raise scope.error("ENV names can not be blank")
    words = " ".join(f"{name}={value}" for name, value in pairs)
    return replace(config, env=with_env(config.env, pairs)), f"ENV {words}"


def _label(instruction: ins.Label, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    pairs = [(scope.text(name), scope.text(value)) for name, value in instruction.pairs]
    words = " ".join(f"{name}={value}" for name, value in pairs)
    return replace(config, labels={**config.labels, **dict(pairs)}), f"LABEL {words}"


def _user(instruction: ins.User, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    user = scope.text(instruction.user)
    return replace(config, user=user), f"USER {user}"


def _expose(instruction: ins.Expose, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    ports = []
    for text in instruction.ports:
        for word in scope.words(text)[1]:
            ports += _ports(word, scope)
    known = dict.fromkeys((*config.exposed_ports, *ports))
    return replace(config, exposed_ports=tuple(sorted(known))), f"EXPOSE {' '.join(ports)}"


def _ports(word: str, scope: Scope) -> list[str]:
    match = _PORT.fullmatch(word)
    protocol = (match[3] or "tcp").lower() if match else ""
    if match is None or protocol not in ("tcp", "udp", "sctp"):
        raise scope.error(
            f"invalid containerPort: {word[:60]}", hint="write it as 80, 80/udp or 8000-8010"
        )
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise scope.error(f"invalid containerPort: {word[:60]}: ports are at most 65535")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(instruction: ins.Volume, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    paths = [scope.text(path).strip() for path in instruction.paths]
    if not all(paths):
        raise scope.error("VOLUME specified can not be an empty string")
    volumes = tuple(sorted({*config.volumes, *paths}))
    return replace(config, volumes=volumes), f"VOLUME {ins.command_text(paths)}"


def _healthcheck(
    instruction: ins.HealthcheckInstruction, config: ImageConfig, scope: Scope
) -> tuple[ImageConfig, str]:
    del scope
    words = f"HEALTHCHECK {ins.command_text(instruction.check.test)}"
    return replace(config, healthcheck=instruction.check), words


def _stopsignal(
    instruction: ins.Stopsignal, config: ImageConfig, scope: Scope
) -> tuple[ImageConfig, str]:
    signal = scope.text(instruction.signal)
    try:
        signal_number(signal)
    except InvalidInputError as error:
        raise scope.error(f"invalid signal: {signal[:40]}") from error
    return replace(config, stop_signal=signal), f"STOPSIGNAL {signal}"


def _shell(instruction: ins.Shell, config: ImageConfig, scope: Scope) -> tuple[ImageConfig, str]:
    del scope
    words = f"SHELL {ins.command_text(instruction.shell)}"
    return replace(config, shell=instruction.shell), words


def _onbuild(
    instruction: ins.Onbuild, config: ImageConfig, scope: Scope
) -> tuple[ImageConfig, str]:
    del scope
    triggers = (*config.on_build, instruction.trigger)
    return replace(config, on_build=triggers), f"ONBUILD {instruction.trigger}"


def _same(
    instruction: ins.Instruction, config: ImageConfig, scope: Scope
) -> tuple[ImageConfig, str]:
    del instruction, scope
    return config, ""


_CHANGES: Mapping[type[ins.Instruction], Callable[..., tuple[ImageConfig, str]]] = {
    ins.Cmd: _cmd,
    ins.Env: _env,
    ins.Expose: _expose,
    ins.HealthcheckInstruction: _healthcheck,
    ins.Label: _label,
    ins.Maintainer: _same,
    ins.Onbuild: _onbuild,
    ins.Shell: _shell,
    ins.Stopsignal: _stopsignal,
    ins.User: _user,
    ins.Volume: _volume,
}


def declared(
    instruction: ins.Arg,
    state: State,
    scope: Scope,
    given: Mapping[str, str],
    outer: Mapping[str, str],
) -> tuple[State, str]:
    """Return the state with an ARG in scope: given, else its default, else what ARG before FROM said."""
    args = dict(state.args)
    words = []
    for name, default in instruction.args:
        seen = replace(scope, variables={**scope.variables, **args})
        value = given.get(name)
        shown = default
        if value is None and default is not None:
            # A default that is not taken is not looked at either: it may ask for what is not there.
            value = shown = seen.text(default)
        value = outer.get(name) if value is None else value
        if value is not None:
            args[name] = value
        words.append(name if shown is None else f"{name}={shown}")
    return replace(state, args=args), _nop(f"ARG {' '.join(words)}")


def working_dir(instruction: ins.Workdir, state: State, scope: Scope) -> str:
    """Return the absolute directory a WORKDIR means: where it was, when variables leave nothing of it.

    One that is written absolute stays as it is written, as Docker has it: a ".." in it goes through symlinks.
    """
    path = scope.text(instruction.path)
    return path if path.startswith("/") else absolute(state, path)


def absolute(state: State, path: str) -> str:
    """Return a path of the image as absolute, relative ones below the working directory."""
    joined = posixpath.join("/", state.config.working_dir, path)
    return posixpath.normpath(re.sub(r"^//+", "/", joined))
