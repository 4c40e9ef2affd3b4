"""Volume bodies; pure."""

import json
from collections.abc import Sequence

from stackctl.api import times
from stackctl.api.filters import FALSE, TRUE, Filters, fits, flag, labels_match
from stackctl.contracts.state import VolumeRecord
from stackctl.errors import InvalidInputError
from stackctl.values import JsonObject

KEYS = frozenset({"dangling", "driver", "label", "name"})


def volume_body(record: VolumeRecord, *, size: int | None = None, users: int = 0) -> JsonObject:
    """Return one volume; with its size in bytes where the disk usage is asked for."""
    body: JsonObject = {
        "CreatedAt": times.rfc3339(float(int(record.created))),
        "Driver": record.driver,
        "Labels": {**record.labels} or None,
        "Mountpoint": record.mountpoint,
        "Name": record.name,
        "Options": {**record.options} or None,
        "Scope": "local",
    }
    if size is not None:
        body["UsageData"] = {"RefCount": users, "Size": size}
    return body


def read_all(values: Sequence[str]) -> bool:
    """Return the ``all`` filter of a prune, a truth value in Go's forms; raises InvalidInputError."""
    if len(values) > 1:
        raise InvalidInputError(
            f"invalid filter 'all=[{' '.join(values)}]': only one value is expected"
        )
    for value in values:
        if value in TRUE:
            return True
        if value not in FALSE:
            raise InvalidInputError(
                f"invalid filter 'all': strconv.ParseBool: parsing {json.dumps(value[:80])}: invalid syntax"
            )
    return False


def matches(record: VolumeRecord, filters: Filters, *, used: bool) -> bool:
    """Tell whether a list's filters hold; ``used`` says that a container has it. Raises InvalidInputError."""
    if "dangling" in filters and flag(filters, "dangling") == used:
        return False
    if (drivers := filters.get("driver")) and record.driver not in drivers:
        return False
    if (names := filters.get("name")) and not any(fits(name, record.name) for name in names):
        return False
    return labels_match(filters.get("label", ()), record.labels)
