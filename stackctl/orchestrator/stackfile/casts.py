"""Text to number or boolean, where a key wants one: ``"2"`` and ``${REPLICAS}`` alike."""

import re
import struct
from collections.abc import Callable

_INTEGER = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|inf(?:inity)?|nan)",
    re.ASCII | re.IGNORECASE,
)
_TRUE = frozenset({"true", "y", "yes", "on"})
_FALSE = frozenset({"false", "n", "no", "off"})


class CastError(ValueError):
    """The text is not what the key wants."""


def to_integer(text: str) -> int:
    """Return the integer; raises CastError for anything but decimal digits of 64 bits."""
    if _INTEGER.fullmatch(text) and len(text) < 25:
        value = int(text)
        if -(1 << 63) <= value < (1 << 63):
            return value
    raise CastError(
        f"expected an integer, got {text!r}" if text else "expected an integer, got nothing"
    )


def to_float(text: str) -> float:
    """Return the number; raises CastError."""
    if _FLOAT.fullmatch(text):
        value = float(text)
        if abs(value) != float("inf") or "i" in text.lower():
            return value
    raise CastError(
        f"expected a number, got {text!r}" if text else "expected a number, got nothing"
    )


def to_float32(text: str) -> float:
    """Return the number rounded to single precision, as Compose keeps processors; raises CastError."""
    return single(to_float(text))


def single(value: float) -> float:
    """Return the shortest decimal that names the single-precision number nearest to ``value``."""
    try:
        packed = struct.pack("f", value)
    except OverflowError as error:
        raise CastError(f"{value} is out of range") from error
    nearest: float = struct.unpack("f", packed)[0]
    for digits in range(1, 10):
        short = float(f"{nearest:.{digits}g}")
        if struct.pack("f", short) == packed:
            return short
    return nearest


def to_boolean(text: str) -> bool:
    """Return the boolean; raises CastError for what is neither."""
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise CastError(f"expected true or false, got {text!r}")


Rule = dict[str, "Rule | Callable[[str], object]"]

_UPDATE: Rule = {"parallelism": to_integer, "max_failure_ratio": to_float}
_EXTERNAL: Rule = {"*": {"external": to_boolean}}

# Path to conversion, as Compose has it; "*" is any key, "[]" any item, "" the value itself.
CASTS: Rule = {
    "services": {
        "*": {
            "cpu_count": to_integer,
            "cpu_percent": to_float,
            "cpu_period": to_integer,
            "cpu_quota": to_integer,
            "cpu_rt_period": to_integer,
            "cpu_rt_runtime": to_integer,
            "cpus": to_float32,
            "cpu_shares": to_integer,
            "init": to_boolean,
            "deploy": {
                "replicas": to_integer,
                "update_config": _UPDATE,
                "rollback_config": _UPDATE,
                "restart_policy": {"max_attempts": to_integer},
                "placement": {"max_replicas_per_node": to_integer},
            },
            "healthcheck": {"retries": to_integer, "disable": to_boolean},
            "oom_kill_disable": to_boolean,
            "oom_score_adj": to_integer,
            "pids_limit": to_integer,
            "ports": {"[]": {"target": to_integer}},
            "privileged": to_boolean,
            "read_only": to_boolean,
            "scale": to_integer,
            "stdin_open": to_boolean,
            "tty": to_boolean,
            "ulimits": {"*": {"": to_integer, "hard": to_integer, "soft": to_integer}},
            "volumes": {"[]": {"read_only": to_boolean, "volume": {"nocopy": to_boolean}}},
        }
    },
    "networks": {
        "*": {
            "external": to_boolean,
            "internal": to_boolean,
            "attachable": to_boolean,
            "enable_ipv4": to_boolean,
            "enable_ipv6": to_boolean,
        }
    },
    "volumes": _EXTERNAL,
    "secrets": _EXTERNAL,
    "configs": _EXTERNAL,
}
