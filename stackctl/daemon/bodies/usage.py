"""What takes space, as GET /system/df tells it; pure."""

from collections.abc import Collection, Iterable, Mapping

from stackctl.api import times
from stackctl.contracts.state import BuildCacheRecord
from stackctl.values import Json, JsonObject


def cache_rows(
    steps: Iterable[BuildCacheRecord], sizes: Mapping[str, int], kept: Collection[str]
) -> list[Json]:
    """Return the build cache's part of GET /system/df: a row for each step that is kept, the newest first.

    ``sizes`` are the bytes of layers by chain ID, ``kept`` those that images have. Each layer counts for the first
    step that has it; what only images would keep is told as shared, which clients do not add up.
    """
    seen: set[str] = set()
    rows: list[tuple[float, JsonObject]] = []
    # A note (of what was costly to compute) holds nothing.
    for step in sorted(
        (step for step in steps if not step.id.startswith("note:")),
        key=lambda step: (len(step.layers), step.created_at, step.id),
    ):
        fresh = [layer for layer in step.layers if layer not in seen]
        own = [layer for layer in fresh if layer not in kept]
        seen.update(fresh)
        body: JsonObject = {
            "ID": step.id,
            "Type": "regular",
            "Description": step.description,
            "InUse": False,
            "Shared": bool(fresh) and not own,
            "Size": sum(sizes.get(layer, 0) for layer in own or fresh[-1:]),
            "CreatedAt": times.rfc3339(step.created_at or step.used_at),
            "LastUsedAt": times.rfc3339(step.used_at),
            "UsageCount": step.uses,
        }
        rows.append((step.created_at, body))
    rows.sort(key=lambda row: row[0], reverse=True)
    return [body for _, body in rows]
