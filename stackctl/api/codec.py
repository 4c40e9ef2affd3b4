"""JSON bodies of the Docker Engine API, read with errors that name the field; pure.

``Reader`` walks a decoded JSON object. It is lenient as Docker is (null means absent, names match in any case) and
strict about types: a wrong one raises InvalidInputError with the path of the field as the API calls it, such as
``HostConfig.PortBindings.80/tcp[0].HostPort``.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

_NULL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_LONE = re.compile("[\ud800-\udfff]")
_NAMES = {str: "a string", bool: "a boolean", int: "a number", list: "an array", dict: "an object"}


def parse_object(data: bytes, *, optional: bool = True) -> JsonObject:
    """Return the JSON object that a request body holds; {} for an empty body where it is optional.

    Raises InvalidInputError for what is not JSON or not an object.
    """
    if not data.strip():
        if optional:
            return {}
        raise InvalidInputError("invalid JSON: got EOF while reading request body")
    try:
        value = _clean(data, json.loads(data))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"invalid JSON: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInputError(f"invalid JSON: the body must be an object, not {_kind(value)}")
    return value


def _clean(data: bytes, value: Json) -> Json:
    """Return the value without halves of surrogate pairs, which no file or program could be named by.

    Go, and so Docker, reads them as U+FFFD. Raises InvalidInputError for a null character: the kernel takes none.
    """
    if b"\\u" not in data:
        return value
    text = json.dumps(value, ensure_ascii=False)
    if _NULL.search(text):
        raise InvalidInputError("invalid JSON: a text holds a null character")
    cleaned: Json = json.loads(_LONE.sub("\ufffd", text)) if _LONE.search(text) else value
    return cleaned


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return "a number"
    return _NAMES.get(type(value), type(value).__name__)


class Reader:
    """One JSON object being read; ``at`` is its path in the body, "" for the body itself."""

    __slots__ = ("_data", "_folded", "at")

    def __init__(self, data: Mapping[str, Json], at: str = "") -> None:
        self._data = data
        self._folded: dict[str, Json] | None = None
        self.at = at

    def path(self, name: str) -> str:
        return f"{self.at}.{name}" if self.at else name

    def raw(self, name: str) -> Json:
        """Return the value as it came; None when absent or null."""
        if name in self._data:
            return self._data[name]
        if self._folded is None:
            self._folded = {key.lower(): value for key, value in self._data.items()}
        return self._folded.get(name.lower())

    def has(self, name: str) -> bool:
        return self.raw(name) is not None

    def names(self) -> Iterator[str]:
        return iter(self._data)

    def fail(self, name: str, reason: str) -> InvalidInputError:
        """Return the error for a field whose value will not do."""
        return InvalidInputError(f"invalid {self.path(name)}: {reason}")

    def text(self, name: str, default: str = "") -> str:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise _mismatch(self.path(name), "a string", value)
        return value

    def integer(self, name: str, default: int = 0) -> int:
        value = self.optional_integer(name)
        return default if value is None else value

    def optional_integer(self, name: str) -> int | None:
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _mismatch(self.path(name), "an integer", value)
        if not -(2**63) <= value < 2**63:
            raise self.fail(name, f"{value} does not fit into 64 bits")
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _mismatch(self.path(name), "a boolean", value)
        return value

    def optional_boolean(self, name: str) -> bool | None:
        return None if self.raw(name) is None else self.boolean(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an array of strings; () when absent."""
        return self.optional_texts(name) or ()

    def optional_texts(self, name: str) -> tuple[str, ...] | None:
        """Return an array of strings, None when absent or null (an empty array is ())."""
        value = self.raw(name)
        return None if value is None else _texts(value, self.path(name))

    def words(self, name: str) -> tuple[str, ...] | None:
        """Return a command: an array of strings, or one string standing for an array of one; None when absent."""
        value = self.raw(name)
        return (value,) if isinstance(value, str) else self.optional_texts(name)

    def text_map(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings; {} when absent. A null value reads as ""."""
        value = self.raw(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _mismatch(self.path(name), "an object", value)
        result = {}
        for key, item in value.items():
            if item is not None and not isinstance(item, str):
                raise _mismatch(f"{self.path(name)}.{key}", "a string", item)
            result[key] = item or ""
        return result

    def child(self, name: str) -> "Reader":
        """Return the reader of an object; an empty one when absent."""
        return self.optional_child(name) or Reader({}, self.path(name))

    def optional_child(self, name: str) -> "Reader | None":
        value = self.raw(name)
        return None if value is None else _object(value, self.path(name))

    def children(self, name: str) -> Sequence["Reader"]:
        """Return the readers of an array of objects; nulls are passed over."""
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise _mismatch(self.path(name), "an array", value)
        return [
            _object(item, f"{self.path(name)}[{number}]")
            for number, item in enumerate(value)
            if item is not None
        ]


def _texts(value: Json, at: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _mismatch(at, "an array of strings", value)
    for number, item in enumerate(value):
        if not isinstance(item, str):
            raise _mismatch(f"{at}[{number}]", "a string", item)
    return tuple(item for item in value if isinstance(item, str))


def _object(value: Json, at: str) -> Reader:
    if not isinstance(value, dict):
        raise _mismatch(at, "an object", value)
    return Reader(value, at)


def _mismatch(at: str, expected: str, value: Json) -> InvalidInputError:
    return InvalidInputError(f"invalid {at}: expected {expected}, got {_kind(value)}")


def encode_message(value: object) -> bytes:
    """Return one message of a stream of progress, with the line end that Docker gives those."""
    return encode_object(value)[:-1] + b"\r\n"


def encode_object(value: object) -> bytes:
    """Return the compact JSON of a response body, with the line feed that Docker ends it with."""
    return (
        json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        + b"\n"
    )
