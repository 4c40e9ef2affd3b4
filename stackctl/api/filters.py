"""The ``filters`` query parameter; pure.

Its JSON is an object of arrays, ``{"label": ["a=b"]}``, or in the older form an object of objects,
``{"label": {"a=b": true}}``. Values of one key are alternatives, keys are all required; labels alone must all match.
"""

import json
from collections.abc import Collection, Mapping

from stackctl.errors import InvalidInputError

Filters = Mapping[str, tuple[str, ...]]

_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


def parse_filters(text: str, *, known: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the filters by key; ``known`` names the keys that this resource has (empty: any).

    Raises InvalidInputError for what is not such an object and for a key that is not known.
    """
    if not text:
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"invalid filter: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InvalidInputError("invalid filter: filters must be a JSON object of arrays")
    result = {str(key): _values(str(key), value) for key, value in data.items()}
    for key in result:
        if known and key not in known:
            raise InvalidInputError(f"invalid filter '{key}'")
    return result


def _values(key: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, dict):
        return tuple(str(item) for item, chosen in value.items() if chosen)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InvalidInputError(f"invalid filter: filters.{key} must be an array of strings")


def labels_match(wanted: Collection[str], labels: Mapping[str, str]) -> bool:
    """Tell whether every "key" or "key=value" holds."""
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def flag(filters: Filters, key: str, *, default: bool = False) -> bool:
    """Return a filter that is a truth value; raises InvalidInputError when it is none or contradicts itself."""
    values = {value.lower() for value in filters.get(key, ())}
    if not values:
        return default
    if values <= _TRUE:
        return True
    if values <= _FALSE:
        return False
    raise InvalidInputError(f"invalid filter '{key}={','.join(sorted(values))}'")
