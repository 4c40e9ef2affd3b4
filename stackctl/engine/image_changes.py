"""The ``changes`` of commit and import: Dockerfile instructions applied to an image's configuration; pure."""

import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from stackctl.contracts.state import ImageConfig
from stackctl.errors import InvalidInputError

_DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """Return the configuration after the instructions. Raises InvalidInputError naming the instruction."""
    for change in changes:
        for line in change.replace("\\\n", " ").splitlines():
            if line.strip():
                config = _apply(config, line.strip())
    return config


def _apply(config: ImageConfig, line: str) -> ImageConfig:
    word, _, rest = line.partition(" ")
    instruction = _INSTRUCTIONS.get(word.upper())
    if instruction is None:
        raise InvalidInputError(
            f"{word} is not a valid change command",
            hint=f"these are: {', '.join(sorted(_INSTRUCTIONS))}",
        )
    if not rest.strip():
        raise InvalidInputError(f"{word.upper()} requires at least one argument")
    return instruction(config, rest.strip())


def _cmd(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, cmd=_command(config, rest))


def _entrypoint(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, entrypoint=_command(config, rest))


def _env(config: ImageConfig, rest: str) -> ImageConfig:
    pairs = _pairs("ENV", rest)
    kept = [item for item in config.env if item.partition("=")[0] not in pairs]
    return replace(config, env=(*kept, *(f"{key}={value}" for key, value in pairs.items())))


def _label(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, labels={**config.labels, **_pairs("LABEL", rest)})


def _expose(config: ImageConfig, rest: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    for word in rest.split():
        match = _PORT.fullmatch(word)
        if match is None:
            raise InvalidInputError(f'invalid port in EXPOSE: "{word}"')
        first = int(match[1])
        last = int(match[2] or first)
        if not 0 < first <= last <= 65535:
            raise InvalidInputError(f'invalid port in EXPOSE: "{word}"')
        ports.update(f"{number}/{match[3] or 'tcp'}" for number in range(first, last + 1))
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _user(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, user=rest)


def _working_dir(config: ImageConfig, rest: str) -> ImageConfig:
    path = rest if rest.startswith("/") else f"{config.working_dir or ''}/{rest}"
    return replace(config, working_dir=path.rstrip("/") or "/")


def _volume(config: ImageConfig, rest: str) -> ImageConfig:
    paths = _json_list(rest) or tuple(rest.split())
    return replace(config, volumes=tuple(sorted({*config.volumes, *paths})))


def _stop_signal(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, stop_signal=rest)


def _on_build(config: ImageConfig, rest: str) -> ImageConfig:
    return replace(config, on_build=(*config.on_build, rest))


_INSTRUCTIONS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _working_dir,
}


def _command(config: ImageConfig, rest: str) -> tuple[str, ...]:
    listed = _json_list(rest)
    return listed if listed is not None else (*(config.shell or _DEFAULT_SHELL), rest)


def _json_list(text: str) -> tuple[str, ...] | None:
    """Return the exec form, or None for the shell form."""
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text)
    except ValueError:
        return None
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    return tuple(items)


def _pairs(word: str, rest: str) -> dict[str, str]:
    """Return "key=value …" or the old form "key value"."""
    first = rest.split(None, 1)[0]
    if "=" not in first:
        key, _, value = rest.partition(" ")
        if not value:
            raise InvalidInputError(f"{word} must have two arguments")
        return {key: value.strip()}
    try:
        words = shlex.split(rest, posix=True)
    except ValueError as error:
        raise InvalidInputError(f"{word} {rest}: {error}") from error
    pairs = {}
    for item in words:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidInputError(
                f"Syntax error - can't find = in {item!r}. Must be of the form: name=value"
            )
        pairs[key] = value
    return pairs
