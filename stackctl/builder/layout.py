"""OCI layouts: an image in a directory as a base (``oci-layout://PATH[:TAG][@DIGEST]``), and what a build makes of several platforms.

The directory is another's: every blob is checked against its digest, and a name never leads out of it.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stackctl.builder import copying
from stackctl.builder.image import State, encode, of_layout
from stackctl.contracts.storage import ContentStore, LayerStore
from stackctl.engine.image_config import parse_document
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import INDEX_TYPES, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from stackctl.oci.digest import chain_ids, digest_of
from stackctl.oci.image import (
    Index,
    Manifest,
    choose,
    descriptor_tree,
    manifest_bytes,
    parse_manifest,
)
from stackctl.oci.platform import Platform
from stackctl.oci.reference import Reference

SCHEME = "oci-layout://"
_REF = "org.opencontainers.image.ref.name"
_NAME = "io.containerd.image.name"
_MARK = b'{"imageLayoutVersion":"1.0.0"}'
_LARGEST = 8 << 20


def is_layout(source: str) -> bool:
    """Tell whether a named context is an image in a directory."""
    return source.startswith(SCHEME)


@frozen
class Place:
    """Where an image of a layout is: ``tag`` and ``digest`` are "" where not given."""

    path: Path
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}"


def parse_place(source: str) -> Place:
    """Return the parts of ``oci-layout://PATH[:TAG][@DIGEST]``; raises InvalidInputError for a path that is not absolute."""
    text, _, digest = source.removeprefix(SCHEME).partition("@")
    head, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        head, tag = text, ""
    if not Path(head).is_absolute():
        raise InvalidInputError(f"{source[:200]}: the directory of a layout must be absolute here")
    return Place(path=Path(head), tag=tag, digest=digest)


@frozen
class LayoutImage:
    """An image of a layout: its manifest and the bytes of its configuration."""

    place: Place
    manifest: Manifest
    config: bytes

    @property
    def names(self) -> tuple[str, ...]:
        """What the stores will call it: blobs and layers."""
        diff_ids = parse_document(self.config).diff_ids
        return (
            self.manifest.config.digest,
            *(layer.digest for layer in self.manifest.layers),
            *chain_ids(diff_ids),
        )


def read(place: Place, platform: Platform) -> LayoutImage:
    """Return the image for the platform. Blocks.

    Raises InvalidInputError for what is no layout, NotFoundError for a tag, digest or platform that it does not have.
    """
    try:
        data = _file(place, "index.json")
    except OSError as error:
        raise InvalidInputError(
            f"{place}: cannot read index.json of the OCI layout: {error.strerror}",
            hint="the directory of a layout has the files oci-layout and index.json",
        ) from error
    index = parse_manifest(data, OCI_INDEX)
    if not isinstance(index, Index):
        raise InvalidInputError(f"{place}: index.json is not an index")
    found = _chosen(place, index)
    for _ in range(3):
        document = parse_manifest(
            _blob(place, found), found.media_type if found.media_type in INDEX_TYPES else ""
        )
        if isinstance(document, Manifest):
            config = _blob(place, document.config)
            if len(parse_document(config).diff_ids) != len(document.layers):
                raise InvalidInputError(f"{place}: configuration and layers do not fit")
            return LayoutImage(place=place, manifest=document, config=config)
        found = choose(document, platform)
    raise InvalidInputError(f"{place}: an index that leads to an index that leads to an index")


def _chosen(place: Place, index: Index) -> Descriptor:
    """Return what tag and digest name; a layout of one image needs no name, as Docker's client has it."""
    if place.digest:
        found = [item for item in index.manifests if item.digest == place.digest]
        return found[0] if found else Descriptor(media_type="", digest=place.digest)
    if len(index.manifests) == 1:
        return index.manifests[0]
    tag = place.tag or "latest"
    for item in index.manifests:
        if item.annotations.get(_REF) == tag:
            return item
    known = [item.annotations[_REF] for item in index.manifests if _REF in item.annotations]
    raise NotFoundError(
        f"{place} has no image with the tag {tag[:80]!r}", hint=f"it has: {', '.join(known)[:300]}"
    )


