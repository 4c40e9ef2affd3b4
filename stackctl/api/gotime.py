"""Times as values of filters, read as Docker reads them: a Go duration, a form of RFC 3339, or seconds; pure.

The rules and the words are those of Go's time.Parse and of moby (api/types/time/timestamp.go, 28.5).
"""

import json
import re

from stackctl.api.times import parse_duration
from stackctl.errors import InvalidInputError

_SECONDS = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_ELEMENTS = re.compile(r"2006|01|02|15|04|05|\.999999999|Z07:00|[^0-9Z.]+")
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_CLOCKS = ("15", "15:04")


class _BadElementError(Exception):
    """The text does not go on as the layout says."""


class _OutOfRangeError(Exception):
    """A number that no calendar or clock has; its text names it."""


def filter_instant(text: str, *, now: float) -> float:
    """Return seconds since the epoch; raises InvalidInputError in Docker's words."""
    sign = -1.0 if text.startswith("-") else 1.0
    duration = parse_duration(text[1:] if text[:1] in ("-", "+") else text)
    if duration is not None:
        return float(int(now - sign * duration))
    # Without a zone the daemon's is meant, which is UTC.
    zoned = any(letter in text for letter in "zZ+") or text.count("-") == 3
    layout = _layout(text, zoned=zoned)
    try:
        return _parse(layout, text)
    except InvalidInputError:
        if "-" in text:
            raise
    if not _SECONDS.fullmatch(text):
        raise InvalidInputError(f"failed to parse value as time or duration: {_quoted(text)}")
    return float(text)


def _layout(text: str, *, zoned: bool) -> str:
    zone = "Z07:00" if zoned else ""
    if "." in text:
        return f"2006-01-02T15:04:05.999999999{zone}"
    if "T" not in text:
        return f"2006-01-02{zone}"
    colons = text.count(":")
    if zoned and colons and not any(letter in text for letter in "zZ"):
        colons -= 1
    return f"2006-01-02T{_CLOCKS[colons] if colons < len(_CLOCKS) else '15:04:05'}{zone}"


def _quoted(text: str) -> str:
    return json.dumps(text[:80], ensure_ascii=False)


def _parse(layout: str, text: str) -> float:
    """Return the instant that a text has in Go's layout."""
    found = {"2006": 0, "01": 1, "02": 1, "15": 0, "04": 0, "05": 0, "Z07:00": 0}
    fraction, rest = 0.0, text
    for element in _ELEMENTS.findall(layout):
        before = rest
        try:
            if element in found:
                found[element], rest = _READERS[element](rest)
            elif element[0] != ".":
                rest = _after(rest, element)
            if element in ("05", ".999999999"):
                fraction, rest = _fraction(rest, fraction)
        except _BadElementError:
            raise InvalidInputError(
                f"parsing time {_quoted(text)} as {_quoted(layout)}: cannot parse {_quoted(before)} as "
                f"{_quoted(element)}"
            ) from None
        except _OutOfRangeError as error:
            raise InvalidInputError(f"parsing time {_quoted(text)}: {error} out of range") from None
    if rest:
        raise InvalidInputError(f"parsing time {_quoted(text)}: extra text: {_quoted(rest)}")
    year, month, day = found["2006"], found["01"], found["02"]
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS[month - 1] + leap:
        raise InvalidInputError(f"parsing time {_quoted(text)}: day out of range")
    clock = found["15"] * 3600 + found["04"] * 60 + found["05"]
    return _days(year, month, day) * 86400 + clock - found["Z07:00"] + fraction


def _after(text: str, literal: str) -> str:
    if not text.startswith(literal):
        raise _BadElementError
    return text[len(literal) :]


def _year(text: str) -> tuple[int, str]:
    if not re.match(r"[0-9]{4}", text):
        raise _BadElementError
    return int(text[:4]), text[4:]


def _two(text: str) -> tuple[int, str]:
    if not re.match(r"[0-9]{2}", text):
        raise _BadElementError
    return int(text[:2]), text[2:]


def _month(text: str) -> tuple[int, str]:
    number, rest = _two(text)
    if not 1 <= number <= 12:
        raise _OutOfRangeError("month")
    return number, rest


def _hour(text: str) -> tuple[int, str]:
    match = re.match(r"[0-9]{1,2}", text)
    if match is None:
        raise _BadElementError
    if int(match[0]) > 23:
        raise _OutOfRangeError("hour")
    return int(match[0]), text[match.end() :]


def _minute(text: str) -> tuple[int, str]:
    number, rest = _two(text)
    if number > 59:
        raise _OutOfRangeError("minute")
    return number, rest


def _second(text: str) -> tuple[int, str]:
    number, rest = _two(text)
    if number > 59:
        raise _OutOfRangeError("second")
    return number, rest


def _zone(text: str) -> tuple[int, str]:
    """Return how many seconds east of Greenwich."""
    if text.startswith("Z"):
        return 0, text[1:]
    match = re.match(r"([+-])([0-9]{2}):([0-9]{2})", text)
    if match is None:
        raise _BadElementError
    if int(match[2]) > 24:
        raise _OutOfRangeError("time zone offset hour")
    if int(match[3]) > 60:
        raise _OutOfRangeError("time zone offset minute")
    seconds = int(match[2]) * 3600 + int(match[3]) * 60
    return (seconds if match[1] == "+" else -seconds), text[match.end() :]


_READERS = {
    "2006": _year,
    "01": _month,
    "02": _two,
    "15": _hour,
    "04": _minute,
    "05": _second,
    "Z07:00": _zone,
}


def _fraction(text: str, known: float) -> tuple[float, str]:
    match = re.match(r"[.,]([0-9]+)", text)
    if match is None:
        return known, text
    return float(f"0.{match[1]}"), text[match.end() :]


def _days(year: int, month: int, day: int) -> int:
    """Return days since 1970 in the Gregorian calendar, which Go has from the year 0 on."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
