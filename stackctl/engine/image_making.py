"""Images made here: from a root file system's tar, from a container."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.state import HistoryEntry, ImageConfig, ImageRecord
from stackctl.engine.image_config import ImageDocument, document_tree, parse_document, timestamp
from stackctl.engine.image_values import CommitRequest, short
from stackctl.engine.merge import container_config, over
from stackctl.errors import ConflictError
from stackctl.oci.descriptor import Descriptor
from stackctl.oci.image import Manifest, parse_manifest, parse_object
from stackctl.oci.platform import Platform
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.engine.images import Images


async def config_tree_of(images: "Images", record: ImageRecord) -> JsonObject:
    return parse_object(await images.parts.content.read(record.id), "image configuration")


async def layers_of(images: "Images", record: ImageRecord) -> tuple[Descriptor, ...]:
    """Return the descriptors of an image's layer blobs, lowest first."""
    document = parse_manifest(await images.parts.content.read(record.manifest))
    return document.layers if isinstance(document, Manifest) else ()


async def import_(
    images: "Images",
    chunks: AsyncIterator[bytes],
    reference: str,
    config: ImageConfig,
    message: str,
    platform: Platform,
) -> str:
    layer = await images.parts.content.ingest_tar(chunks)
    with images.held.hold([layer.digest]):
        created = timestamp(images.parts.clock.now())
        document = ImageDocument(
            config=config,
            created=created,
            architecture=platform.architecture,
            variant=platform.variant,
            os=platform.os,
            comment=message or "Imported from -",
            diff_ids=(layer.digest,),
            history=(HistoryEntry(created=created, comment=message or "Imported from -"),),
        )
        record = await images.add(
            document_tree(document), layers=[layer], tags=[reference] if reference else []
        )
    if reference:
        images.event("tag", record, name=reference)
    images.event("import", record)
    return record.id


async def commit(images: "Images", container: ContainerRecord, request: CommitRequest) -> str:
    base = images.get(container.image_id)
    if base is None and container.layers:
        raise ConflictError(
            f"the image {short(container.image_id)} of container {container.id[:12]} was removed, "
            "and with it what a new one would stand on",
            hint="export the container and import that",
        )
    held = [container.image_id, *container.layers]
    with images.held.hold(held):
        packed = await images.parts.layers.commit(
            container.id, container.layers, without=request.without
        )
        document = await _base_document(images, base)
        layers = list(await layers_of(images, base)) if base else []
        own = container_config(container, base.config if base else ImageConfig())
        created = timestamp(images.parts.clock.now())
        entry = HistoryEntry(
            created=created,
            created_by=" ".join(container.cmd or ()),
            comment=request.message,
            author=request.author,
            empty_layer=packed is None,
        )
        document = replace(
            document,
            config=over(request.config or own, own),
            created=created,
            author=request.author,
            comment="",
            diff_ids=(*document.diff_ids, *((packed.diff_id,) if packed else ())),
            history=(*document.history, entry),
        )
        blobs = [*layers, *((packed.blob,) if packed else ())]
        with images.held.hold([packed.chain_id, packed.blob.digest] if packed else []):
            record = await images.add(
                document_tree(document),
                layers=blobs,
                tags=[request.reference] if request.reference else [],
                parent=base.id if base else "",
            )
    images.event("create", record)
    if request.reference:
        images.event("tag", record, name=request.reference)
    return record.id


async def _base_document(images: "Images", base: ImageRecord | None) -> ImageDocument:
    if base is None:
        platform = images.parts.platform
        return ImageDocument(architecture=platform.architecture, variant=platform.variant)
    return parse_document(await images.parts.content.read(base.id))
