"""Mounts: what was asked for, in Docker's order of precedence, turned into mount points."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from stackctl.contracts.container import ContainerSpec, MountPoint, MountRequest
from stackctl.contracts.state import ImageRecord, VolumeRecord
from stackctl.contracts.storage import LayerStore, VolumeStore
from stackctl.engine.book import Book
from stackctl.engine.images import Images
from stackctl.engine.requests import VolumeRequest
from stackctl.engine.volumes import Volumes
from stackctl.errors import HostError, InvalidInputError

_TYPES = ("bind", "volume", "tmpfs", "image")
_LINK_LIMIT = 40


def plan(
    spec: ContainerSpec, image_volumes: Sequence[str], inherited: Sequence[MountPoint]
) -> tuple[list[MountRequest], list[MountPoint]]:
    """Return what to make and what to take over as it is, one mount per target.

    ``inherited`` are the mounts of volumes_from, lowest in precedence; Binds, Mounts and Tmpfs may not meet; volumes
    that Config.Volumes or the image declare only fill gaps. Raises InvalidInputError.
    """
    asked: dict[str, MountRequest] = {}
    fillers: dict[str, MountRequest] = {}
    for request in spec.mounts:
        checked = check(request)
        if checked.origin in ("volumes", "image"):
            fillers.setdefault(checked.target, checked)
        elif checked.target in asked:
            raise InvalidInputError(f"Duplicate mount point: {checked.target}")
        else:
            asked[checked.target] = checked
    for target in image_volumes:
        request = check(MountRequest(type="volume", target=f"/{target}", origin="image"))
        fillers.setdefault(request.target, request)
    kept = [mount for mount in inherited if mount.target not in asked]
    covered = {mount.target for mount in kept} | asked.keys()
    made = [
        *asked.values(),
        *(item for target, item in fillers.items() if target not in covered),
    ]
    return made, kept


def check(request: MountRequest) -> MountRequest:
    """Return the request with its target cleaned; raises InvalidInputError with Docker's texts."""
    kind = request.type
    prefix = f'invalid mount config for type "{kind}"'
    if kind not in _TYPES:
        raise InvalidInputError(f'invalid mount config: mount type unknown: "{kind}"')
    if not request.target:
        raise InvalidInputError(f"{prefix}: field Target must not be empty")
    if not request.target.startswith("/"):
        raise InvalidInputError(
            f"{prefix}: invalid mount path: '{request.target}' mount path must be absolute"
        )
    target = posixpath.normpath(request.target)
    target = target[1:] if target.startswith("//") else target
    if target == "/":
        raise InvalidInputError(f"{prefix}: invalid specification: destination can't be '/'")
    if kind == "bind" and not request.source.startswith("/"):
        raise InvalidInputError(
            f"{prefix}: invalid mount path: '{request.source}' mount path must be absolute"
        )
    if kind == "image" and not request.source:
        raise InvalidInputError(f"{prefix}: field Source must not be empty")
    if kind == "tmpfs" and request.source:
        raise InvalidInputError(f"{prefix}: field Source must not be specified")
    return replace(request, target=target)


def inherited_mounts(spec: ContainerSpec, book: Book) -> list[MountPoint]:
    """Return the mounts of the containers in volumes_from ("name[:ro|rw]"); raises InvalidInputError."""
    found: dict[str, MountPoint] = {}
    for item in spec.volumes_from:
        name, _, mode = item.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidInputError(f"invalid mode: {mode[:80]}")
        other = book.find(name)
        if other is None:
            raise InvalidInputError(f"No such container: {name[:80]}")
        for mount in other.mounts:
            if mount.type in ("bind", "volume"):
                read_only = mount.read_only or mode == "ro"
                found[mount.target] = replace(mount, read_only=read_only)
    return list(found.values())


