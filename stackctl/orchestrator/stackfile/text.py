"""Values as Compose writes them in text, where a list form wants ``key=value``."""

import math


def go_text(value: object) -> str:
    """Return a scalar as Go's ``%v`` prints it: ``true``, ``1e+21``, ``<nil>``."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, list):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def go_float(value: float) -> str:
    """Return a float in Go's shortest form, with an exponent below 1e-4 and from 1e21."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    digits, exponent = f"{value:.17e}".split("e")
    shortest = repr(value)
    if "e" in shortest:
        digits, exponent = shortest.split("e")
    else:
        exponent = str(math.floor(math.log10(abs(value))))
    power = int(exponent)
    if -4 <= power < 21:
        if "e" not in shortest:
            return shortest.removesuffix(".0")
        return f"{value:.{max(0, len(digits.split('.')[1]) - power if '.' in digits else -power)}f}"
    mantissa = digits.removesuffix(".0") if "e" in shortest else _mantissa(value, power)
    return f"{mantissa}e{'-' if power < 0 else '+'}{abs(power):02}"


def _mantissa(value: float, power: int) -> str:
    return repr(value / 10.0**power).removesuffix(".0")
