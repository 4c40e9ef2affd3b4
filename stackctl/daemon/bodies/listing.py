"""Containers as the list shows them: filters, order, status sentences; pure."""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from stackctl.api import times
from stackctl.api.filters import Filters, atoi, fits, flag, labels_match
from stackctl.contracts.container import ContainerRecord, Status
from stackctl.daemon.bodies import mounts, ports
from stackctl.daemon.bodies.containers import LIVE, endpoint_body
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.values import Json, JsonObject

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
_HEALTHS = ("none", "starting", "healthy", "unhealthy")

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
    fits = _selector(records, query)
    ordered = sorted(records, key=lambda record: record.created, reverse=True)
    before = _positions(ordered, filters.get("before", ()), resolve)
    since = _positions(ordered, filters.get("since", ()), resolve)
    everything = query.all or query.limit > 0 or bool(filters.get("status"))
    found = []
    for position, record in enumerate(ordered):
        if not everything and record.status not in LIVE:
            continue
        if before and position <= max(before):
            continue
        if since and position >= min(since):
            continue
        if fits(record):
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
    """Raise InvalidInputError for values that no container can have, in Docker's words."""
    states = [status.value for status in Status]
    for value in filters.get("status", ()):
        _check_word("status", "state", value, states)
    for value in filters.get("health", ()):
        _check_word("health", "health", value, _HEALTHS)
    for value in filters.get("exited", ()):
        try:
            atoi(value)
        except InvalidInputError as error:
            raise InvalidInputError(f"invalid filter 'exited={value}': {error.message}") from error
    flag(filters, "is-task")


def _check_word(key: str, name: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise InvalidInputError(
            f"invalid filter '{key}={value}': invalid value for {name} ({value}): must be one of {', '.join(words)}"
        )


def _port_numbers(key: str, values: Sequence[str]) -> frozenset[str]:
    """Return the ports ("80/tcp") that values such as 80, 80/udp or 80-90 name; raises InvalidInputError."""
    found: set[str] = set()
    for value in values:
        if ":" in value:
            raise InvalidInputError(f"filter for '{key}' should not contain ':': {value}")
        span, _, protocol = value.partition("/")
        try:
            first, last = _span(span)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"error while looking up for {key} {value}: {error.message}"
            ) from error
        found.update(f"{port}/{protocol or 'tcp'}" for port in range(first, last + 1))
    return frozenset(found)


def _span(text: str) -> tuple[int, int]:
    if not text:
        raise InvalidInputError("Empty string specified for ports.")
    first, dash, last = text.partition("-")
    low = _port(first)
    high = _port(last) if dash else low
    if high < low:
        raise InvalidInputError(f"Invalid range specified for the Port: {text}")
    return low, high


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]+", text):
        raise InvalidInputError(
            f"strconv.ParseUint: parsing {json.dumps(text[:80])}: invalid syntax"
        )
    if int(text[:20]) > 65535:
        raise InvalidInputError(f'strconv.ParseUint: parsing "{text[:80]}": value out of range')
    return int(text)


def _selector(
    records: Sequence[ContainerRecord], query: ListQuery
) -> Callable[[ContainerRecord], bool]:
    """Return what tells whether every filter holds but for before and since, which are positions."""
    filters = query.filters
    check_filters(filters)
    codes = {atoi(value) for value in filters.get("exited", ())}
    published = _port_numbers("publish", filters.get("publish", ()))
    exposed = _port_numbers("expose", filters.get("expose", ()))
    by_id = _of_ids(records, filters.get("id", ()))
    # There are no tasks here.
    none = flag(filters, "is-task")
    tests: tuple[tuple[str, Callable[[ContainerRecord, str], bool]], ...] = (
        ("name", lambda record, value: fits(value, record.name) or fits(value, f"/{record.name}")),
        ("status", lambda record, value: record.status.value == value),
        ("health", lambda record, value: _health(record) == value),
        (
            "volume",
            lambda record, value: any(
                value in (mount.name or mount.source, mount.target) for mount in record.mounts
            ),
        ),
        ("network", _on_network),
    )
    wanted = [(filters[key], test) for key, test in tests if filters.get(key)]

    def matches(record: ContainerRecord) -> bool:
        if none or not labels_match(filters.get("label", ()), record.labels):
            return False
        if by_id is not None and record.id not in by_id:
            return False
        if "ancestor" in filters and record.image_id not in query.ancestors:
            return False
        if codes and not _ended_with(record, codes):
            return False
        if (published or exposed) and not _has_port(record, published, exposed):
            return False
        return all(any(test(record, value) for value in values) for values, test in wanted)

    return matches


def _of_ids(records: Sequence[ContainerRecord], values: Sequence[str]) -> frozenset[str] | None:
    """Return the IDs that the values are the one possible beginning of; None when there are no values."""
    if not values:
        return None
    found: set[str] = set()
    for value in values:
        begun = [record.id for record in records if value and record.id.startswith(value)]
        if len(begun) == 1:
            found.update(begun)
    return frozenset(found)


def _health(record: ContainerRecord) -> str:
    return record.health.status if record.health else "none"


def _ended_with(record: ContainerRecord, codes: Collection[int]) -> bool:
    return record.status not in LIVE and record.started_at > 0 and record.exit_code in codes


def _has_port(
    record: ContainerRecord, published: Collection[str], exposed: Collection[str]
) -> bool:
    for item in _ports(record):
        if isinstance(item, dict) and (
            f"{item.get('PublicPort', 0)}/{item['Type']}" in published
            or f"{item['PrivatePort']}/{item['Type']}" in exposed
        ):
            return True
    return False


def _on_network(record: ContainerRecord, value: str) -> bool:
    return any(
        value == name or endpoint.network_id.startswith(value)
        for name, endpoint in record.endpoints.items()
    )


def _ports(record: ContainerRecord) -> list[Json]:
    live = record.status in (Status.RUNNING, Status.PAUSED)
    return ports.list_ports(record, record.ports) if live else []


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
        "Ports": _ports(record),
        # What is nothing is not told.
        **{name: size for name, size in (sizes or {}).items() if size},
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
                name: {
                    **endpoint_body(
                        endpoint,
                        requests.get(name),
                        record.id,
                        live=live,
                        started=record.started_at > 0,
                    ),
                    "DNSNames": None,
                }
                for name, endpoint in record.endpoints.items()
            }
        },
        "Mounts": mounts.points_body(record.mounts),
    }


def _command(record: ContainerRecord) -> str:
    """Return path and arguments as Docker joins them: an argument with a space is quoted."""
    words = [f"'{word}'" if " " in word else word for word in record.args]
    return " ".join((record.path, *words))
