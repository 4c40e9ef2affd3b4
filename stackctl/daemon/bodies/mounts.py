"""Mounts as requests carry them (Binds, Mounts, Tmpfs, Volumes) and as answers show them; pure."""

import posixpath
import re
from collections.abc import Iterable, Sequence

from stackctl.api.codec import Reader
from stackctl.contracts.container import ContainerSpec, MountPoint, MountRequest
from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_PROPAGATIONS = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
# Options of a tmpfs mount: those of any mount, and tmpfs(5)'s own.
_TMPFS = frozenset(
    [
        "defaults",
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "remount",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "bind",
        "rbind",
        "unbindable",
        "runbindable",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "mode",
        "uid",
        "gid",
        "size",
        "nr_inodes",
        "nr_blocks",
        "mpol",
        "huge",
    ]
)
_TYPES = frozenset({"bind", "volume", "tmpfs", "image"})


def read_all(config: Reader, host: Reader) -> tuple[MountRequest, ...]:
    """Return every mount that a create body asks for; raises InvalidInputError for two on one target.

    Config.Volumes gives way to anything else on its target, as in Docker.
    """
    driver = host.text("VolumeDriver")
    explicit = [
        *(parse_bind(text, at=host.path("Binds"), driver=driver) for text in host.texts("Binds")),
        *(_read_mount(item) for item in host.children("Mounts")),
        *_read_tmpfs(host),
    ]
    targets: set[str] = set()
    for mount in explicit:
        if mount.target in targets:
            raise InvalidInputError(f"Duplicate mount point: {mount.target}")
        targets.add(mount.target)
    volumes = (
        MountRequest(type="volume", target=clean, driver=driver, origin="volumes")
        for target in config.child("Volumes").names()
        # A path that is not absolute is taken from the root, as in a VOLUME of an image.
        if (clean := _target(f"/{target}", at=config.path("Volumes"))) not in targets
    )
    return (*explicit, *volumes)


def _target(text: str, *, at: str, within: str = "") -> str:
    """Return a place in the container; ``within`` is what Docker's words begin with."""
    if not text.startswith("/"):
        raise InvalidInputError(
            f"invalid {at}: {within}invalid mount path: '{text[:200]}' mount path must be absolute"
        )
    clean = posixpath.normpath(text)
    clean = "/" + clean.lstrip("/")
    if clean == "/":
        raise InvalidInputError(
            f"invalid {at}: {within}invalid specification: destination can't be '/'"
        )
    return clean


def parse_bind(text: str, *, at: str, driver: str = "") -> MountRequest:
    """Return the mount of "source:target[:mode]" or "target"; raises InvalidInputError."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidInputError(f"invalid {at}: invalid volume specification: '{text[:200]}'")
    kind = "bind" if len(parts) > 1 and parts[0].startswith("/") else "volume"
    within = (
        f"invalid volume specification: '{text[:200]}': invalid mount config for type \"{kind}\": "
    )
    target = _target(parts[min(1, len(parts) - 1)], at=at, within=within)
    if len(parts) == 1:
        return MountRequest(type="volume", target=target, driver=driver, origin="binds")
    source = parts[0]
    mode = parts[2] if len(parts) == 3 else ""
    words = mode.split(",") if mode else []
    propagation = ""
    for word in words:
        if word in _PROPAGATIONS:
            propagation = word
        elif word not in ("ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"):
            raise InvalidInputError(f"invalid mode: {mode[:80]}")
    if {"ro", "rw"} <= set(words):
        raise InvalidInputError(f"invalid mode: {mode[:80]}")
    is_path = source.startswith("/")
    if not is_path and not _VOLUME_NAME.fullmatch(source):
        raise InvalidInputError(
            f'create {source[:200]}: "{source[:200]}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return MountRequest(
        type="bind" if is_path else "volume",
        target=target,
        source=source,
        read_only="ro" in words,
        propagation=propagation,
        create_source=is_path,
        no_copy="nocopy" in words,
        driver="" if is_path else driver,
        mode=mode,
        origin="binds",
    )


def _read_mount(item: Reader) -> MountRequest:
    kind = item.text("Type")
    if kind not in _TYPES:
        raise _bad(item, "Type", kind, "mount type unknown")
    source = item.text("Source")
    bind, volume = item.child("BindOptions"), item.child("VolumeOptions")
    tmpfs, image = item.child("TmpfsOptions"), item.child("ImageOptions")
    for name, owner in (
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("TmpfsOptions", "tmpfs"),
    ):
        if (
            owner != kind
            and item.has(name)
            and any(item.child(name).raw(key) for key in item.child(name).names())
        ):
            raise _bad(item, name, kind, f"field {name} must not be specified")
    if kind in ("bind", "image") and not source:
        raise _bad(item, "Source", kind, "field Source must not be empty")
    if kind == "bind" and not source.startswith("/"):
        words = f"invalid mount path: '{source[:200]}' mount path must be absolute"
        raise _bad(item, "Source", kind, words)
    if kind == "tmpfs" and source:
        raise _bad(item, "Source", kind, "field Source must not be specified")
    if kind == "volume" and source and not _VOLUME_NAME.fullmatch(source):
        raise item.fail(
            "Source", f'"{source[:200]}" includes invalid characters for a local volume name'
        )
    if not item.text("Target"):
        raise _bad(item, "Target", kind, "field Target must not be empty")
    subpath = volume.text("Subpath") or image.text("Subpath")
    if posixpath.normpath(subpath or ".").startswith(("/", "..")):
        words = "subpath must be a relative path within the volume"
        raise _bad(item, f"{kind.capitalize()}Options.Subpath", kind, words)
    propagation = bind.text("Propagation")
    if propagation and propagation not in _PROPAGATIONS:
        raise bind.fail("Propagation", f'"{propagation[:80]}" is not a mount propagation')
    driver = volume.child("DriverConfig")
    return MountRequest(
        type=kind,
        target=_target(item.text("Target"), at=item.path("Target"), within=_config_of(kind)),
        source=source,
        read_only=item.boolean("ReadOnly"),
        propagation=propagation,
        non_recursive=bind.boolean("NonRecursive"),
        create_source=bind.boolean("CreateMountpoint"),
        no_copy=volume.boolean("NoCopy"),
        subpath=subpath,
        driver=driver.text("Name"),
        driver_options=driver.text_map("Options"),
        labels=volume.text_map("Labels"),
        tmpfs_size=tmpfs.integer("SizeBytes"),
        tmpfs_mode=tmpfs.integer("Mode"),
        tmpfs_options=_tmpfs_options(tmpfs),
        origin="mounts",
    )


def _config_of(kind: str) -> str:
    return f'invalid mount config for type "{kind[:80]}": '


def _bad(item: Reader, name: str, kind: str, words: str) -> InvalidInputError:
    """Return the error of a field of a mount, in Docker's words."""
    return item.fail(name, _config_of(kind) + words)


