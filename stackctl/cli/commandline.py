"""Plain command lines, read by the declarations of commands; whatever is not plain is left to typer.

Plain is what people and scripts type all day: known options, values that are what they should be, no call for help.
For anything else ``read`` returns None before anything was done, and typer says what is wrong.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stackctl.cli.declare import Context, Option, Parameter

Values = dict[str, Any]
_CASTS: dict[type, Callable[[str], Any]] = {str: str, int: int, float: float, Path: Path}


class _NotPlainError(Exception):
    pass


class _Field:
    """One parameter: how it is cast, whether it repeats, whether it is a switch."""

    __slots__ = ("cast", "name", "needed", "repeats", "switch", "words")

    def __init__(self, name: str, hint: Any, needed: bool) -> None:  # noqa: ANN401
        kind, parameter = hint.__origin__, hint.__metadata__[0]
        if "callback" in parameter.told:
            raise _NotPlainError
        kinds = [part for part in _parts(kind) if part is not types.NoneType]
        if len(kinds) != 1:
            raise _NotPlainError
        kind = kinds[0]
        self.repeats = getattr(kind, "__origin__", None) is list
        self.switch = kind is bool
        inner = kind.__args__[0] if self.repeats else kind
        if not self.switch and inner not in _CASTS:
            raise _NotPlainError
        self.cast = _CASTS.get(inner, str)
        self.name = name
        self.needed = needed
        self.words = _words(name, parameter, switch=self.switch)


def _parts(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return kind.__args__ if isinstance(kind, types.UnionType) else (kind,)


def _words(name: str, parameter: Parameter, *, switch: bool) -> dict[str, bool]:
    """Return an option's words; for switches with what each says."""
    if not isinstance(parameter, Option):
        return {}
    found: dict[str, bool] = {}
    for word in parameter.words:
        yes, _, no = word.partition("/")
        found[yes] = True
        if no:
            found[no.strip()] = False
    if not found:
        plain = name.replace("_", "-")
        found[f"--{plain}"] = True
        if switch:
            found[f"--no-{plain}"] = False
    return found


class Form:
    """The options and arguments of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        optional = set(names[len(names) - len(function.__defaults__ or ()) :])
        self.context = ""
        self.options: dict[str, _Field] = {}
        self.arguments: list[_Field] = []
        self.needed: set[str] = set()
        for name in names:
            hint = function.__annotations__[name]
            if hint is Context:
                self.context = name
                continue
            parameter = getattr(hint, "__metadata__", (None,))[0]
            if not isinstance(parameter, Parameter):
                raise _NotPlainError  # declared in typer's own words
            if parameter.told.get("callback"):
                continue  # whoever uses it is no plain command line
            field = _Field(name, hint, name not in optional)
            if field.words:
                self.options.update(dict.fromkeys(field.words, field))
            else:
                self.arguments.append(field)
            if field.needed:
                self.needed.add(name)
        if any(item.repeats for item in self.arguments[:-1]):
            raise _NotPlainError

    def read(
        self, words: Sequence[str], *, mixed: bool, also: Mapping[str, str] | None = None
    ) -> tuple[Values, list[str]]:
        """Return the values, and the words left over; ``mixed``: options may come after arguments.

        ``also`` are switches of no parameter, with the names that their values get.
        """
        values: Values = {}
        places: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                places += rest
                break
            if word == "-" or not word.startswith("-"):
                places.append(word)
                if not mixed:
                    places += rest
                    break
            elif also and word in also:
                values[also[word]] = True
            elif word.startswith("--"):
                self._long(word, rest, values)
            else:
                self._short(word, rest, values)
        return values, places

    def _long(self, word: str, rest: list[str], values: Values) -> None:
        name, equals, value = word.partition("=")
        field = self._field(name)
        if field.switch:
            if equals:
                raise _NotPlainError
            values[field.name] = field.words[name]
        else:
            self._put(field, value if equals else self._next(rest), values)

    def _short(self, word: str, rest: list[str], values: Values) -> None:
        for at in range(1, len(word)):
            letter = f"-{word[at]}"
            field = self._field(letter)
            if not field.switch:
                self._put(field, word[at + 1 :] or self._next(rest), values)
                return
            values[field.name] = field.words[letter]

    def _field(self, word: str) -> _Field:
        found = self.options.get(word)
        if found is None:
            raise _NotPlainError
        return found

    @staticmethod
    def _next(rest: list[str]) -> str:
        if not rest:
            raise _NotPlainError
        return rest.pop(0)

    @staticmethod
    def _put(field: _Field, text: str, values: Values) -> None:
        try:
            value = field.cast(text)
        except ValueError as error:
            raise _NotPlainError from error
        if field.repeats:
            values.setdefault(field.name, []).append(value)
        else:
            values[field.name] = value

    def place(self, places: Sequence[str], values: Values) -> None:
        """Give the words without a name to the arguments."""
        left = list(places)
        for field in self.arguments:
            if field.repeats:
                for text in left:
                    self._put(field, text, values)
                left = []
            elif left:
                self._put(field, left.pop(0), values)
        if left or not self.needed <= values.keys():
            raise _NotPlainError


class Line:
    """A plain command line: the values of the options before the command, the command's name, and its own words."""

    def __init__(self, before: Values, name: str, words: list[str]) -> None:
        self.before = before
        self.name = name
        self._words = words

    def values(self, function: Callable[..., Any], *, mixed: bool) -> Values | None:
        """Return the values of the command, "--dry-run" under its name; None where they are not plain."""
        try:
            form = Form(function)
            values, places = form.read(self._words, mixed=mixed, also={"--dry-run": "--dry-run"})
            form.place(places, values)
        except _NotPlainError:
            return None
        return values


def read(words: Sequence[str], options: Callable[..., Any]) -> Line | None:
    """Return the command line, ``options`` being what takes those before the command; None where it is not plain."""
    try:
        before, places = Form(options).read(words, mixed=False)
    except _NotPlainError:
        return None
    return Line(before, places[0], places[1:]) if places else None
