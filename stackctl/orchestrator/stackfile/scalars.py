"""What a plain YAML scalar means, as Compose reads it.

Compose reads YAML with Go's yaml.v3, which is YAML 1.2 with a few habits of 1.1: ``yes`` and ``on`` are text,
``0777`` and ``0o777`` are octal, ``1_000`` is a number, ``12:30`` is text, ``2001-12-14`` is a date.
"""

import base64
import binascii
import re

Scalar = None | bool | int | float | str

_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".nan": float("nan"),
    ".NaN": float("nan"),
    ".NAN": float("nan"),
    **{sign + word: float("inf") for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{"-" + word: float("-inf") for word in (".inf", ".Inf", ".INF")},
}
_NUMERIC_START = frozenset("+-.0123456789")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INTEGER = re.compile(
    r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|0([0-7]+)|(0|[1-9][0-9]*))", re.ASCII
)
_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:(?:[Tt]|[ ])(\d{1,2}):(\d{1,2}):(\d{1,2})(\.\d+)?(Z|[-+]\d{2}:\d{2})?)?",
    re.ASCII,
)
_PREFIX = "tag:yaml.org,2002:"
_MAX_DIGITS = 400


class Timestamp(str):
    """A date, which Compose keeps apart from text: fine in an extension, wrong where text is wanted."""

    __slots__ = ()


class ScalarError(ValueError):
    """The scalar does not have the form that its tag asks for."""


def resolve_plain(text: str) -> Scalar:
    """Return the value of an untagged plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMERIC_START:
        return text
    return _number_or_date(text)


def _number_or_date(text: str) -> Scalar:
    if len(text) > 4 and text[4] == "-" and (match := _DATE.fullmatch(text)):
        return Timestamp(_rfc3339(match))
    if len(text) > _MAX_DIGITS:
        return text
    plain = text.replace("_", "") if text[0] != "." else text
    match = _INTEGER.fullmatch(plain)
    if match is not None:
        value = _integer(match)
        if -(1 << 63) <= value < (1 << 64):
            return value
    if _FLOAT.fullmatch(plain):
        value_float = float(plain)
        return value_float if abs(value_float) != float("inf") else text
    return text


def _integer(match: re.Match[str]) -> int:
    sign, hexadecimal, binary, octal, old_octal, decimal = match.groups()
    for digits, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (old_octal, 8), (decimal, 10)):
        if digits is not None:
            return -int(digits, base) if sign == "-" else int(digits, base)
    return 0


def _rfc3339(match: re.Match[str]) -> str:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    date = f"{year}-{int(month):02}-{int(day):02}"
    fraction = (fraction or "").rstrip("0").rstrip(".")
    time = f"{int(hour or 0):02}:{int(minute or 0):02}:{int(second or 0):02}{fraction}"
    return f"{date}T{time}{'Z' if zone in (None, 'Z', '+00:00') else zone}"


def resolve(tag: str, text: str) -> Scalar:
    """Return the value of a scalar; ``tag`` is empty for a plain one. Raises ScalarError."""
    if not tag:
        return resolve_plain(text)
    if not tag.startswith(_PREFIX):
        return text
    kind = tag.removeprefix(_PREFIX)
    if kind == "str":
        return text
    if kind == "binary":
        try:
            return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError) as error:
            raise ScalarError("!!binary value contains invalid base64 data") from error
    return _forced(kind, text)


def _forced(kind: str, text: str) -> Scalar:
    value = resolve_plain(text)
    match kind, value:
        case "int", int() if not isinstance(value, bool):
            return value
        case "float", int() | float() if not isinstance(value, bool):
            return float(value)
        case "bool", bool():
            return value
        case "null", None:
            return None
        case "timestamp", Timestamp():
            return value
        case (("int" | "float" | "bool" | "null" | "timestamp"), _):
            raise ScalarError(f"cannot read {text!r} as a !!{kind}")
    return text
