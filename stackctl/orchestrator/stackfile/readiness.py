"""The ``x-ready`` element: its short and long forms as values."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.model.ready import HttpProbe, Ready
from stackctl.orchestrator.stackfile.marks import Raw
from stackctl.units import parse_duration

EXTENSION = "x-ready"
DEPENDENCY_TIMEOUT = "x-timeout"
PROBES = ("tcp", "http", "log", "exec")
_SHORT_HTTP = re.compile(r":?([0-9]+)(/.*)?")
_STATUS = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_DURATION_HINT = "write a number with a unit, for example 250ms or 30s"


def to_ready(value: Mapping[str, Raw]) -> Ready:
    """Return the element that fits the schema; raises InvalidInputError for a value that means nothing."""
    found = {key: READERS[key](item) for key, item in value.items() if key in READERS}
    if not any(found.get(key) for key in PROBES):
        raise InvalidInputError(
            "there is no probe in it",
            hint=f"give one of {', '.join(PROBES)}, for example tcp: 8080",
        )
    return Ready(**found)


def to_timeout(value: Raw) -> float:
    """Return the seconds of a duration; raises InvalidInputError."""
    try:
        seconds = parse_duration(str(value))
    except InvalidInputError as error:
        raise InvalidInputError(error.message, hint=_DURATION_HINT) from error
    if seconds < 0:
        raise InvalidInputError(f"{value} is less than no time", hint=_DURATION_HINT)
    return seconds


def _interval(value: Raw) -> float:
    seconds = to_timeout(value)
    if not seconds:
        raise InvalidInputError("an interval of 0 would never rest", hint=_DURATION_HINT)
    return seconds


def _port(value: Raw) -> int:
    text = str(value)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise InvalidInputError(
            f"{text!r} is not a port", hint="a port is a number from 1 to 65535"
        )
    return int(text)


def _http(value: Raw) -> HttpProbe:
    if not isinstance(value, Mapping):
        match = _SHORT_HTTP.fullmatch(str(value))
        if match is None:
            raise InvalidInputError(
                f"{value!r} is not PORT/PATH", hint="write the container's port first: 8080/health"
            )
        return HttpProbe(port=_port(match[1]), path=match[2] or "/")
    path = str(value.get("path") or "/")
    probe = HttpProbe(port=_port(value["port"]), path=path if path[:1] == "/" else f"/{path}")
    status = value.get("status")
    if status is None:
        return probe
    match = _STATUS.fullmatch(str(status))
    if match is None:
        raise InvalidInputError(f"{status!r} is no status", hint="write 200, or a range: 200-299")
    return replace(probe, least=int(match[1]), most=int(match[2] or match[1]))


def _log(value: Raw) -> str:
    try:
        re.compile(str(value))
    except re.error as error:
        raise InvalidInputError(
            f"{value!r} is not a regular expression: {error}",
            hint="write \\ before ( ) [ ] . * + ?",
        ) from error
    return str(value)


def _exec(value: Raw) -> tuple[str, ...]:
    if isinstance(value, str):
        return ("/bin/sh", "-c", value) if value else ()
    return tuple(value or ())


READERS: dict[str, Callable[[Raw], Raw]] = {
    "tcp": _port,
    "http": _http,
    "log": _log,
    "exec": _exec,
    "interval": _interval,
    "timeout": to_timeout,
}
