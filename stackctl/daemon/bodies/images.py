"""Image bodies; pure."""

import fnmatch
from collections.abc import Sequence

from stackctl.api import times
from stackctl.api.filters import Filters, flag, labels_match
from stackctl.contracts.state import HistoryEntry, ImageConfig, ImageRecord
from stackctl.daemon.bodies.containers import STORAGE_DRIVER, healthcheck_body
from stackctl.oci.reference import parse_reference
from stackctl.values import Json, JsonObject

KEYS = frozenset({"before", "dangling", "label", "reference", "since", "until"})


def created_at(record: ImageRecord) -> float:
    """Return when the image was made, seconds since the epoch; 0.0 when it does not say."""
    text = record.created
    if not text or text.startswith("0001-"):
        return 0.0
    return times.parse_instant(text, field="created", now=0.0)


def entry_body(record: ImageRecord, *, containers: int = -1) -> JsonObject:
    """Return one entry of GET /images/json."""
    return {
        "Containers": containers,
        "Created": int(created_at(record)),
        "Id": record.id,
        "Labels": {**record.config.labels} or None,
        "ParentId": record.parent,
        "RepoDigests": [*record.digests],
        "RepoTags": [*record.tags],
        "SharedSize": -1,
        "Size": record.size,
    }


def inspect_body(record: ImageRecord) -> JsonObject:
    """Return the answer to GET /images/{name}/json."""
    body: JsonObject = {
        "Id": record.id,
        "RepoTags": [*record.tags],
        "RepoDigests": [*record.digests],
        "Parent": record.parent,
        "Comment": record.comment,
        "Created": record.created or times.ZERO,
        "DockerVersion": "",
        "Author": record.author,
        "Config": config_body(record.config),
        "Architecture": record.architecture,
        "Os": record.os,
        "Size": record.size,
        "VirtualSize": record.size,
        "GraphDriver": {"Data": {}, "Name": STORAGE_DRIVER},
        "RootFS": {"Type": "layers", **({"Layers": [*record.diff_ids]} if record.diff_ids else {})},
        "Metadata": {"LastTagTime": times.rfc3339(record.tagged_at)},
    }
    if record.variant:
        body["Variant"] = record.variant
    return body


def config_body(config: ImageConfig) -> JsonObject:
    """Return an image's Config with every field that Docker shows."""
    body: JsonObject = {
        "Hostname": "",
        "Domainname": "",
        "User": config.user,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": [*config.env] or None,
        "Cmd": None if config.cmd is None else [*config.cmd],
        "Image": "",
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": None if config.entrypoint is None else [*config.entrypoint],
        "OnBuild": [*config.on_build] or None,
        "Labels": {**config.labels} or None,
    }
    if config.exposed_ports:
        body["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.healthcheck is not None:
        body["Healthcheck"] = healthcheck_body(config.healthcheck)
    if config.stop_signal:
        body["StopSignal"] = config.stop_signal
    if config.shell:
        body["Shell"] = [*config.shell]
    return body


def history_body(
    record: ImageRecord, entries: Sequence[tuple[HistoryEntry, int]]
) -> list[Json]:
    """Return the history, newest first; each entry comes with the bytes of its layer."""
    body: list[Json] = []
    for number, (entry, size) in enumerate(reversed(entries)):
        created = times.parse_instant(entry.created, field="created", now=0.0) if entry.created else 0.0
        tags: Json = [*record.tags] or None
        body.append(
            {
                "Comment": entry.comment,
                "Created": int(created),
                "CreatedBy": entry.created_by,
                "Id": record.id if number == 0 else "<missing>",
                "Size": size,
                "Tags": tags if number == 0 else None,
            }
        )
    return body


def matches_reference(record: ImageRecord, patterns: Sequence[str]) -> bool:
    """Tell whether a tag or digest of the image fits one of the patterns (name, name:tag, with * and ?)."""
    names = (*record.tags, *record.digests)
    return any(_fits(name, pattern) for name in names for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    repository, _, digest = name.partition("@")
    bare = repository
    if not digest:
        reference = parse_reference(name)
        bare = reference.name
    short = bare.rpartition("/")[2]
    tag = name[len(bare) :]
    wanted = pattern.removeprefix("docker.io/").removeprefix("library/")
    return any(
        fnmatch.fnmatchcase(candidate, wanted) and candidate.count("/") == wanted.count("/")
        for candidate in (name, bare, *((short, short + tag) if "/" not in bare else ()))
    )


def matches(record: ImageRecord, filters: Filters, *, now: float) -> bool:
    """Tell whether the filters that look at one image alone hold; raises InvalidInputError."""
    if "dangling" in filters and flag(filters, "dangling") != (not record.tags and not record.digests):
        return False
    if (patterns := filters.get("reference")) and not matches_reference(record, patterns):
        return False
    for value in filters.get("until", ()):
        if created_at(record) >= times.parse_instant(value, field="filter 'until'", now=now):
            return False
    return labels_match(filters.get("label", ()), record.config.labels)
