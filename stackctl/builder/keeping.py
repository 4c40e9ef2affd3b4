"""Build steps kept outside the engine: in a directory or in a registry, and taken from there as they are needed.

In a directory it is blobs with a list of the steps beside them; in a registry a manifest whose configuration is that
list and whose layers are the blobs. An image in a registry is a source as well: its history names its steps.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field, replace
from pathlib import Path

from stackctl.builder.cache import BuildCache, Step
from stackctl.builder.image import State
from stackctl.builder.request import CachePlace
from stackctl.contracts.registry import Credentials, Registry, ResolvedManifest
from stackctl.contracts.state import ImageConfig
from stackctl.contracts.storage import LayerStore
from stackctl.engine.image_config import ImageDocument, parse_document
from stackctl.engine.image_values import first_failure
from stackctl.engine.images import Images
from stackctl.errors import HostError, InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from stackctl.oci.digest import chain_ids, check_digest
from stackctl.oci.image import Manifest, manifest_bytes, parse_manifest
from stackctl.oci.platform import Platform
from stackctl.oci.reference import Reference, parse_reference
from stackctl.values import Json

CACHE_TYPE = "application/vnd.stackctl.build-cache.v1+json"
_VERSION = 1
_STEPS = "stackctl-steps.json"
_MAX_LIST = 64 << 20
_PUSH_AT_ONCE = 4
_FIRST_BYTES = ((b"\x1f\x8b", OCI_LAYER_GZIP), (b"\x28\xb5\x2f\xfd", OCI_LAYER_ZSTD))
CredentialsFor = Callable[[Reference], Credentials | None]


@frozen
class Kept:
    """The steps of a place by key; ``blob`` gives the bytes of one of their layers."""

    steps: Mapping[str, Step]
    blob: Callable[[str], AsyncIterator[bytes]]


@frozen
class KeptImage:
    """An image as a source of steps: what its history says, and how to get a layer (by number) here."""

    document: ImageDocument
    bring: Callable[[int], Awaitable[None]] = field(repr=False)


class Keeping:
    """Keeps and finds steps for one build."""

    def __init__(
        self,
        cache: BuildCache,
        images: Images,
        layers: LayerStore,
        registry: Registry,
        credentials: CredentialsFor,
        platform: Platform,
    ) -> None:
        self._cache = cache
        self._images = images
        self._content = images.parts.content
        self._layers = layers
        self._registry = registry
        self._credentials = credentials
        self._platform = platform

    # Taking

    async def open(self, place: CachePlace) -> Kept | KeptImage | None:
        """Return what a place has; None where there is nothing yet.

        Raises InvalidInputError for what is no cache, UnavailableError for a registry that does not answer.
        """
        if place.path is not None:
            return await asyncio.to_thread(_open_directory, place.path)
        reference = parse_reference(place.reference).with_default_tag()
        record = self._images.find(str(reference))
        try:
            found = await self._registry.resolve(
                reference, self._platform, self._credentials(reference)
            )
        except NotFoundError:
            if record is None:
                return None
            found = None
        if found is not None:
            manifest = parse_manifest(found.data, found.descriptor.media_type)
            if isinstance(manifest, Manifest) and manifest.config.media_type == CACHE_TYPE:
                return await self._open_cache(reference, manifest)
            return await self._open_image(reference, found)
        return None

    async def take(self, kept: Kept, key: str) -> None:
        """Bring a step of the place here; raises InvalidInputError for one that is not what it says."""
        step = kept.steps[key]
        with self._images.held.hold([*step.layers, *step.blobs]):
            await self._cache.take(step, kept.blob)

    async def go_on(self, image: KeptImage, after: State, layer: int | None) -> None:
        """Bring what a continued state needs here; the caller holds it."""
        if layer is not None:
            await image.bring(layer)
        if not all(map(self._layers.has, after.layers)):
            raise NotFoundError("the image's layers are not all here")

    async def _open_cache(self, reference: Reference, manifest: Manifest) -> Kept:
        if manifest.config.size > _MAX_LIST:
            raise InvalidInputError(f"{reference}: a list of {manifest.config.size} bytes")
        data = await self._small(reference, manifest.config)
        tree = json.loads(data)
        if not isinstance(tree, dict) or tree.get("version") != _VERSION:
            return Kept(steps={}, blob=_none)
        names = tree.get("wire")
        by_digest = {layer.digest: layer for layer in manifest.layers}
        wire = {
            str(plain): by_digest[name]
            for plain, name in (names.items() if isinstance(names, dict) else ())
            if isinstance(name, str) and name in by_digest
        }

        def blob(digest: str) -> AsyncIterator[bytes]:
            if digest not in wire:
                raise InvalidInputError(f"{reference} has no layer {digest[:19]}")
            return self._registry.fetch(reference, wire[digest], self._credentials(reference))

        return Kept(steps=_steps(tree), blob=blob)

    async def _open_image(self, reference: Reference, found: ResolvedManifest) -> KeptImage | None:
        manifest = parse_manifest(found.data, found.descriptor.media_type)
        if not isinstance(manifest, Manifest) or manifest.config.size > _MAX_LIST:
            return None
        document = parse_document(await self._small(reference, manifest.config))
        if len(document.diff_ids) != len(manifest.layers):
            return None
        chain = chain_ids(document.diff_ids)

        async def bring(at: int) -> None:
            diff_id = document.diff_ids[at]
            if not self._content.has(diff_id):
                layer = manifest.layers[at]
                source = self._registry.fetch(reference, layer, self._credentials(reference))
                await self._cache.bring(diff_id, diff_id, source)
            if not self._layers.has(chain[at]):
                path = self._content.path(diff_id)
                await self._layers.unpack(chain[at], path, OCI_LAYER, diff_id)

        return KeptImage(document=document, bring=bring)

    async def _small(self, reference: Reference, descriptor: Descriptor) -> bytes:
        source = self._registry.fetch(reference, descriptor, self._credentials(reference))
        with self._images.held.hold([descriptor.digest]):
            await self._content.ingest(source, descriptor)
            data = await self._content.read(descriptor.digest)
        await self._images.collect_blobs([descriptor.digest])
        return data

    # Keeping

    async def keep(self, place: CachePlace, keys: Sequence[str]) -> None:
        """Write the steps of a build to a place. Raises HostError, or what the registry refused."""
        steps = await self._cache.steps(keys)
        if place.path is None:
            await self._push(parse_reference(place.reference).with_default_tag(), steps)
            return
        try:
            await asyncio.to_thread(self._write, place.path, steps)
        except OSError as error:
            raise HostError(
                f"cannot write the cache to {place.path}: {error.strerror}", errno=error.errno or 0
            ) from error

    def _write(self, directory: Path, steps: Sequence[Step]) -> None:
        blobs = directory / "blobs" / "sha256"
        blobs.mkdir(parents=True, exist_ok=True)
        for digest in _blobs(steps):
            target = blobs / digest.partition(":")[2]
            if not target.exists():
                part = target.with_name(f".{target.name}.part")
                shutil.copyfile(self._content.path(digest), part)
                part.replace(target)
        part = directory / f".{_STEPS}.part"
        part.write_bytes(_list(steps, {}))
        part.replace(directory / _STEPS)

    async def _push(self, reference: Reference, steps: Sequence[Step]) -> None:
        credentials = self._credentials(reference)
        slots = asyncio.Semaphore(_PUSH_AT_ONCE)
        held = self._images.held
        with ExitStack() as holds:

            async def one(digest: str) -> Descriptor:
                async with slots:
                    blob = await self._compressed(digest)
                    holds.enter_context(held.hold([blob.digest]))
                    path = self._content.path(blob.digest)
                    await self._registry.push_blob(reference, blob, path, credentials)
                    return blob

            digests = _blobs(steps)
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one(digest)) for digest in digests]
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from failures
            blobs = [task.result() for task in tasks]
            wire = {plain: blob.digest for plain, blob in zip(digests, blobs, strict=True)}
            config = await self._content.put(_list(steps, wire), CACHE_TYPE)
            holds.enter_context(held.hold([config.digest]))
            path = self._content.path(config.digest)
            await self._registry.push_blob(reference, config, path, credentials)
            manifest = Manifest(
                config=config, layers=tuple({blob.digest: blob for blob in blobs}.values())
            )
            data = manifest_bytes(manifest)
            await self._registry.push_manifest(reference, data, manifest.media_type, credentials)
        await self._images.collect_blobs([config.digest, *wire.values()])

    async def _compressed(self, digest: str) -> Descriptor:
        path = self._content.path(digest)
        head, size = await asyncio.to_thread(_head, path)
        for first, media_type in _FIRST_BYTES:
            if head.startswith(first):
                return Descriptor(media_type=media_type, digest=digest, size=size)
        return await self._content.compress(digest)


def continued(
    image: KeptImage, before: State, config: ImageConfig, created_by: str, author: str
) -> tuple[State, int | None] | None:
    """Return the state one step further as an image has it, and the number of its layer, if it made one.

    None when the image did not come this way: other layers, another history, another next step.
    """
    document, history = image.document, before.document.history
    at, count = len(history), len(before.document.diff_ids)
    if len(document.history) <= at or document.diff_ids[:count] != before.document.diff_ids:
        return None
    if [item.created_by for item in document.history[:at]] != [item.created_by for item in history]:
        return None
    entry = document.history[at]
    if entry.created_by != created_by:
        return None
    fresh = document.diff_ids[count : count + (0 if entry.empty_layer else 1)]
    if not entry.empty_layer and not fresh:
        return None
    after = replace(
        before.document,
        config=config,
        created=entry.created,
        author=author or before.document.author,
        history=(*history, entry),
        diff_ids=(*before.document.diff_ids, *fresh),
    )
    state = replace(
        before,
        document=after,
        layers=chain_ids(after.diff_ids),
        blobs=(*before.blobs, *(Descriptor(media_type=OCI_LAYER, digest=name) for name in fresh)),
    )
    return state, count if fresh else None


def _blobs(steps: Sequence[Step]) -> list[str]:
    return list(dict.fromkeys(blob for step in steps for blob in step.blobs))


def _list(steps: Sequence[Step], wire: Mapping[str, str]) -> bytes:
    entries: Json = [
        {"key": item.key, "config": item.config, "layers": list(item.layers), "blobs": list(item.blobs)}
        for item in steps
    ]  # fmt: skip
    return json.dumps({"version": _VERSION, "steps": entries, "wire": dict(wire)}).encode()


def _steps(tree: Mapping[str, object]) -> dict[str, Step]:
    """Return the steps of a list; what is not as it should be is left out."""
    found: dict[str, Step] = {}
    entries = tree.get("steps")
    for entry in entries if isinstance(entries, list) else ():
        with contextlib.suppress(InvalidInputError, KeyError, TypeError):
            step = Step(
                key=check_digest(str(entry["key"])),
                config=str(entry["config"]),
                layers=tuple(check_digest(str(name)) for name in entry["layers"]),
                blobs=tuple(check_digest(str(name)) for name in entry["blobs"]),
            )
            found[step.key] = step
    return found


def _open_directory(directory: Path) -> Kept | None:
    try:
        tree = json.loads((directory / _STEPS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or tree.get("version") != _VERSION:
        return None

    def blob(digest: str) -> AsyncIterator[bytes]:
        return _pieces(directory / "blobs" / "sha256" / digest.partition(":")[2])

    return Kept(steps=_steps(tree), blob=blob)


def _none(digest: str) -> AsyncIterator[bytes]:
    raise InvalidInputError(f"there is no layer {digest}")


def _head(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(4), path.stat().st_size


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, 1 << 20):
            yield data
