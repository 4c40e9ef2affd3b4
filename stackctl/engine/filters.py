"""Docker's filters for prune and lists: labels and times; pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from stackctl.engine.requests import Filters
from stackctl.errors import InvalidInputError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def labels_match(filters: Filters, labels: Mapping[str, str]) -> bool:
    """Tell whether the labels have every ``label`` and none of the ``label!`` filters ("key" or "key=value")."""
    return all(_has(labels, item) for item in filters.get("label", ())) and not any(
        _has(labels, item) for item in filters.get("label!", ())
    )


def until_of(filters: Filters, now: float) -> float:
    """Return the instant of the ``until`` filter, 0.0 when there is none; raises InvalidInputError."""
    values = filters.get("until", ())
    if not values:
        return 0.0
    if len(values) > 1:
        raise InvalidInputError("more than one until filter specified")
    return instant(values[0], now)


def instant(text: str, now: float) -> float:
    """Return a time given as seconds since the epoch, as a Go duration before now, or as RFC 3339."""
    try:
        return float(text)
    except ValueError:
        pass
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return now - sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"failed to parse value as time or duration: {text!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _has(labels: Mapping[str, str], item: str) -> bool:
    name, equals, value = item.partition("=")
    return name in labels and (not equals or labels[name] == value)
