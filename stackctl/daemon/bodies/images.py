"""Image bodies; pure."""

import fnmatch
from collections.abc import Sequence

from stackctl.api import times
from stackctl.api.codec import Reader
from stackctl.api.filters import Filters, flag, labels_match
from stackctl.api.versions import MAXIMUM, Version
from stackctl.contracts.state import ImageConfig, ImageRecord
from stackctl.daemon.bodies.containers import STORAGE_DRIVER, healthcheck_body
from stackctl.daemon.bodies.create import read_healthcheck
from stackctl.engine.image_values import HistoryLine, Removal
from stackctl.oci.reference import parse_reference
from stackctl.values import Json, JsonObject

KEYS = frozenset({"before", "dangling", "label", "reference", "since", "until"})


# Fields of a container's Config that an image's had until API 1.50; what a list and inspect said twice until 1.44.
_CONTAINER_FIELDS = frozenset(
    {"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"}
    | {"StdinOnce", "Image"}
)
_WITHOUT_CONTAINER_FIELDS = (1, 50)
_WITHOUT_VIRTUAL_SIZE = (1, 44)


def created_at(record: ImageRecord) -> float:
    """Return when the image was made, seconds since the epoch; 0.0 when it does not say."""
    text = record.created
    if not text or text.startswith("0001-"):
        return 0.0
    return times.parse_instant(text, field="created", now=0.0)


def entry_body(
    record: ImageRecord, *, containers: int = -1, references: Sequence[str] = ()
) -> JsonObject:
    """Return one entry of GET /images/json; of its names only those that fit ``references``, if there are any."""

    def shown(names: Sequence[str]) -> list[Json]:
        return [
            name
            for name in names
            if not references or any(_fits(name, pattern) for pattern in references)
        ]

    return {
        "Containers": containers,
        "Created": int(created_at(record)),
        "Id": record.id,
        "Labels": {**record.config.labels} or None,
        "ParentId": record.parent,
        "RepoDigests": shown(record.digests),
        "RepoTags": shown(record.tags),
        "SharedSize": -1,
        "Size": record.size,
    }


def inspect_body(record: ImageRecord, *, version: Version = MAXIMUM) -> JsonObject:
    """Return the answer to GET /images/{name}/json; older versions of the API show more fields."""
    config = config_body(record.config)
    # Where the image has none of its own, Docker shows that of its last step.
    comment = record.comment or (record.history[-1].comment if record.history else "")
    if version >= _WITHOUT_CONTAINER_FIELDS:
        config = {key: value for key, value in config.items() if key not in _CONTAINER_FIELDS}
    body: JsonObject = {
        "Id": record.id,
        "RepoTags": [*record.tags],
        "RepoDigests": [*record.digests],
        "Parent": record.parent,
        "Comment": comment,
        "Created": record.created or times.ZERO,
        "DockerVersion": "",
        "Author": record.author,
        "Config": config,
        "Architecture": record.architecture,
        "Os": record.os,
        "Size": record.size,
        "GraphDriver": {"Data": {}, "Name": STORAGE_DRIVER},
        "RootFS": {"Type": "layers", **({"Layers": [*record.diff_ids]} if record.diff_ids else {})},
        "Metadata": {"LastTagTime": times.rfc3339(record.tagged_at)},
    }
    if version < _WITHOUT_VIRTUAL_SIZE:
        body["VirtualSize"] = record.size
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


def history_body(line: HistoryLine) -> JsonObject:
    """Return one entry of the history."""
    return {
        "Comment": line.comment,
        "Created": int(line.created),
        "CreatedBy": line.created_by,
        "Id": line.id,
        "Size": line.size,
        "Tags": [*line.tags] or None,
    }


def removals_body(gone: Sequence[Removal]) -> list[Json]:
    return [
        {"Untagged": item.untagged} if item.untagged else {"Deleted": item.deleted} for item in gone
    ]


def label_pairs(values: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Return label filters as (key, value); a value of None means that the key is enough."""
    parts = (value.partition("=") for value in values)
    return tuple((key, text if equals else None) for key, equals, text in parts)


def commit_config(body: Reader) -> ImageConfig | None:
    """Return the configuration that a commit's body asks for; None for {}."""
    if not any(body.raw(key) for key in body.names()):
        return None
    return ImageConfig(
        user=body.text("User"),
        exposed_ports=tuple(body.child("ExposedPorts").names()),
        env=body.texts("Env"),
        entrypoint=body.words("Entrypoint"),
        cmd=body.words("Cmd"),
        volumes=tuple(body.child("Volumes").names()),
        working_dir=body.text("WorkingDir"),
        labels=body.text_map("Labels"),
        stop_signal=body.text("StopSignal"),
        healthcheck=read_healthcheck(body.optional_child("Healthcheck")),
        shell=body.texts("Shell"),
        on_build=body.texts("OnBuild"),
    )


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
    if "dangling" in filters and flag(filters, "dangling") != (
        not record.tags and not record.digests
    ):
        return False
    if (patterns := filters.get("reference")) and not matches_reference(record, patterns):
        return False
    for value in filters.get("until", ()):
        if created_at(record) >= times.parse_instant(value, field="filter 'until'", now=now):
            return False
    return labels_match(filters.get("label", ()), record.config.labels)
