"""Images: named, listed, tagged, added and removed, with Docker's rules and texts.

An image is a config blob (its digest is the ID), a manifest blob and layers. Memory mirrors the state store; a record
is saved only when everything it names is in the content store and unpacked, so what is listed can be run.
Moving images in and out is in ``image_transfer`` (registries), ``image_archive`` (tars) and ``image_making``.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace

from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.registry import Credentials
from stackctl.contracts.state import ImageConfig, ImageRecord
from stackctl.engine import image_archive, image_gc, image_making, image_transfer
from stackctl.engine.image_config import (
    ImageDocument,
    document_bytes,
    instant,
    parse_document,
)
from stackctl.engine.image_values import (
    CommitRequest,
    Gate,
    Held,
    HistoryLine,
    ImageParts,
    ImagePruneFilter,
    Progress,
    Removal,
    first_failure,
)
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.oci.descriptor import OCI_CONFIG, Descriptor
from stackctl.oci.digest import chain_ids, is_digest
from stackctl.oci.image import Manifest, manifest_bytes
from stackctl.oci.platform import Platform
from stackctl.oci.reference import Reference, in_order, parse_reference
from stackctl.values import JsonObject


class Images:
    """The images service."""

    def __init__(self, parts: ImageParts) -> None:
        self.parts = parts
        self.held = Held()
        self.gate = Gate()
        self.left: set[str] = set()
        self._records: dict[str, ImageRecord] = {}
        self._names: dict[str, str] = {}
        self.downloads: dict[str, asyncio.Lock] = {}
        self.download_slots = asyncio.Semaphore(parts.transfers.downloads)
        self.upload_slots = asyncio.Semaphore(parts.transfers.uploads)

    async def start(self) -> None:
        """Load the records, unpack again what a crash of the machine took, collect what no record names."""
        for record in self.parts.state.load(ImageRecord):
            self._remember(record)
        for record in self.all():
            await image_gc.repair(self, record)
        await image_gc.collect_everything(self)

    # Finding

    def all(self) -> Sequence[ImageRecord]:
        return tuple(self._records.values())

    def get(self, image_id: str) -> ImageRecord | None:
        """Return the image with exactly this ID."""
        return self._records.get(image_id)

    def resolve(self, reference: str) -> ImageRecord:
        """Return the image of a name, an ID, an ID's unique prefix or name@digest.

        Raises NotFoundError ("No such image: x:tag"), InvalidInputError for what is neither.
        """
        found = self.find(reference)
        if found is None:
            raise NotFoundError(f"No such image: {_full_text(reference)}")
        return found

    def find(self, reference: str) -> ImageRecord | None:
        """As ``resolve``, but None where there is none."""
        if is_digest(reference):
            return self._records.get(reference)
        prefix = reference.removeprefix("sha256:").lower()
        is_hex = bool(prefix) and all(letter in "0123456789abcdef" for letter in prefix)
        if not reference.startswith("sha256:") and not (is_hex and len(prefix) == 64):
            named = self._by_name(parse_reference(reference))
            if named is not None:
                return named
        if not is_hex:
            return None
        matches = [item for key, item in self._records.items() if key[7:].startswith(prefix)]
        if len(matches) > 1:
            raise InvalidInputError(f"multiple IDs found with provided prefix: {prefix}")
        return matches[0] if matches else None

    def _by_name(self, reference: Reference) -> ImageRecord | None:
        if reference.digest:
            wanted = f"{reference.name}@{reference.digest}"
            return next((item for item in self.all() if wanted in item.digests), None)
        return self._records.get(self._names.get(str(reference.with_default_tag()), ""))

    def children(self, image_id: str) -> Sequence[ImageRecord]:
        """Return the images that were made from this one on this engine."""
        return [item for item in self.all() if item.parent == image_id]

    async def config_json(self, reference: str) -> JsonObject:
        """Return the image's configuration as it was received."""
        return await image_making.config_tree_of(self, self.resolve(reference))

    async def history(self, reference: str) -> Sequence[HistoryLine]:
        """Return how the image came to be, newest first."""
        record = self.resolve(reference)
        store = self.parts.layers
        # A layer that is not unpacked (its blob was lost) has no size.
        sizes = [await store.size(item) if store.has(item) else 0 for item in record.layers]
        return _history(self, record, sizes)

    # Adding

    async def add(
        self,
        config: JsonObject | bytes,
        *,
        layers: Sequence[Descriptor],
        tags: Sequence[str] = (),
        digests: Sequence[str] = (),
        parent: str = "",
        manifest: bytes = b"",
        comment: str = "",
    ) -> ImageRecord:
        """Add an image whose layer blobs are in the content store, lowest first; missing layers are unpacked.

        ``config`` is the OCI image configuration; its diff IDs must be the layers'. Adding what is there adds the
        tags. Raises InvalidInputError when the configuration and the layers do not fit.
        """
        data = config if isinstance(config, bytes) else document_bytes(config)
        document = parse_document(data)
        if len(document.diff_ids) != len(layers):
            raise InvalidInputError(
                f"the image configuration has {len(document.diff_ids)} layers, the image {len(layers)}"
            )
        chain = chain_ids(document.diff_ids)
        with self.held.hold([*chain, *(layer.digest for layer in layers)]):
            async with self.gate.shared():
                stored = await self.parts.content.put(data, OCI_CONFIG)
                await self._unpack(chain, document.diff_ids, layers)
                known = self._records.get(stored.digest)
                if known is None:
                    record = await self._new_record(stored.digest, document, chain)
                    record = replace(record, parent=parent, comment=document.comment or comment)
                else:
                    record = known
                if known is None or manifest or not self.is_whole(known):
                    text = manifest or manifest_bytes(Manifest(config=stored, layers=tuple(layers)))
                    kept = await self.parts.content.put(text, "")
                    blobs = tuple(layer.digest for layer in layers)
                    record = replace(record, manifest=kept.digest, layer_blobs=blobs)
                # Another pull of the same image may have named it meanwhile: its names stay.
                current = self._records.get(stored.digest, record)
                names = (*current.digests, *record.digests, *digests)
                record = replace(
                    record, tags=current.tags, tagged_at=current.tagged_at, digests=names
                )
                self.save(record)
                for tag in tags:
                    await self.tag(stored.digest, tag, announce=False)
                record = self._records[stored.digest]
            if known is not None:
                # The same image may have come in other clothes (compressed otherwise): what came last is kept.
                await self.collect_blobs((known.manifest, *known.layer_blobs))
        return record

    async def _new_record(
        self, image_id: str, document: ImageDocument, chain: Sequence[str]
    ) -> ImageRecord:
        return ImageRecord(
            id=image_id,
            created=document.created,
            config=document.config,
            architecture=document.architecture or self.parts.platform.architecture,
            variant=document.variant,
            os=document.os,
            author=document.author,
            layers=tuple(chain),
            diff_ids=document.diff_ids,
            size=sum([await self.parts.layers.size(item) for item in chain]),
            history=document.history,
            docker_version=document.docker_version,
        )

    def is_whole(self, record: ImageRecord) -> bool:
        """Tell whether an image's blobs are all there."""
        return all(self.parts.content.has(item) for item in (record.manifest, *record.layer_blobs))

    async def _unpack(
        self, chain: Sequence[str], diff_ids: Sequence[str], layers: Sequence[Descriptor]
    ) -> None:
        missing = [
            item
            for item in zip(chain, diff_ids, layers, strict=True)
            if not self.parts.layers.has(item[0])
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for chain_id, diff_id, layer in missing:
                    blob = self.parts.content.path(layer.digest)
                    work = self.parts.layers.unpack(chain_id, blob, layer.media_type, diff_id)
                    group.create_task(work)
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from failures

    def save(self, record: ImageRecord) -> None:
        """Write a record, its names in order, and remember it."""
        record = replace(record, tags=in_order(record.tags), digests=in_order(record.digests))
        self.parts.state.save(record)
        self._remember(record)

    def _remember(self, record: ImageRecord) -> None:
        self._records[record.id] = record
        for tag in record.tags:
            self._names[tag] = record.id

    def forget(self, record: ImageRecord) -> None:
        """Delete a record."""
        self.parts.state.delete(record)
        self._records.pop(record.id, None)
        for tag in record.tags:
            if self._names.get(tag) == record.id:
                del self._names[tag]

    # Names

    async def tag(self, reference: str, target: str, *, announce: bool = True) -> None:
        """Give the image one more name; the image that had it loses it. Raises NotFoundError, InvalidInputError."""
        record = self.resolve(reference)
        wanted = parse_reference(target)
        if wanted.digest:
            raise InvalidInputError("refusing to create a tag with a digest reference")
        if wanted.name == "sha256":
            raise InvalidInputError(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        name = str(wanted.with_default_tag())
        holder = self._records.get(self._names.get(name, ""))
        if holder is not None and holder.id != record.id:
            self.save(replace(holder, tags=tuple(item for item in holder.tags if item != name)))
        self._names[name] = record.id
        self.save(replace(record, tags=(*record.tags, name), tagged_at=self.parts.clock.now()))
        if announce:
            self.event("tag", record, name=name)

    def event(self, action: str, record: ImageRecord, *, name: str = "", actor: str = "") -> None:
        """Publish an image event with the image's labels, which one that is gone has no more; its ID names it."""
        labels = record.config.labels if record.id in self._records else {}
        attributes = {**labels, "name": name or record.id}
        self.parts.publish("image", action, actor or record.id, attributes)

    async def remove(
        self, reference: str, *, force: bool = False, prune: bool = True
    ) -> Sequence[Removal]:
        """Remove a name, and the image when it was the last. Raises NotFoundError, ConflictError with Docker's texts."""
        async with self.gate.alone():
            done: list[Removal] = []
            await image_gc.remove(self, reference, force=force, prune=prune, done=done)
            return done

    async def prune(self, filters: ImagePruneFilter) -> tuple[Sequence[Removal], int]:
        """Remove unused images; return what was done and the bytes that were freed."""
        async with self.gate.alone():
            done, freed = await image_gc.prune(self, filters)
        self.parts.publish("image", "prune", "", {"reclaimed": str(freed)})
        return done, freed

    def untag(self, record: ImageRecord, name: str, *, announce: bool = True) -> ImageRecord:
        """Take one name (a tag or a name@digest) from an image."""
        changed = replace(
            record,
            tags=tuple(item for item in record.tags if item != name),
            digests=tuple(item for item in record.digests if item != name),
        )
        if self._names.get(name) == record.id:
            del self._names[name]
        self.save(changed)
        if announce:
            self.event("untag", record)
        return changed

    async def collect_blobs(self, digests: Collection[str]) -> None:
        """Remove those of the blobs that nothing uses."""
        await image_gc.collect(self, (), digests)

    async def collect_left(self) -> None:
        """Remove what was held when it was to be removed, and is held no more."""
        if self.left:
            async with self.gate.alone():
                await image_gc.collect(self, (), ())

    # In and out

    def pull(
        self,
        reference: str,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[Progress]:
        """Pull an image. The first message comes when the registry answered; a failure before is raised.

        Raises what Registry raises, InvalidInputError for an image that is not what it says.
        """
        return image_transfer.pull(self, reference, platform, credentials)

    def pull_all(
        self,
        name: str,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> AsyncIterator[Progress]:
        """Pull every tag of a repository, as ``pull`` does one."""
        return image_transfer.pull_all(self, name, platform, credentials)

    def push(
        self, reference: str, *, credentials: Credentials | None = None
    ) -> AsyncIterator[Progress]:
        """Push an image under a name it has; without a tag, every tag of the repository."""
        return image_transfer.push(self, reference, credentials)

    def load(
        self,
        chunks: AsyncIterator[bytes],
        *,
        platform: Platform | None = None,
        quiet: bool = True,
    ) -> AsyncIterator[Progress]:
        """Load images from a docker-archive or an OCI archive, those for one platform where that is asked.

        Raises InvalidInputError, NotFoundError when an index in it has nothing for the platform.
        """
        return image_archive.load(self, chunks, platform, quiet=quiet)

    def save_archive(
        self, references: Sequence[str], *, platform: Platform | None = None
    ) -> AsyncIterator[bytes]:
        """Yield a tar that is a docker-archive and an OCI layout at once. Raises NotFoundError at once."""
        return image_archive.save(self, references, platform)

    async def import_(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        config: ImageConfig | None = None,
        message: str = "",
        platform: Platform | None = None,
    ) -> str:
        """Make an image of one layer from a root file system's tar; return its ID."""
        return await image_making.import_(
            self,
            chunks,
            reference,
            config or ImageConfig(),
            message,
            platform or self.parts.platform,
        )

    async def commit(
        self,
        container: ContainerRecord,
        *,
        reference: str = "",
        message: str = "",
        author: str = "",
        config: ImageConfig | None = None,
        without: Collection[str] = (),
    ) -> str:
        """Make an image of a container's files (snapshot key: its ID) and configuration; return its ID.

        ``config`` goes over what the container ran with where it is given; of its files the paths ``without`` are left
        out. The caller pauses the container.
        """
        request = CommitRequest(
            reference=reference,
            message=message,
            author=author,
            config=config,
            without=frozenset(without),
        )
        return await image_making.commit(self, container, request)


def _full_text(reference: str) -> str:
    try:
        return str(parse_reference(reference).with_default_tag())
    except InvalidInputError:
        return reference


def _history(images: Images, record: ImageRecord, layer_sizes: Sequence[int]) -> list[HistoryLine]:
    sizes = iter(layer_sizes)
    lines = [
        HistoryLine(
            id="<missing>",
            created=instant(entry.created),
            created_by=entry.created_by,
            size=0 if entry.empty_layer else next(sizes, 0),
            comment=entry.comment,
        )
        for entry in record.history
    ]
    lines.reverse()
    at: ImageRecord | None = record
    for number, line in enumerate(lines):
        if at is None:
            break
        lines[number] = replace(line, id=at.id, tags=at.tags)
        at = images.get(at.parent) if at.parent else None
    return lines
