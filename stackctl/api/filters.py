"""The ``filters`` query parameter; pure.

Its JSON is an object of arrays, ``{"label": ["a=b"]}``, or in the older form an object of objects,
``{"label": {"a=b": true}}``. Values of one key are alternatives, keys are all required; labels alone must all match.
"""

import json
import re
from collections.abc import Collection, Mapping

from stackctl.api.gotime import filter_instant
from stackctl.errors import InvalidInputError

# Go's truth values.
TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")
Filters = Mapping[str, tuple[str, ...]]


def parse_filters(text: str, *, known: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the filters by key; ``known`` names the keys that this resource has (empty: any).

    A key without values stays, as for some filters that is a mistake. Raises InvalidInputError, in Docker's words, for
    what is not such an object and for a key that is not known.
    """
    if not text:
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("invalid filter") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidInputError("invalid filter")
    result = {str(key): _values(value) for key, value in data.items()}
    for key in result:
        if known and key not in known:
            raise InvalidInputError(f"invalid filter '{key}'")
    return result


def _values(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    # What the older form says beside a value, true or false, Docker reads and does not look at.
    if isinstance(value, dict) and all(isinstance(item, bool | None) for item in value.values()):
        return tuple(str(item) for item in value)
    if isinstance(value, list) and all(isinstance(item, str | None) for item in value):
        return tuple(dict.fromkeys(item or "" for item in value))
    raise InvalidInputError("invalid filter")


def labels_match(wanted: Collection[str], labels: Mapping[str, str]) -> bool:
    """Tell whether every "key" or "key=value" holds."""
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def flag(filters: Filters, key: str, *, default: bool = False) -> bool:
    """Return a filter that is a truth value; raises InvalidInputError when it is none or contradicts itself."""
    if key not in filters:
        return default
    values = filters[key]
    true, false = "1" in values or "true" in values, "0" in values or "false" in values
    if true != false:
        return true
    shown = f"=[{' '.join(values)}]" if values else ""
    raise InvalidInputError(f"invalid filter '{key}{shown}'")


def fits(pattern: str, text: str) -> bool:
    """Tell whether a name is a filter's value or has a part that the value, as a regular expression, describes."""
    if pattern == text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def atoi(text: str, function: str = "Atoi") -> int:
    """Return a number of 64 bits; raises InvalidInputError in the words of Go's strconv."""
    quoted = json.dumps(text[:80], ensure_ascii=False)
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise InvalidInputError(f"strconv.{function}: parsing {quoted}: invalid syntax")
    if len(text.lstrip("+-0")) > 19 or not -(1 << 63) <= int(text) < 1 << 63:
        raise InvalidInputError(f"strconv.{function}: parsing {quoted}: value out of range")
    return int(text)


def until(filters: Filters, *, now: float) -> float | None:
    """Return the instant of the ``until`` filter of a prune, None without it; raises InvalidInputError."""
    if "until" not in filters:
        return None
    values = filters["until"]
    if len(values) > 1:
        raise InvalidInputError("more than one until filter specified")
    return filter_instant(values[0] if values else "", now=now)
