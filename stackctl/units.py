"""Sizes and durations; both halves need them.

Inside the program a size is an ``int`` of bytes and a duration a ``float`` of seconds; the words of people and of
the wire are turned into these here and nowhere else.
"""

import re
from typing import TYPE_CHECKING

from stackctl.errors import InvalidInputError

if TYPE_CHECKING:
    from decimal import Decimal

# go-units: the letters are powers of 1024, with or without the i and the B, in any case; digits may have a "_" between.
_SIZE = re.compile(
    r"\+?((?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]{1,3})?) ?(?:([kmgtp])(?:i?b)?|b)?",
    re.IGNORECASE | re.ASCII,
)
_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_MAX_SIZE = (1 << 63) - 1

# str2duration: Go's units, and days and weeks; "µ" exists as two characters.
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
    "d": 86400 * 1_000_000_000,
    "w": 7 * 86400 * 1_000_000_000,
}
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h|d|w)", re.ASCII)
_MAX_DURATION_TEXT = 100
_MAX_NANOSECONDS = (1 << 63) - 1
_SIZE_HINT = 'write a number with an optional unit b, k, m, g or t, like "512m"'
_DURATION_HINT = 'write numbers with units h, m, s, ms, us, ns, like "1m30s"'


def parse_bytes(text: str | int, *, base: int = 1024) -> int:
    """Return the bytes that ``512m``, ``1.5 GiB`` or ``1024`` stand for; units are powers of ``base``.

    ``-1`` (unlimited) is kept. Raises InvalidInputError for anything else.
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    words = str(text)
    if words == "-1":
        return -1
    match = _SIZE.fullmatch(words)
    if match is None or len(words) > 40:
        raise InvalidInputError(f"{str(text)[:40]!r} is not a size", hint=_SIZE_HINT)
    number, unit = match.groups()
    power = "kmgtp".index(unit.lower()) + 1 if unit else 0
    size = int(_exact(number) * base**power)
    if size > _MAX_SIZE:
        raise InvalidInputError(f"{text!r} is too large a size", hint=_SIZE_HINT)
    return size


def _exact(number: str) -> "int | Decimal":
    """Return the number; whole ones, which most are, without the price of importing decimal."""
    if number.isdigit():
        return int(number)
    from decimal import Decimal

    return Decimal(number)


def format_bytes(size: int) -> str:
    """Return the size in words that ``parse_bytes`` reads back exactly: ``512m``, ``1536k``, ``1000``."""
    if size > 0:
        for letter in "ptgmk":
            factor = _FACTORS[letter]
            if size % factor == 0:
                return f"{size // factor}{letter}"
    return str(size)


def parse_nanoseconds(text: str) -> int:
    """Return the nanoseconds of a duration such as ``1m30s``; see ``parse_duration``."""
    words = str(text)
    if words in ("0", "+0", "-0"):
        return 0
    sign, rest = (-1, words[1:]) if words[:1] == "-" else (1, words.removeprefix("+"))
    total: int | Decimal = 0
    at = 0
    while len(words) <= _MAX_DURATION_TEXT and (match := _TERM.match(rest, at)):
        number, unit = match.groups()
        total += _exact(number) * _NANOSECONDS[unit]
        at = match.end()
    if at == 0 or at != len(rest):
        raise InvalidInputError(f"{words[:40]!r} is not a duration", hint=_DURATION_HINT)
    nanoseconds = sign * int(total)
    if abs(nanoseconds) > _MAX_NANOSECONDS:
        raise InvalidInputError(f"{words!r} is too long a duration", hint=_DURATION_HINT)
    return nanoseconds


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``1m30s``, ``500ms`` or ``1.5h``.

    Units are those of Go (ns, us, ms, s, m, h) and d and w, as Compose has them; a bare number needs a unit, except
    ``0``. Raises InvalidInputError for anything else.
    """
    return parse_nanoseconds(text) / 1e9


def format_nanoseconds(nanoseconds: int) -> str:
    """Return the duration in Go's form: ``1m30s``, ``1h0m0s``, ``1.5ms``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 1_000:
        return f"{sign}{rest}ns"
    for unit, factor in (("µs", 1_000), ("ms", 1_000_000)):
        if rest < factor * 1_000:
            return f"{sign}{_decimal(rest, factor)}{unit}"
    minutes, rest = divmod(rest, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def format_duration(seconds: float) -> str:
    """Return the duration in Go's form, to the nanosecond: ``1m30s``."""
    return format_nanoseconds(round(seconds * 1e9))


def _decimal(value: int, factor: int) -> str:
    whole, fraction = divmod(value, factor)
    if not fraction:
        return str(whole)
    digits = str(fraction).rjust(len(str(factor)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
