"""Image configuration: JSON (OCI image specification, config.md, with Docker's additions) to values and back; pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from stackctl.contracts.container import Healthcheck
from stackctl.contracts.state import HistoryEntry, ImageConfig
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.oci.digest import check_digest
from stackctl.oci.image import parse_object
from stackctl.values import Json, JsonObject

_NANOSECONDS = 1_000_000_000


@frozen
class ImageDocument:
    """A whole image configuration; ``created`` as it stands (RFC 3339), "" where it is not set."""

    config: ImageConfig = ImageConfig()
    created: str = ""
    architecture: str = ""
    variant: str = ""
    os: str = "linux"
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    diff_ids: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()


def parse_document(data: bytes) -> ImageDocument:
    """Return the configuration; raises InvalidInputError."""
    tree = parse_object(data, "image configuration")
    rootfs = tree.get("rootfs")
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids") or [], list):
        raise InvalidInputError("the image configuration has no rootfs")
    history = tree.get("history") or []
    return ImageDocument(
        config=parse_config(_object(tree.get("config"))),
        created=_text(tree, "created"),
        architecture=_text(tree, "architecture"),
        variant=_text(tree, "variant"),
        os=_text(tree, "os") or "linux",
        author=_text(tree, "author"),
        comment=_text(tree, "comment"),
        docker_version=_text(tree, "docker_version"),
        diff_ids=tuple(check_digest(item) for item in _texts(rootfs, "diff_ids")),
        history=tuple(
            HistoryEntry(
                created=_text(item, "created"),
                created_by=_text(item, "created_by"),
                comment=_text(item, "comment"),
                author=_text(item, "author"),
                empty_layer=bool(item.get("empty_layer")),
            )
            for item in (history if isinstance(history, list) else [])
            if isinstance(item, dict)
        ),
    )


def parse_config(tree: JsonObject) -> ImageConfig:
    """Return what containers inherit, from the ``config`` object."""
    return ImageConfig(
        user=_text(tree, "User"),
        exposed_ports=tuple(sorted(_object(tree.get("ExposedPorts")))),
        env=_texts(tree, "Env"),
        entrypoint=_command(tree, "Entrypoint"),
        cmd=_command(tree, "Cmd"),
        volumes=tuple(sorted(_object(tree.get("Volumes")))),
        working_dir=_text(tree, "WorkingDir"),
        labels={key: str(value) for key, value in _object(tree.get("Labels")).items()},
        stop_signal=_text(tree, "StopSignal"),
        healthcheck=_healthcheck(tree.get("Healthcheck")),
        shell=_texts(tree, "Shell"),
        on_build=_texts(tree, "OnBuild"),
    )


def document_tree(document: ImageDocument) -> JsonObject:
    """Return the configuration as JSON, always the same for the same value."""
    tree: JsonObject = {
        "architecture": document.architecture,
        "config": config_tree(document.config),
        "created": document.created,
        "history": [_history_tree(entry) for entry in document.history],
        "os": document.os,
        "rootfs": {"type": "layers", "diff_ids": list(document.diff_ids)},
    }
    for key in ("variant", "author", "comment"):
        if value := getattr(document, key):
            tree[key] = value
    return tree


def document_bytes(tree: JsonObject) -> bytes:
    return json.dumps(tree, separators=(",", ":"), sort_keys=True).encode()


def config_tree(config: ImageConfig) -> JsonObject:
    """Return the ``config`` object in Docker's form: absent where empty, ports and volumes as sets."""
    tree: JsonObject = {}
    for key, text in (
        ("User", config.user), ("WorkingDir", config.working_dir), ("StopSignal", config.stop_signal)
    ):  # fmt: skip
        if text:
            tree[key] = text
    for key, names in (("ExposedPorts", config.exposed_ports), ("Volumes", config.volumes)):
        if names:
            tree[key] = {name: {} for name in names}
    for key, items in (
        ("Env", config.env), ("Shell", config.shell), ("OnBuild", config.on_build),
        ("Entrypoint", config.entrypoint), ("Cmd", config.cmd),
    ):  # fmt: skip
        if items:
            tree[key] = list(items)
    if config.labels:
        tree["Labels"] = dict(config.labels)
    if config.healthcheck is not None:
        tree["Healthcheck"] = healthcheck_tree(config.healthcheck)
    return tree


def healthcheck_tree(check: Healthcheck) -> JsonObject:
    tree: JsonObject = {"Test": list(check.test)}
    for key, seconds in (
        ("Interval", check.interval), ("Timeout", check.timeout),
        ("StartPeriod", check.start_period), ("StartInterval", check.start_interval),
    ):  # fmt: skip
        if seconds:
            tree[key] = round(seconds * _NANOSECONDS)
    if check.retries:
        tree["Retries"] = check.retries
    return tree


def timestamp(seconds: float) -> str:
    """Return an instant as RFC 3339 with microseconds, in UTC."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def instant(text: str) -> float:
    """Return an RFC 3339 time in seconds since the epoch, 0.0 for what is none (nanoseconds are cut)."""
    head, dot, rest = text.partition(".")
    if dot:
        digits = len(rest) - len(rest.lstrip("0123456789"))
        text = f"{head}.{rest[:digits][:6].ljust(6, '0')}{rest[digits:]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return moment.timestamp() if moment.year > 1 else 0.0


def _history_tree(entry: HistoryEntry) -> JsonObject:
    tree: JsonObject = {}
    for key in ("created", "created_by", "comment", "author"):
        if value := getattr(entry, key):
            tree[key] = value
    if entry.empty_layer:
        tree["empty_layer"] = True
    return tree


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _text(tree: Mapping[str, Json], key: str) -> str:
    value = tree.get(key)
    return value if isinstance(value, str) else ""


def _texts(tree: Mapping[str, Json], key: str) -> tuple[str, ...]:
    value = tree.get(key)
    if not isinstance(value, list):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def _command(tree: Mapping[str, Json], key: str) -> tuple[str, ...] | None:
    """Return a command; None where it is absent. Old images give it as one string."""
    value = tree.get(key)
    if isinstance(value, str):
        return (value,)
    return _texts(tree, key) or None


def _healthcheck(value: Json) -> Healthcheck | None:
    if not isinstance(value, dict):
        return None
    retries = value.get("Retries")
    return Healthcheck(
        test=_texts(value, "Test"),
        interval=_seconds(value.get("Interval")),
        timeout=_seconds(value.get("Timeout")),
        start_period=_seconds(value.get("StartPeriod")),
        start_interval=_seconds(value.get("StartInterval")),
        retries=retries if isinstance(retries, int) else 0,
    )


def _seconds(value: Json) -> float:
    return value / _NANOSECONDS if isinstance(value, int | float) else 0.0
