"""Containers as the list shows them: filters, order, status sentences; pure."""

import re
from collections.abc import Callable, Mapping, Sequence

from stackctl.api import times
from stackctl.api.filters import Filters, labels_match
from stackctl.contracts.container import ContainerRecord, Status
from stackctl.daemon.bodies import mounts, ports
from stackctl.daemon.bodies.containers import LIVE, endpoint_body
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.values import JsonObject

KEYS = frozenset(
    {
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    }
)
_HEALTHS = frozenset({"none", "starting", "healthy", "unhealthy"})

Resolve = Callable[[str], ContainerRecord]


@frozen
class ListQuery:
    """The query of GET /containers/json; ``ancestors`` are the image IDs that the ancestor filter means."""

    all: bool = False
    limit: int = 0
    filters: Filters
    ancestors: frozenset[str] = frozenset()


def status_sentence(record: ContainerRecord, now: float) -> str:
    """Return the Status of a list entry in Docker's words."""
    up = times.human_duration(now - record.started_at)
    ago = times.human_duration(now - record.finished_at)
    match record.status:
        case Status.RUNNING:
            health = _health_word(record)
            return f"Up {up} ({health})" if health else f"Up {up}"
        case Status.PAUSED:
            return f"Up {up} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({record.exit_code}) {ago} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case Status.EXITED:
            return f"Exited ({record.exit_code}) {ago} ago" if record.finished_at else "Created"


def _health_word(record: ContainerRecord) -> str:
    if record.health is None or record.health.status == "none":
        return ""
    status = record.health.status
    return "health: starting" if status == "starting" else status


def select(
    records: Sequence[ContainerRecord], query: ListQuery, resolve: Resolve
) -> list[ContainerRecord]:
    """Return what a list query asks for, newest first; raises InvalidInputError and NotFoundError."""
    filters = query.filters
    check_filters(filters)
    ordered = sorted(records, key=lambda record: record.created, reverse=True)
    before = _positions(ordered, filters.get("before", ()), resolve)
    since = _positions(ordered, filters.get("since", ()), resolve)
    everything = query.all or query.limit > 0 or bool(filters.get("status"))
    found = []
    for position, record in enumerate(ordered):
        if not everything and not before and not since and record.status not in LIVE:
            continue
        if before and position <= max(before):
            continue
        if since and position >= min(since):
            continue
        if matches(record, query):
            found.append(record)
        if query.limit > 0 and len(found) == query.limit:
            break
    return found


def _positions(
    ordered: Sequence[ContainerRecord], names: Sequence[str], resolve: Resolve
) -> list[int]:
    ids = [resolve(name).id for name in names]
    return [position for position, record in enumerate(ordered) if record.id in ids]


def check_filters(filters: Filters) -> None:
    """Raise InvalidInputError for values that no container can have."""
    states = {status.value for status in Status}
    for value in filters.get("status", ()):
        if value not in states:
            raise InvalidInputError(
                f"invalid filter 'status={value}': invalid value for state ({value}): must be one of "
                f"{', '.join(status.value for status in Status)}"
            )
    for value in filters.get("health", ()):
        if value not in _HEALTHS:
            raise InvalidInputError(f"invalid filter 'health={value}'")
    for value in filters.get("exited", ()):
        if not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise InvalidInputError(f"invalid filter 'exited={value}'")
    for value in filters.get("is-task", ()):
        if value.lower() not in ("0", "1", "f", "t", "false", "true"):
            raise InvalidInputError(f"invalid filter 'is-task=[{value}]'")
    for key in ("publish", "expose"):
        for value in filters.get(key, ()):
            ports.parse_port(value, at=f"filter '{key}'")


def matches(record: ContainerRecord, query: ListQuery) -> bool:
    """Tell whether every filter holds (before and since are positions and not looked at here)."""
    filters = query.filters
    tests: tuple[tuple[str, Callable[[str], bool]], ...] = (
        ("id", lambda value: _regex(value, record.id)),
        ("name", lambda value: _regex(value, record.name) or _regex(value, f"/{record.name}")),
        ("status", lambda value: record.status.value == value),
        ("health", lambda value: (record.health.status if record.health else "none") == value),
        ("exited", lambda value: record.status not in LIVE and str(record.exit_code) == value),
        ("volume", lambda value: any(value in (m.name, m.target) for m in record.mounts)),
        ("network", lambda value: _on_network(record, value)),
        ("publish", lambda value: _publishes(record, value)),
        ("expose", lambda value: _exposes(record, value)),
        ("is-task", lambda value: value.lower() in ("false", "f", "0")),
    )
    if not labels_match(filters.get("label", ()), record.labels):
        return False
    if filters.get("ancestor") and not _descends(record, query):
        return False
    return all(
        any(test(value) for value in filters[key]) for key, test in tests if filters.get(key)
    )


def _descends(record: ContainerRecord, query: ListQuery) -> bool:
    names = query.filters["ancestor"]
    return record.image_id in query.ancestors or record.spec.image in names


def _regex(pattern: str, text: str) -> bool:
    if pattern == text:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


def _on_network(record: ContainerRecord, value: str) -> bool:
    return any(
        value == name
        or endpoint.network_id == value
        or (len(value) >= 4 and endpoint.network_id.startswith(value))
        for name, endpoint in record.endpoints.items()
    )


def _publishes(record: ContainerRecord, value: str) -> bool:
    first, last, protocol = ports.parse_port(value, at="filter 'publish'")
    return any(
        item.protocol == protocol and first <= item.host_port <= last for item in record.ports
    ) or any(
        item.protocol == protocol and first <= item.container_port <= last for item in record.ports
    )


def _exposes(record: ContainerRecord, value: str) -> bool:
    first, last, protocol = ports.parse_port(value, at="filter 'expose'")
    wanted = {f"{port}/{protocol}" for port in range(first, last + 1)}
    return not wanted.isdisjoint(record.exposed_ports)


def entry_body(
    record: ContainerRecord, *, now: float, image: str, sizes: Mapping[str, int] | None = None
) -> JsonObject:
    """Return one entry of the list; ``image`` is how its image is called now, ``sizes`` SizeRw and SizeRootFs."""
    live = record.status in (Status.RUNNING, Status.PAUSED)
    requests = {request.network: request for request in record.spec.endpoints}
    names = [f"/{record.name}"]
    return {
        "Id": record.id,
        "Names": [*names],
        "Image": image,
        "ImageID": record.image_id,
        "Command": _command(record),
        "Created": int(record.created),
        "Ports": ports.list_ports(record, record.ports) if live else [],
        **(sizes or {}),
        "Labels": {**record.labels},
        "State": record.status.value,
        "Status": status_sentence(record, now),
        "HostConfig": {
            "NetworkMode": "bridge"
            if record.spec.network_mode == "default"
            else record.spec.network_mode
        },
        "NetworkSettings": {
            "Networks": {
                name: endpoint_body(endpoint, requests.get(name), record.id, live=live)
                for name, endpoint in record.endpoints.items()
            }
        },
        "Mounts": mounts.points_body(record.mounts),
    }


def _command(record: ContainerRecord) -> str:
    """Return path and arguments as Docker joins them: an argument with a space is quoted."""
    words = [f"'{word}'" if " " in word else word for word in record.args]
    return " ".join((record.path, *words))
