"""Aligned columns, and the few ways of saying how long ago and how big."""

import json
from collections.abc import Sequence

from stackctl.errors import InvalidInputError
from stackctl.values import Json


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows under their titles, columns three spaces apart, no trailing blanks."""
    lines = [list(titles), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in lines
    )


def json_lines(rows: Sequence[Json]) -> str:
    """Return one JSON object a line, as docker compose prints lists."""
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def size(count: float) -> str:
    """Return bytes as people read them: powers of 1000, three digits, as Docker prints them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count}B"


def binary_size(count: float) -> str:
    """Return bytes in powers of 1024, as Docker prints memory."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.4g}{unit}"
        count /= 1024
    return f"{count}B"


def ago(seconds: float) -> str:
    """Return a span as people read it: "2 minutes"."""
    for limit, length, word in (
        (60, 1, "second"),
        (3600, 60, "minute"),
        (86400, 3600, "hour"),
        (604800, 86400, "day"),
        (float("inf"), 604800, "week"),
    ):
        if seconds < limit:
            count = max(int(seconds // length), 0)
            return f"{count} {word}{'' if count == 1 else 's'}"
    return ""


def check_layout(layout: str) -> None:
    """Raise InvalidInputError for a --format that is neither table nor json."""
    if layout not in ("table", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of table, json')
