"""Signal names to numbers, as Docker takes them; pure."""

import signal

from stackctl.errors import InvalidInputError


def signal_number(text: str) -> int:
    """Return the number of "TERM", "SIGTERM", "15" or "RTMIN+3"; raises InvalidInputError."""
    name = text.strip().upper()
    if name.isdecimal():
        number = int(name)
        if 0 < number <= signal.SIGRTMAX:
            return number
        raise InvalidInputError(f"invalid signal: {text[:80]}")
    name = name.removeprefix("SIG")
    base, plus, offset = name.partition("+")
    if plus and base == "RTMIN" and offset.isdecimal():
        return _real_time(int(signal.SIGRTMIN) + int(offset), text)
    base, minus, offset = name.partition("-")
    if minus and base == "RTMAX" and offset.isdecimal():
        return _real_time(int(signal.SIGRTMAX) - int(offset), text)
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError as error:
        raise InvalidInputError(f"invalid signal: {text[:80]}") from error


def _real_time(number: int, text: str) -> int:
    if not signal.SIGRTMIN <= number <= signal.SIGRTMAX:
        raise InvalidInputError(f"invalid signal: {text[:80]}")
    return number
