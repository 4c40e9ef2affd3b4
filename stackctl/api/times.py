"""Instants and durations as the Docker Engine API writes them; pure."""

import re
from datetime import UTC, datetime, timedelta

from stackctl.errors import InvalidInputError

ZERO = "0001-01-01T00:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX = re.compile(r"([0-9]+)(?:\.([0-9]{1,9}))?")
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?"
)
_UNITS = (
    ("ns", 1),
    ("us", 10**3),
    ("µs", 10**3),
    ("ms", 10**6),
    ("s", 10**9),
    ("m", 60 * 10**9),
    ("h", 3600 * 10**9),
)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ns|us|µs|ms|s|m|h)")


def rfc3339(seconds: float, *, nanoseconds: int | None = None) -> str:
    """Return an instant in RFC 3339 with as many decimals as it needs; 0.0 is Docker's zero time.

    ``nanoseconds`` since the epoch, where known, is exact.
    """
    total = round(seconds * 1_000_000) * 1000 if nanoseconds is None else nanoseconds
    if total == 0:
        return ZERO
    base, fraction = _civil(total)
    digits = f"{fraction:09d}".rstrip("0")
    return f"{base}.{digits}Z" if digits else f"{base}Z"


def _civil(nanoseconds: int) -> tuple[str, int]:
    whole, fraction = divmod(nanoseconds, 10**9)
    return (_EPOCH + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S"), fraction


def parse_instant(text: str, *, field: str, now: float) -> float:
    """Return seconds since the epoch of a since/until parameter; else as ``parse_nanoseconds``."""
    return parse_nanoseconds(text, field=field, now=now) / 10**9


def parse_nanoseconds(text: str, *, field: str, now: float) -> int:
    """Return nanoseconds since the epoch of a since/until parameter; 0 for "" and "0".

    Taken are seconds ("1136073600.000000001"), RFC 3339 and a duration before ``now`` ("10m"). Raises
    InvalidInputError naming ``field``.
    """
    if text in ("", "0"):
        return 0
    if match := _UNIX.fullmatch(text):
        return int(match[1][:12]) * 10**9 + _fraction(match[2])
    if match := _RFC3339.fullmatch(text):
        try:
            return _from_civil(match)
        except (ValueError, OverflowError) as error:
            raise InvalidInputError(f'invalid {field}: "{text}": {error}') from error
    duration = parse_duration(text)
    if duration is None:
        raise InvalidInputError(
            f'invalid {field}: "{text[:80]}" is neither a timestamp nor a duration'
        )
    return round((now - duration) * 10**9)


def _from_civil(match: re.Match[str]) -> int:
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    moment = datetime(
        year, month, day, int(match[4] or 0), int(match[5] or 0), int(match[6] or 0), tzinfo=UTC
    )
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    zone = (match[8] or "Z").replace(":", "")
    if zone != "Z":
        sign = -1 if zone[0] == "+" else 1
        seconds += sign * (int(zone[1:3]) * 3600 + int(zone[3:5]) * 60)
    return seconds * 10**9 + _fraction(match[7])


def _fraction(digits: str | None) -> int:
    return int((digits or "0").ljust(9, "0"))


def parse_duration(text: str) -> float | None:
    """Return the seconds of a Go duration ("1h30m", "1.5s"); None when it is none."""
    position, total = 0, 0.0
    units = dict(_UNITS)
    for match in _DURATION.finditer(text):
        if match.start() != position:
            return None
        total += float(match[1]) * units[match[2]]
        position = match.end()
    return total / 10**9 if text and position == len(text) else None


def human_duration(seconds: float) -> str:
    """Return a duration roughly, in Docker's words ("Less than a second", "About an hour", "3 weeks")."""
    whole = int(seconds)
    minutes = int(seconds / 60)
    hours = int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"
