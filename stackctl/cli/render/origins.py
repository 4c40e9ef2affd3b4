"""Where values come from, for people and for programs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackctl.orchestrator.stackfile.explain import Origin


def text(found: "Sequence[Origin]") -> str:
    """Return for each value its path, what it is, and under that its place, step and variables."""
    lines = []
    for origin in found:
        lines.append(f"{origin.where}: {json.dumps(origin.value, ensure_ascii=False)}")
        place = f"{origin.path}:{origin.line}:{origin.column}" if origin.line else "no file"
        notes = [note for note in (origin.step, "" if origin.exact else "implied") if note]
        said = f" ({', '.join(notes)})" if notes else ""
        lines.append(f"  {place}{said}")
        lines.extend(f"  ${name}: {source}" for name, source in origin.sources)
    return "".join(f"{line}\n" for line in lines)


def as_json(found: "Sequence[Origin]") -> str:
    """Return a JSON array of the same."""
    entries = [
        {
            "where": origin.where,
            "value": origin.value,
            "path": origin.path,
            "line": origin.line,
            "column": origin.column,
            "step": origin.step,
            "implied": not origin.exact,
            "variables": dict(origin.sources),
        }
        for origin in found
    ]
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