class Mounts:
    """Makes what a container's mounts need, at its creation."""

    def __init__(
        self,
        *,
        book: Book,
        volumes: Volumes,
        images: Images,
        layers: LayerStore,
        store: VolumeStore,
    ) -> None:
        self._book = book
        self.volumes = volumes
        self._images = images
        self._layers = layers
        self._store = store

    async def resolve(
        self, spec: ContainerSpec, image: ImageRecord, made: list[VolumeRecord]
    ) -> tuple[MountPoint, ...]:
        """Return the container's mount points, by depth; volumes made for it are added to ``made`` as they come.

        Raises InvalidInputError, NotFoundError (volumes_from, image mounts).
        """
        requests, kept = plan(spec, image.config.volumes, inherited_mounts(spec, self._book))
        points = list(kept)
        fresh: list[tuple[MountPoint, VolumeRecord]] = []
        for request in requests:
            point = await self._resolve_one(request, spec, made)
            points.append(point)
            if point.type == "volume" and not point.no_copy and not point.subpath:
                record = self.volumes.resolve(point.name)
                if not record.options and _is_empty(record.mountpoint):
                    fresh.append((point, record))
        await self._copy_up(image, fresh)
        return tuple(sorted(points, key=lambda point: (point.target.count("/"), point.target)))

    async def _resolve_one(
        self, request: MountRequest, spec: ContainerSpec, made: list[VolumeRecord]
    ) -> MountPoint:
        match request.type:
            case "bind":
                return _bind(request)
            case "tmpfs":
                return MountPoint(
                    type="tmpfs",
                    target=request.target,
                    read_only=request.read_only,
                    tmpfs_options=tmpfs_options(request),
                    mode=request.mode,
                )
            case "image":
                image = self._images.resolve(request.source)
                return MountPoint(
                    type="image",
                    target=request.target,
                    name=request.source,
                    read_only=True,
                    subpath=request.subpath,
                    image_id=image.id,
                )
        return await self._volume(request, spec, made)

    async def _volume(
        self, request: MountRequest, spec: ContainerSpec, made: list[VolumeRecord]
    ) -> MountPoint:
        known = self.volumes.book.find_volume(request.source) if request.source else None
        record = known or await self.volumes.create(
            VolumeRequest(
                name=request.source,
                driver=request.driver or spec.volume_driver or "local",
                options=request.driver_options,
                labels=request.labels,
            )
        )
        if known is None:
            made.append(record)
        self.volumes.path_of(record.name, request.subpath)
        return MountPoint(
            type="volume",
            target=request.target,
            source=record.mountpoint,
            name=record.name,
            driver=record.driver,
            read_only=request.read_only,
            propagation=request.propagation,
            subpath=request.subpath,
            anonymous=not request.source,
            no_copy=request.no_copy,
            mode=request.mode,
        )

    async def _copy_up(
        self, image: ImageRecord, fresh: Sequence[tuple[MountPoint, VolumeRecord]]
    ) -> None:
        """Fill empty volumes with what the image has at their place (Docker does so at create)."""
        if not fresh or not image.layers:
            return
        async with self._layers.view(image.layers) as root:
            for point, record in fresh:
                source = resolve_in(root, point.target)
                if source.is_dir():
                    await self._store.copy_up(Path(record.mountpoint), source)


def tmpfs_options(request: MountRequest) -> tuple[str, ...]:
    """Return the mount options that were asked for."""
    options = [item for item in request.tmpfs_options.split(",") if item]
    if request.tmpfs_size:
        options.append(f"size={request.tmpfs_size}")
    if request.tmpfs_mode:
        options.append(f"mode={request.tmpfs_mode:o}")
    return tuple(options)


def resolve_in(root: Path, path: str) -> Path:
    """Return where a path leads inside a root nobody is changing: links are followed within the root."""
    at: list[str] = []
    left = [part for part in path.split("/") if part]
    followed = 0
    while left:
        part = left.pop(0)
        if part == ".":
            continue
        if part == "..":
            at = at[:-1]
            continue
        place = root.joinpath(*at, part)
        if not place.is_symlink():
            at.append(part)
            continue
        followed += 1
        if followed > _LINK_LIMIT:
            raise InvalidInputError(f"too many levels of symbolic links: {path}")
        link = str(place.readlink())
        if link.startswith("/"):
            at = []
        left = [item for item in link.split("/") if item] + left
    return root.joinpath(*at)


def named_volumes(mounts: Iterable[MountPoint]) -> list[str]:
    return [mount.name for mount in mounts if mount.type == "volume"]


def mount_attributes(mount: MountPoint, container_id: str) -> Mapping[str, str]:
    """Return the attributes of a volume's mount and unmount events."""
    return {
        "container": container_id,
        "destination": mount.target,
        "driver": mount.driver or "local",
        "propagation": mount.propagation,
        "read/write": "false" if mount.read_only else "true",
    }


def _bind(request: MountRequest) -> MountPoint:
    source = Path(posixpath.normpath(request.source))
    if not source.exists():
        if not request.create_source:
            raise InvalidInputError(
                'invalid mount config for type "bind": bind source path does not exist: '
                f"{request.source}"
            )
        try:
            source.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(
                f"error while creating mount source path '{request.source}': {error.strerror}",
                errno=error.errno or 0,
            ) from error
    return MountPoint(
        type="bind",
        target=request.target,
        source=str(source),
        read_only=request.read_only,
        propagation=request.propagation or "rprivate",
        non_recursive=request.non_recursive,
        mode=request.mode,
    )


def _is_empty(directory: str) -> bool:
    try:
        return not any(Path(directory).iterdir())
    except OSError:
        return False


def source_of(mount: MountPoint) -> str:
    """Return the host path of a mount with its subpath joined, "" when the subpath leads out of it."""
    if not mount.subpath:
        return mount.source
    base = Path(mount.source).resolve()
    place = (base / mount.subpath).resolve()
    return str(place) if place.is_relative_to(base) else ""
