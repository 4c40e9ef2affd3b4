"""The state of a stage between two steps, and its form as an OCI image configuration; pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from stackctl.contracts.container import Healthcheck
from stackctl.contracts.state import HistoryEntry, ImageConfig, ImageRecord
from stackctl.oci.platform import Platform
from stackctl.values import Json, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """An image being made. ``layers`` are chain IDs; ``blobs`` and ``diff_ids`` belong to them, lowest first.

    ``args`` are the build arguments in scope; they are no part of the image.
    """

    platform: Platform
    config: ImageConfig = ImageConfig()
    layers: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""
    author: str = ""
    args: Mapping[str, str] = field(default_factory=dict)


def of_record(record: ImageRecord) -> State:
    """Return the state a FROM starts with. Triggers and health of the base are kept as Docker keeps them."""
    return State(
        platform=Platform(
            os=record.os or "linux", architecture=record.architecture, variant=record.variant
        ),
        config=record.config,
        layers=record.layers,
        diff_ids=record.diff_ids,
        blobs=record.layer_blobs,
        history=record.history,
        created=record.created,
        author=record.author,
    )


def oci_config(state: State) -> JsonObject:
    """Return the image configuration (OCI image specification, config.md; Docker's additions included)."""
    tree: JsonObject = {
        "architecture": state.platform.architecture,
        "os": state.platform.os,
        "created": state.created,
        "config": _config(state.config),
        "rootfs": {"type": "layers", "diff_ids": list(state.diff_ids)},
        "history": [_history(entry) for entry in state.history],
    }
    if state.platform.variant:
        tree["variant"] = state.platform.variant
    if state.author:
        tree["author"] = state.author
    return tree


def encode(state: State) -> bytes:
    """Return the configuration's bytes; the same state always gives the same."""
    return json.dumps(oci_config(state), separators=(",", ":"), sort_keys=True).encode()


def decode_cached(data: bytes, before: State) -> State:
    """Return the state that a cached step led to from ``before``; raises ValueError or KeyError when damaged."""
    tree = cast(JsonObject, json.loads(data))
    rootfs = cast(dict[str, list[str]], tree["rootfs"])
    diff_ids = tuple(rootfs["diff_ids"])
    if diff_ids[: len(before.diff_ids)] != before.diff_ids:
        raise ValueError("the cached step has other layers below it")
    return replace(
        before,
        config=_read_config(cast(JsonObject, tree["config"])),
        diff_ids=diff_ids,
        blobs=(*before.blobs, *diff_ids[len(before.diff_ids) :]),
        history=tuple(
            _read_history(cast(JsonObject, entry)) for entry in cast(list[Json], tree["history"])
        ),
        created=str(tree["created"]),
        author=str(tree.get("author", "")),
    )


def _config(config: ImageConfig) -> JsonObject:
    tree: JsonObject = {}
    if config.user:
        tree["User"] = config.user
    if config.exposed_ports:
        tree["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.env:
        tree["Env"] = list(config.env)
    if config.entrypoint is not None:
        tree["Entrypoint"] = list(config.entrypoint)
    if config.cmd is not None:
        tree["Cmd"] = list(config.cmd)
    if config.volumes:
        tree["Volumes"] = {path: {} for path in config.volumes}
    if config.working_dir:
        tree["WorkingDir"] = config.working_dir
    if config.labels:
        tree["Labels"] = dict(config.labels)
    if config.stop_signal:
        tree["StopSignal"] = config.stop_signal
    if config.healthcheck is not None:
        tree["Healthcheck"] = _health(config.healthcheck)
    if config.shell:
        tree["Shell"] = list(config.shell)
    if config.on_build:
        tree["OnBuild"] = list(config.on_build)
    return tree


_HEALTH_TIMES = (
    ("Interval", "interval"),
    ("Timeout", "timeout"),
    ("StartPeriod", "start_period"),
    ("StartInterval", "start_interval"),
)


def _health(check: Healthcheck) -> JsonObject:
    tree: JsonObject = {"Test": list(check.test)}
    for key, name in _HEALTH_TIMES:
        seconds = getattr(check, name)
        if seconds:
            tree[key] = round(seconds * 1e9)
    if check.retries:
        tree["Retries"] = check.retries
    return tree


def _history(entry: HistoryEntry) -> JsonObject:
    tree: JsonObject = {"created": entry.created, "created_by": entry.created_by}
    if entry.comment:
        tree["comment"] = entry.comment
    if entry.author:
        tree["author"] = entry.author
    if entry.empty_layer:
        tree["empty_layer"] = True
    return tree


def _read_history(tree: JsonObject) -> HistoryEntry:
    return HistoryEntry(
        created=str(tree.get("created", "")),
        created_by=str(tree.get("created_by", "")),
        comment=str(tree.get("comment", "")),
        author=str(tree.get("author", "")),
        empty_layer=bool(tree.get("empty_layer", False)),
    )


def _strings(value: Json) -> tuple[str, ...]:
    return tuple(str(item) for item in cast(list[Json], value))


def _read_config(tree: JsonObject) -> ImageConfig:
    health: Healthcheck | None = None
    if "Healthcheck" in tree:
        found = cast(JsonObject, tree["Healthcheck"])
        times = {name: cast(int, found.get(key, 0)) / 1e9 for key, name in _HEALTH_TIMES}
        health = Healthcheck(
            test=_strings(found["Test"]), retries=cast(int, found.get("Retries", 0)), **times
        )
    labels = cast(dict[str, str], tree.get("Labels", {}))
    return ImageConfig(
        user=str(tree.get("User", "")),
        exposed_ports=tuple(cast(JsonObject, tree.get("ExposedPorts", {}))),
        env=_strings(tree.get("Env", [])),
        entrypoint=_strings(tree["Entrypoint"]) if "Entrypoint" in tree else None,
        cmd=_strings(tree["Cmd"]) if "Cmd" in tree else None,
        volumes=tuple(cast(JsonObject, tree.get("Volumes", {}))),
        working_dir=str(tree.get("WorkingDir", "")),
        labels=dict(labels),
        stop_signal=str(tree.get("StopSignal", "")),
        healthcheck=health,
        shell=_strings(tree.get("Shell", [])),
        on_build=_strings(tree.get("OnBuild", [])),
    )
