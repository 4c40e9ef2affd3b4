"""Frozen values to JSON and back.

The state store and the keeper's wire exchange dataclasses as JSON. The form is the obvious one: a dataclass is an
object with its field names, a tuple or frozenset an array, an enum its value, bytes base64. Reading is strict about
types and lenient about absence: a field that is missing takes its default, an unknown one is ignored, so that a
newer or older program can read the record.
"""

import base64
import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TypeVar, Union, cast, get_args, get_origin

from stackctl.errors import InvalidInputError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
JsonObject = dict[str, Json]
T = TypeVar("T")


def to_json(value: object) -> Json:
    """Return the JSON form of a frozen value; raises TypeError for what has none."""
    match value:
        case enum.Enum():
            return cast(Json, value.value)
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(to_json(key)): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
    return to_json(_outermost(value))


def to_json_text(value: object) -> str:
    """Return the JSON form of a frozen value as compact text; raises TypeError for what has none."""
    return json.dumps(value, separators=(",", ":"), default=_outermost)


def _outermost(value: object) -> object:
    """Return a value's JSON form but for what is in it; raises TypeError for what has none."""
    kind: type = type(value)
    names = _names(kind)
    if names is not None:
        return {name: getattr(value, name) for name in names}
    match value:
        case enum.Enum():
            return value.value
        case bytes():
            return base64.b64encode(value).decode()
        case frozenset() | set():
            return sorted(value)
        case Mapping():
            return {str(to_json(key)): item for key, item in value.items()}
    raise TypeError(f"{kind.__name__} has no JSON form")


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """Return the names of a dataclass's fields, None for any other type."""
    if not dataclasses.is_dataclass(kind):
        return None
    return tuple(field.name for field in dataclasses.fields(kind))


def from_json(kind: type[T], data: object, *, at: str = "") -> T:
    """Return the value of type ``kind`` that ``to_json`` wrote; raises InvalidInputError naming the field."""
    return cast(T, _read(kind, data, at or getattr(kind, "__name__", str(kind))))


@functools.cache
def _fields(kind: type) -> tuple[tuple[str, object, bool], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        (
            field.name,
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(kind)
    )


def _read(kind: object, data: object, at: str) -> object:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(get_args(kind), data, at)
    if origin is not None:
        return _read_generic(origin, get_args(kind), data, at)
    if kind in (object, Json) or isinstance(kind, TypeVar):
        return data
    if not isinstance(kind, type):
        return data
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, data, at)
    if issubclass(kind, enum.Enum):
        try:
            return kind(data)
        except ValueError as error:
            raise InvalidInputError(f"{at}: {data!r} is not one of {_choices(kind)}") from error
    if kind is bytes and isinstance(data, str):
        return base64.b64decode(data)
    return _read_scalar(kind, data, at)


def _choices(kind: type[enum.Enum]) -> str:
    return ", ".join(repr(member.value) for member in kind)


def _read_scalar(kind: type, data: object, at: str) -> object:
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is int and isinstance(data, bool):
        raise InvalidInputError(f"{at}: expected an integer, got a boolean")
    if kind is type(None):
        kind_name = "null"
        matches = data is None
    else:
        kind_name = kind.__name__
        matches = isinstance(data, kind)
    if not matches:
        raise InvalidInputError(f"{at}: expected {kind_name}, got {type(data).__name__}")
    return data


def _read_union(options: Sequence[object], data: object, at: str) -> object:
    if data is None and type(None) in options:
        return None
    failure: InvalidInputError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _read(option, data, at)
        except InvalidInputError as error:
            failure = error
    raise failure or InvalidInputError(f"{at}: unexpected {type(data).__name__}")


def _read_generic(origin: object, args: Sequence[object], data: object, at: str) -> object:
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise InvalidInputError(f"{at}: expected an object, got {type(data).__name__}")
        return {
            _read(args[0], key, at): _read(args[1], item, f"{at}.{key}")
            for key, item in data.items()
        }
    if not isinstance(data, list | tuple):
        raise InvalidInputError(f"{at}: expected an array, got {type(data).__name__}")
    if origin is tuple and not (len(args) == 2 and args[1] is Ellipsis):
        if len(args) != len(data):
            raise InvalidInputError(f"{at}: expected {len(args)} items, got {len(data)}")
        return tuple(
            _read(kind, item, f"{at}[{n}]")
            for n, (kind, item) in enumerate(zip(args, data, strict=True))
        )
    items = (_read(args[0], item, f"{at}[{n}]") for n, item in enumerate(data))
    if origin is list:
        return list(items)
    return frozenset(items) if origin is frozenset else tuple(items)


def _read_dataclass(kind: type, data: object, at: str) -> object:
    if not isinstance(data, Mapping):
        raise InvalidInputError(f"{at}: expected an object, got {type(data).__name__}")
    values: dict[str, object] = {}
    for name, hint, required in _fields(kind):
        if name in data:
            values[name] = _read(hint, data[name], f"{at}.{name}")
        elif required:
            raise InvalidInputError(f"{at}.{name} is missing")
    return kind(**values)