def _tmpfs_options(tmpfs: Reader) -> str:
    options = tmpfs.raw("Options")
    if options is None:
        return ""
    words: list[str] = []
    for item in options if isinstance(options, list) else [None]:
        if not isinstance(item, list) or not all(isinstance(part, str) for part in item):
            raise tmpfs.fail("Options", "expected an array of arrays of strings")
        if item not in (["exec"], ["noexec"]):
            raise tmpfs.fail("Options", f"invalid option: {'='.join(map(str, item))[:80]}")
        words.append(str(item[0]))
    return ",".join(words)


def _read_tmpfs(host: Reader) -> Iterable[MountRequest]:
    for target, options in host.text_map("Tmpfs").items():
        clean = _target(target, at=host.path("Tmpfs"))
        for option in options.split(",") if options else ():
            if option.partition("=")[0] not in _TMPFS:
                raise InvalidInputError(
                    f'invalid {host.path("Tmpfs")}.{target[:80]}: invalid tmpfs option "{option[:80]}"'
                )
        yield MountRequest(type="tmpfs", target=clean, tmpfs_options=options, origin="tmpfs")


def binds_body(mounts: Sequence[MountRequest]) -> list[Json] | None:
    """Return HostConfig.Binds as asked for; null when there were none."""
    binds: list[Json] = []
    for mount in mounts:
        if mount.origin == "binds":
            parts = [mount.source, mount.target, mount.mode] if mount.source else [mount.target]
            binds.append(":".join(part for part in parts if part))
    return binds or None


def tmpfs_body(spec: ContainerSpec) -> JsonObject:
    return {mount.target: mount.tmpfs_options for mount in spec.mounts if mount.origin == "tmpfs"}


def mounts_body(mounts: Sequence[MountRequest]) -> list[Json]:
    """Return HostConfig.Mounts as asked for."""
    return [_mount_body(mount) for mount in mounts if mount.origin == "mounts"]


def _mount_body(mount: MountRequest) -> JsonObject:
    body: JsonObject = {"Type": mount.type, "Target": mount.target}
    if mount.source:
        body["Source"] = mount.source
    if mount.read_only:
        body["ReadOnly"] = True
    if mount.type == "bind":
        options: JsonObject = {}
        if mount.propagation:
            options["Propagation"] = mount.propagation
        if mount.non_recursive:
            options["NonRecursive"] = True
        if mount.create_source:
            options["CreateMountpoint"] = True
        if options:
            body["BindOptions"] = options
    elif mount.type == "tmpfs":
        if mount.tmpfs_size or mount.tmpfs_mode:
            body["TmpfsOptions"] = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode}
    elif mount.type == "image":
        if mount.subpath:
            body["ImageOptions"] = {"Subpath": mount.subpath}
    elif volume := _volume_options(mount):
        body["VolumeOptions"] = volume
    return body


def _volume_options(mount: MountRequest) -> JsonObject:
    body: JsonObject = {}
    if mount.no_copy:
        body["NoCopy"] = True
    if mount.labels:
        body["Labels"] = {**mount.labels}
    if mount.subpath:
        body["Subpath"] = mount.subpath
    if mount.driver or mount.driver_options:
        body["DriverConfig"] = {"Name": mount.driver, "Options": {**mount.driver_options}}
    return body


def points_body(mounts: Sequence[MountPoint]) -> list[Json]:
    """Return the Mounts of an inspected or listed container."""
    return [
        {
            "Type": mount.type,
            **({"Name": mount.name} if mount.name else {}),
            "Source": mount.source,
            "Destination": mount.target,
            **({"Driver": mount.driver} if mount.driver else {}),
            "Mode": mount.mode or ("z" if mount.type == "volume" and mount.name else ""),
            "RW": not mount.read_only,
            "Propagation": mount.propagation or ("rprivate" if mount.type == "bind" else ""),
        }
        for mount in mounts
        if mount.type != "tmpfs" or mount.name or not mount.source
    ]
