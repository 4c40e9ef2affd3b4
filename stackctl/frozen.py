"""The decorator of frozen values: what ``dataclass(frozen=True, slots=True, kw_only=True)`` gives, defined at once.

``dataclass`` writes the source of up to seven methods a class and compiles them whenever the module is imported:
0.4 ms a class, which for the 150 of a command's import is the most of its start-up. Here every class shares the same
methods, which work from the list of fields. ``dataclasses.field``, ``fields``, ``replace`` and ``is_dataclass`` work
as usual; a value may be subclassed by another value only.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, Protocol, TypeVar, cast, dataclass_transform

T = TypeVar("T")


class _Value(Protocol):
    """What the decorator leaves on a class for the shared methods."""

    __frozen_slots__: ClassVar[tuple[tuple[str, Callable[[object, object], None]], ...]]
    __frozen_defaults__: ClassVar[dict[str, object]]
    __frozen_factories__: ClassVar[tuple[tuple[str, Callable[[], object]], ...]]
    __frozen_key__: Any


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,)
)
def frozen(cls: type[T]) -> type[T]:
    """Make a class of annotated fields a frozen value: keyword-only, slotted, compared and hashed by its fields."""
    described = dataclasses.dataclass(
        init=False, repr=False, eq=False, match_args=False, kw_only=True
    )(cls)
    fields = dataclasses.fields(described)  # type: ignore[arg-type]
    inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__slots__", ())}
    own = tuple(field.name for field in fields if field.name not in inherited)
    body = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in own and name not in ("__dict__", "__weakref__")
    }
    body["__slots__"] = own
    for name, method in _METHODS.items():
        body.setdefault(name, method)
    if "__eq__" in cls.__dict__ and cls.__dict__.get("__hash__") is None:
        body["__hash__"] = None
    kind: Any = type(cls)
    made: Any = kind(cls.__name__, cls.__bases__, body)
    made.__qualname__ = cls.__qualname__
    made.__frozen_slots__ = tuple((item.name, getattr(made, item.name).__set__) for item in fields)
    made.__frozen_defaults__ = {
        item.name: item.default for item in fields if item.default is not dataclasses.MISSING
    }
    made.__frozen_factories__ = tuple(
        (item.name, item.default_factory)
        for item in fields
        if item.default_factory is not dataclasses.MISSING
    )
    names = [item.name for item in fields if item.compare]
    made.__frozen_key__ = staticmethod(attrgetter(*names) if names else _nothing)
    return cast(type[T], made)


def _nothing(_: object) -> object:
    return ()


def _init(self: _Value, /, **given: object) -> None:
    values = {**self.__frozen_defaults__, **given}
    for name, factory in self.__frozen_factories__:
        if name not in given:
            values[name] = factory()
    slots = self.__frozen_slots__
    try:
        for name, put in slots:
            put(self, values[name])
    except KeyError:
        missing = [repr(name) for name, _ in slots if name not in values]
        raise TypeError(
            f"{type(self).__name__}() misses the keyword arguments {', '.join(missing)}"
        ) from None
    if len(values) != len(slots):
        unknown = [repr(name) for name in given if name not in dict(slots)]
        raise TypeError(f"{type(self).__name__}() has no field {', '.join(unknown)}")


def _repr(self: _Value) -> str:
    shown = [
        f"{item.name}={getattr(self, item.name)!r}"
        for item in dataclasses.fields(self)  # type: ignore[arg-type]
        if item.repr
    ]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: _Value, other: object) -> object:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self.__frozen_key__(self) == self.__frozen_key__(other)


def _hash(self: _Value) -> int:
    return hash(self.__frozen_key__(self))


def _setattr(self: _Value, name: str, value: object) -> None:  # noqa: ARG001
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: _Value, name: str) -> None:  # noqa: ARG001
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: _Value) -> list[object]:
    return [getattr(self, name) for name, _ in self.__frozen_slots__]


def _setstate(self: _Value, state: list[object]) -> None:
    for (_, put), value in zip(self.__frozen_slots__, state, strict=True):
        put(self, value)


_METHODS: dict[str, object] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