def _file(place: Place, name: str) -> bytes:
    with (place.path / name).open("rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise InvalidInputError(f"{place}: {name} is larger than {_LARGEST >> 20} MiB")
    return data


def _blob(place: Place, descriptor: Descriptor) -> bytes:
    path = _path(descriptor.digest)
    try:
        data = _file(place, path)
    except (OSError, ValueError) as error:
        raise NotFoundError(f"{place} has no {path[:200]}") from error
    if digest_of(data) != descriptor.digest:
        raise InvalidInputError(f"{place}: {path} is not what its name says")
    return data


def _path(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    if algorithm != "sha256" or not name.isalnum():
        raise InvalidInputError(f"{digest[:80]!r} is not a digest that is known here")
    return f"blobs/sha256/{name}"


async def bring(image: LayoutImage, content: ContentStore, layers: LayerStore) -> State:
    """Return the state that FROM the image starts with, its layers stored and unpacked; the caller holds its names."""
    document = parse_document(image.config)
    chain = chain_ids(document.diff_ids)
    await content.put(image.config, OCI_CONFIG)
    for layer, diff_id, chain_id in zip(
        image.manifest.layers, document.diff_ids, chain, strict=True
    ):
        if not content.has(layer.digest):
            path = image.place.path / _path(layer.digest)
            try:
                await content.ingest(
                    copying.in_thread(copying.file_chunks(str(path))),
                    replace(layer, annotations={}),
                )
            except OSError as error:
                raise NotFoundError(f"{image.place} has no {_path(layer.digest)}") from error
        if not layers.has(chain_id):
            await layers.unpack(chain_id, content.path(layer.digest), layer.media_type, diff_id)
    return of_layout(document, image.manifest.layers)


# What a build of several platforms makes


@frozen
class Built:
    """The image of one platform."""

    platform: Platform
    state: State


def index_of(built: Sequence[tuple[Platform, Manifest]]) -> tuple[bytes, dict[str, bytes]]:
    """Return the bytes of an index of manifests, and those of the manifests by digest."""
    documents: dict[str, bytes] = {}
    entries = []
    for platform, manifest in built:
        data = manifest_bytes(manifest)
        digest = digest_of(data)
        documents[digest] = data
        entries.append(
            Descriptor(media_type=OCI_MANIFEST, digest=digest, size=len(data), platform=platform)
        )
    return manifest_bytes(Index(manifests=tuple(entries))), documents


def archive_files(built: Sequence[Built], names: Sequence[Reference]) -> dict[str, str | bytes]:
    """Return the files of an OCI layout whose one entry (one for each name) is the index of the images; pure.

    A text is the digest of a blob that is in the content store.
    """
    files: dict[str, str | bytes] = {"oci-layout": _MARK}
    manifests = []
    for item in built:
        config = encode(item.state)
        described = Descriptor(media_type=OCI_CONFIG, digest=digest_of(config), size=len(config))
        manifests.append((item.platform, Manifest(config=described, layers=item.state.blobs)))
        files[_path(described.digest)] = config
        files |= {_path(blob.digest): blob.digest for blob in item.state.blobs}
    data, documents = index_of(manifests)
    plain = Descriptor(media_type=OCI_INDEX, digest=digest_of(data), size=len(data))
    files[_path(plain.digest)] = data
    files |= {_path(digest): document for digest, document in documents.items()}
    entries = [
        replace(
            plain,
            annotations={_NAME: f"{one.registry}/{one.repository}:{one.tag}", _REF: one.tag},
        )
        for one in names
    ]
    listed = [descriptor_tree(entry) for entry in entries or [plain]]
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": listed}).encode()
    return files
