"""Images as tars: what ``docker save`` writes (a docker-archive and an OCI layout in one) and what load takes (either)."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from stackctl.contracts.state import ImageRecord
from stackctl.engine.image_config import instant, parse_document
from stackctl.engine.image_making import layers_of
from stackctl.engine.image_values import Progress, platform_of, short
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import INDEX_TYPES, OCI_INDEX, Descriptor
from stackctl.oci.digest import chain_ids
from stackctl.oci.image import Index, Manifest, choose, descriptor_tree, parse_manifest
from stackctl.oci.platform import Platform
from stackctl.oci.reference import parse_reference
from stackctl.values import Json, JsonObject

if TYPE_CHECKING:
    from stackctl.engine.images import Images

_NAME = "io.containerd.image.name"
_REF = "org.opencontainers.image.ref.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@frozen
class _Found:
    """One image of an archive."""

    config: bytes
    layers: tuple[Descriptor, ...]
    tags: tuple[str, ...]
    manifest: bytes = b""


async def load(
    images: "Images", chunks: AsyncIterator[bytes], platform: Platform | None, *, quiet: bool
) -> AsyncIterator[Progress]:
    before = set(await images.parts.content.digests())
    files = await images.parts.content.ingest_archive(chunks)
    digests = {item.digest for item in files.values()}
    try:
        with images.held.hold(digests):
            for image in await _read(images, files, platform):
                async for message in _load_one(images, image, quiet=quiet):
                    yield message
    finally:
        await images.collect_blobs(digests - before)


async def _load_one(images: "Images", image: _Found, *, quiet: bool) -> AsyncIterator[Progress]:
    document = parse_document(image.config)
    pairs = zip(chain_ids(document.diff_ids), document.diff_ids, image.layers, strict=False)
    fresh = [
        Progress(status="Loading layer", id=short(diff_id), current=0, total=layer.size)
        for chain_id, diff_id, layer in pairs
        if not quiet and not images.parts.layers.has(chain_id)
    ]
    for step in fresh:
        yield step
    holders = {tag: images.find(tag) for tag in image.tags}
    record = await images.add(
        image.config, layers=image.layers, tags=image.tags, manifest=image.manifest
    )
    for step in fresh:
        yield replace(step, current=step.total)
    images.event("load", record)
    for tag in image.tags:
        name = str(parse_reference(tag).with_default_tag())
        holder = holders[tag]
        if holder is not None and holder.id != record.id:
            yield Progress(
                stream=f"The image {name} already exists, renaming the old one with ID {holder.id} to empty string\n"
            )
        yield Progress(stream=f"Loaded image: {name}\n")
    if not image.tags:
        yield Progress(stream=f"Loaded image ID: {record.id}\n")


async def _read(
    images: "Images", files: Mapping[str, Descriptor], platform: Platform | None
) -> list[_Found]:
    if "manifest.json" in files:
        found = await _read_docker(images, files)
        if platform is not None:
            found = [image for image in found if platform.accepts(_platform_of(image))]
            if not found:
                raise InvalidInputError(f"the archive holds no image for {platform}")
        return found
    if "index.json" in files:
        return await _read_layout(images, files, platform or images.parts.platform)
    raise InvalidInputError(
        "the archive has neither manifest.json nor index.json",
        hint="load takes what docker save writes; for a root file system use import",
    )


def _platform_of(image: _Found) -> Platform:
    document = parse_document(image.config)
    return Platform(os=document.os, architecture=document.architecture, variant=document.variant)


async def _read_docker(images: "Images", files: Mapping[str, Descriptor]) -> list[_Found]:
    content = images.parts.content
    try:
        listed = json.loads(await content.read(files["manifest.json"].digest))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"manifest.json of the archive is not JSON: {error}") from error
    if not isinstance(listed, list):
        raise InvalidInputError("manifest.json of the archive is not an array")
    found = []
    for item in listed:
        if not isinstance(item, dict):
            raise InvalidInputError("manifest.json of the archive holds something that is no image")
        layers = tuple(_file(files, name) for name in _texts(item.get("Layers")))
        found.append(
            _Found(
                config=await content.read(_file(files, str(item.get("Config"))).digest),
                layers=layers,
                tags=_texts(item.get("RepoTags")),
            )
        )
    return found


async def _read_layout(
    images: "Images", files: Mapping[str, Descriptor], platform: Platform
) -> list[_Found]:
    data = await images.parts.content.read(files["index.json"].digest)
    index = parse_manifest(data)
    if not isinstance(index, Index):
        raise InvalidInputError("index.json of the archive is not an index")
    found = []
    for descriptor in index.manifests:
        name = descriptor.annotations.get(_NAME) or descriptor.annotations.get(_REF, "")
        image = await _read_manifest(images, files, descriptor, platform)
        if image is not None:
            found.append(replace(image, tags=(name,) if _is_name(name) else ()))
    if not found:
        raise InvalidInputError(f"the archive holds no image for {platform}")
    return found


async def _read_manifest(
    images: "Images",
    files: Mapping[str, Descriptor],
    descriptor: Descriptor,
    platform: Platform,
) -> _Found | None:
    data = await images.parts.content.read(_blob(files, descriptor).digest)
    document = parse_manifest(
        data, descriptor.media_type if descriptor.media_type in INDEX_TYPES else ""
    )
    if isinstance(document, Index):
        chosen = choose(document, platform)
        if chosen.media_type in INDEX_TYPES:
            raise InvalidInputError("an index of the archive leads to another index")
        return await _read_manifest(images, files, chosen, platform)
    if descriptor.platform and not platform.accepts(descriptor.platform):
        return None
    config = await images.parts.content.read(_blob(files, document.config).digest)
    layers = tuple(replace(layer, digest=_blob(files, layer).digest) for layer in document.layers)
    parse_document(config)
    return _Found(config=config, layers=layers, tags=(), manifest=data)


def _file(files: Mapping[str, Descriptor], name: str) -> Descriptor:
    found = files.get(name.removeprefix("./"))
    if found is None:
        raise InvalidInputError(f'the archive names "{name[:200]}", but does not hold it')
    return found


def _blob(files: Mapping[str, Descriptor], descriptor: Descriptor) -> Descriptor:
    algorithm, _, name = descriptor.digest.partition(":")
    found = _file(files, f"blobs/{algorithm}/{name}")
    if algorithm == "sha256" and found.digest != descriptor.digest:
        raise InvalidInputError(
            f"the blob {descriptor.digest} of the archive is not what its name says"
        )
    return found


def _texts(value: Json) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _is_name(text: str) -> bool:
    """Tell a full name from a bare tag ("latest"), which skopeo writes and which names nothing."""
    if not text or ("/" not in text and ":" not in text):
        return False
    try:
        parse_reference(text)
    except InvalidInputError:
        return False
    return True


async def save(
    images: "Images", references: Sequence[str], platform: Platform | None
) -> AsyncIterator[bytes]:
    chosen: dict[str, list[str]] = {}
    for reference in references:
        for record, tags in _named(images, reference):
            chosen.setdefault(record.id, []).extend(tags)
    records = [images.resolve(image_id) for image_id in chosen]
    for record in records:
        if platform is not None and not platform.accepts(platform_of(record)):
            raise NotFoundError(
                f"no suitable export target found for platform {platform}",
                hint=f"{short(record.id)} is for {platform_of(record)}",
            )
    held = [
        item for record in records for item in (record.id, record.manifest, *record.layer_blobs)
    ]
    with images.held.hold(held):
        files: list[tuple[str, str | bytes]] = []
        entries: list[Json] = []
        index: list[Json] = []
        repositories: dict[str, dict[str, str]] = {}
        for record in records:
            tags = list(dict.fromkeys(chosen[record.id]))
            layers = await layers_of(images, record)
            files += [(_path(digest), digest) for digest in held if digest in _blobs_of(record)]
            entries.append(
                {
                    "Config": _path(record.id),
                    "RepoTags": cast(list[Json], tags) or None,
                    "Layers": [_path(layer.digest) for layer in layers],
                    "LayerSources": {
                        diff_id: descriptor_tree(layer)
                        for diff_id, layer in zip(record.diff_ids, layers, strict=False)
                    },
                }
            )
            index += await _index_entries(images, record, tags)
            for tag in tags:
                name, _, version = tag.rpartition(":")
                repositories.setdefault(name, {})[version] = _top_layer(record)
        files += [
            (
                "index.json",
                _bytes({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index}),
            ),
            ("manifest.json", _bytes(entries)),
            ("oci-layout", _LAYOUT),
        ]
        if repositories:
            files.append(("repositories", _bytes(cast(Json, repositories))))
        unique = sorted(dict(files).items())
        mtime = max((int(instant(record.created)) for record in records), default=0)
        async for chunk in images.parts.content.archive(unique, max(mtime, 0)):
            yield chunk
        for record in records:
            images.event("save", record)


def _named(images: "Images", reference: str) -> list[tuple[ImageRecord, list[str]]]:
    """Return the images of a reference: a name without a tag stands for every tag of the repository.

    Names go before IDs, since "a" is both a name and the beginning of an ID.
    """
    found = _of_repository(images, reference)
    if found:
        return found
    record = images.find(reference)
    by_id = record is not None and record.id.removeprefix("sha256:").startswith(
        reference.removeprefix("sha256:")
    )
    if record is not None and by_id:
        return [(record, [])]
    parsed = parse_reference(reference)
    if parsed.tag:
        return [(images.resolve(reference), [str(parsed)])]
    if parsed.digest:
        return [(images.resolve(reference), [])]
    raise NotFoundError(f"No such image: {parsed}")


def _of_repository(images: "Images", reference: str) -> list[tuple[ImageRecord, list[str]]]:
    """Return the images with tags of a repository; none when the reference is more than a repository's name."""
    try:
        parsed = parse_reference(reference)
    except InvalidInputError:
        return []
    if parsed.tag or parsed.digest:
        return []
    found = []
    for item in images.all():
        tags = [tag for tag in item.tags if parse_reference(tag).name == parsed.name]
        if tags:
            found.append((item, tags))
    return found


async def _index_entries(images: "Images", record: ImageRecord, tags: Sequence[str]) -> list[Json]:
    data = await images.parts.content.read(record.manifest)
    document = cast(Manifest, parse_manifest(data))
    plain = Descriptor(media_type=document.media_type, digest=record.manifest, size=len(data))
    if not tags:
        return [descriptor_tree(plain)]
    entries: list[Json] = []
    for tag in tags:
        parsed = parse_reference(tag)
        notes = {_NAME: f"{parsed.registry}/{parsed.repository}:{parsed.tag}", _REF: parsed.tag}
        entries.append(descriptor_tree(replace(plain, annotations=notes)))
    return entries


def _blobs_of(record: ImageRecord) -> set[str]:
    return {record.id, record.manifest, *record.layer_blobs}


def _top_layer(record: ImageRecord) -> str:
    return record.layers[-1].partition(":")[2] if record.layers else record.id.partition(":")[2]


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _bytes(tree: Json | JsonObject) -> bytes:
    return json.dumps(tree, separators=(",", ":")).encode()
