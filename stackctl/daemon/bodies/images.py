"""Image bodies; pure."""

import re
from collections.abc import Callable, Mapping, Sequence

from stackctl.api import times
from stackctl.api.codec import Reader, parse_object
from stackctl.api.filters import Filters, atoi, flag, labels_match
from stackctl.api.versions import MAXIMUM, Version
from stackctl.contracts.registry import SearchResult
from stackctl.contracts.state import ImageConfig, ImageRecord
from stackctl.daemon.bodies.containers import STORAGE_DRIVER, healthcheck_body
from stackctl.daemon.bodies.create import read_healthcheck
from stackctl.engine.image_values import HistoryLine, Removal
from stackctl.errors import InvalidInputError
from stackctl.ignore import path_matcher
from stackctl.oci.platform import Platform, parse_platform
from stackctl.oci.reference import parse_reference
from stackctl.values import Json, JsonObject

KEYS = frozenset({"before", "dangling", "label", "reference", "since", "until"})


# Fields of a container's Config that an image's had until API 1.50; what a list and inspect said twice until 1.44.
_CONTAINER_FIELDS = frozenset(
    {"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"}
    | {"StdinOnce", "Image"}
)
_WITHOUT_CONTAINER_FIELDS = (1, 50)
_WITH_CONTAINERS = (1, 51)
_WITHOUT_NONE = (1, 43)
_WITHOUT_VIRTUAL_SIZE = (1, 44)


def created_at(record: ImageRecord) -> float:
    """Return when the image was made, seconds since the epoch; 0.0 when it does not say."""
    text = record.created
    if not text or text.startswith("0001-"):
        return 0.0
    return times.parse_instant(text, field="created", now=0.0)


def entry_body(
    record: ImageRecord,
    *,
    containers: int = -1,
    shared: int = -1,
    references: Sequence[str] = (),
    version: Version = MAXIMUM,
) -> JsonObject:
    """Return one entry of GET /images/json; of its names only those that fit ``references``, if there are any.

    ``shared`` are the bytes that other images have too. Both numbers are -1 where they are not told.
    """

    def shown(names: Sequence[str]) -> list[Json]:
        return [
            name
            for name in names
            if not references or any(matcher(name) for matcher in map(_matcher, references))
        ]

    body: JsonObject = {
        "Containers": containers if version >= _WITH_CONTAINERS else -1,
        "Created": int(created_at(record)),
        "Id": record.id,
        "Labels": {**record.config.labels} or None,
        "ParentId": record.parent,
        "RepoDigests": shown(record.digests),
        "RepoTags": shown(record.tags),
        "SharedSize": shared,
        "Size": record.size,
    }
    if version < _WITHOUT_NONE and not record.tags and not record.digests:
        body |= {"RepoDigests": ["<none>@<none>"], "RepoTags": ["<none>:<none>"]}
    if version < _WITHOUT_VIRTUAL_SIZE:
        body["VirtualSize"] = record.size
    return body


def read_platform(text: str) -> Platform | None:
    """Return the platform of a query (JSON with os, architecture and variant); raises InvalidInputError."""
    if not text:
        return None
    try:
        reader = Reader(parse_object(text.encode(), optional=False), "platform")
    except InvalidInputError as error:
        raise InvalidInputError(f"failed to parse platform: {error.message}") from error
    parts = {key: reader.text(key) for key in ("os", "architecture", "variant")}
    if not parts["os"] or not parts["architecture"]:
        raise InvalidInputError("both OS and Architecture must be provided")
    return parse_platform("/".join(part for part in parts.values() if part))


def inspect_body(
    record: ImageRecord, places: Mapping[str, str] | None = None, *, version: Version = MAXIMUM
) -> JsonObject:
    """Return the answer to GET /images/{name}/json; older versions of the API show more fields.

    ``places`` are its layers' directories by Docker's names.
    """
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
        "DockerVersion": record.docker_version,
        "Author": record.author,
        "Config": config,
        "Architecture": record.architecture,
        "Os": record.os,
        "Size": record.size,
        "GraphDriver": {"Data": {**(places or {})} or None, "Name": STORAGE_DRIVER},
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


def search_body(found: Sequence[SearchResult], filters: Filters) -> list[Json]:
    """Return the answer to GET /images/search: what the filters leave (no repository is automated any more)."""
    stars = [_stars(text) for text in filters.get("stars", ())]
    official = flag(filters, "is-official") if "is-official" in filters else None
    automated = flag(filters, "is-automated") if "is-automated" in filters else None
    return [
        {
            "star_count": item.stars,
            "is_official": item.official,
            "name": item.name,
            "is_automated": False,
            "description": item.description,
        }
        for item in found
        if item.stars >= max(stars, default=0)
        and official in (None, item.official)
        and automated in (None, False)
    ]


def _stars(text: str) -> int:
    try:
        return atoi(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"invalid filter 'stars={text[:80]}': {error.message}") from error


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


def selector(filters: Filters) -> Callable[[ImageRecord], bool]:
    """Return what tells whether the filters that look at one image alone hold; raises InvalidInputError."""
    dangling = flag(filters, "dangling") if "dangling" in filters else None
    labels = filters.get("label", ())
    references = [_matcher(pattern) for pattern in filters.get("reference", ())]

    def fits(record: ImageRecord) -> bool:
        if dangling is True and record.tags:
            return False
        if dangling is False and not record.tags and not record.digests:
            return False
        names = (*record.tags, *record.digests)
        if references and not any(matches(name) for name in names for matches in references):
            return False
        return labels_match(labels, record.config.labels)

    return fits


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a reference, or its name alone, is as the pattern says (Go's path.Match)."""
    try:
        matches = path_matcher(re.sub(r"\*+", "*", pattern))
    except InvalidInputError as error:
        raise InvalidInputError("syntax error in pattern") from error

    def fits(name: str) -> bool:
        bare = parse_reference(name.partition("@")[0]).name
        return bool(matches(name) or matches(bare))

    return fits
