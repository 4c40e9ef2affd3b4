"""Env files: ``NAME=value`` lines with quotes, comments and interpolation, as Compose reads them."""

import re
from collections.abc import Callable, Mapping

from stackctl.orchestrator.stackfile.interpolate import TemplateError, Variables, substitute

MAX_BYTES = 4 << 20  # more than the kernel passes to a process
Lookup = Callable[[str], str | None]
_EXPORT = re.compile(r"export\s+")
_ESCAPE = re.compile(r"\\(?:[abcfnrtv$\"\\]|0[0-9]{0,3})")
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BLANK = "\t\v\f\r \x85\xa0"
_NAME_SIGNS = "_.-[]"
_SHOWN = 100


class EnvFileError(ValueError):
    """The env file is wrong at ``line`` (counted from 1)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Both(Mapping[str, str]):
    """What the caller knows, then what the file has set so far."""

    def __init__(self, lookup: Lookup, values: Mapping[str, str]) -> None:
        self.first = lookup
        self.values_so_far = values

    def __getitem__(self, name: str) -> str:
        value = self.first(name)
        return self.values_so_far[name] if value is None else value

    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - only lookups happen
        return iter(self.values_so_far)

    def __len__(self) -> int:
        return len(self.values_so_far)


def parse(text: str, values: dict[str, str], lookup: Lookup) -> None:
    """Add the variables of an env file to ``values``; raises EnvFileError.

    A name alone takes its value from ``lookup``. ``$NAME`` is replaced in plain and double-quoted values, by
    ``lookup`` first and what the files set so far next.
    """
    variables = Variables(_Both(lookup, values))
    text = text.removeprefix("\ufeff")
    at, counted, line = 0, 0, 1
    while True:
        at = _statement(text, at)
        if at >= len(text):
            return
        line += text.count("\n", counted, at)
        counted = at
        name, inherited, at = _name(text, at, line)
        if inherited:
            value = lookup(name)
            if value is not None:
                values[name] = value
            continue
        try:
            values[name], at = _value(text, at, line, variables)
        except TemplateError as error:
            raise EnvFileError(error.message, line) from error


def parse_raw(text: str, values: dict[str, str], lookup: Lookup) -> None:
    """Add the variables of a ``format: raw`` file, everything after the first ``=`` as it stands.

    A name alone takes its value from ``lookup``. Raises EnvFileError.
    """
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not name or any(char.isspace() for char in name):
            raise EnvFileError(f"{name!r} is not a variable name", number)
        inherited = None if equals else lookup(name)
        if equals:
            values[name] = value
        elif inherited is not None:
            values[name] = inherited


def _statement(text: str, at: int) -> int:
    """Return where the next statement starts, past blank lines and comments."""
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            break
    return at


def _name(text: str, at: int, line: int) -> tuple[str, bool, int]:
    match = _EXPORT.match(text, at)
    if match:
        at = match.end()
    name, inherited, end = "", False, at
    for index in range(at, len(text)):
        char = text[index]
        if char in _BLANK:
            continue
        if char in "=:\n":
            name, inherited, end = text[at:index], char == "\n", index + 1
            break
        if not (char in _NAME_SIGNS or char.isalnum()):
            whole = text[at : at + _SHOWN].split("\n", 1)[0]
            raise EnvFileError(f"unexpected character {char!r} in variable name {whole!r}", line)
    else:
        name, inherited, end = text[at:], True, len(text)
    name = name.rstrip()
    if " " in name:
        raise EnvFileError(f"the variable name {name!r} contains a space", line)
    while not inherited and end < len(text) and text[end] in _BLANK:
        end += 1
    return name, inherited, end


def _value(text: str, at: int, line: int, variables: Variables) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"') or not quote:
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        plain = text[at:end].split(" #", 1)[0].rstrip()
        return substitute(plain, variables), min(end + 1, len(text))
    parts: list[str] = []
    index = at + 1
    while index < len(text):
        char = text[index]
        if char == quote:
            value = "".join(parts)
            if quote == '"':
                value = substitute(_ESCAPE.sub(_unescape, value), variables)
            return value, index + 1
        if char == "\\" and index + 1 < len(text):
            following = text[index + 1]
            parts.append(following if following == quote else char + following)
            index += 2
            continue
        parts.append(char)
        index += 1
    first = text[at : at + _SHOWN].split("\n", 1)[0]
    raise EnvFileError(f"unterminated quoted value {first}", line)


def _unescape(match: re.Match[str]) -> str:
    body = match.group()[1:]
    if body == "$":
        return "$$"
    if body[0] == "0":
        digits = body[1:]
        return chr(int(digits, 8)) if len(digits) == 3 and int(digits, 8) < 256 else match.group()
    return _SIMPLE.get(body, "\\c" if body == "c" else body)
