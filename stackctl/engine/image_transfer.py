"""Images from and to registries, with Docker's progress messages.

Layers are downloaded a few at a time and unpacked as they come, in any order: a layer is unpacked without those below
it. What is there already (a layer by chain ID with a blob, a blob by digest) is not fetched again.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from stackctl.contracts.registry import Credentials, ResolvedManifest
from stackctl.contracts.state import ImageRecord
from stackctl.engine import image_gc
from stackctl.engine.image_config import ImageDocument, parse_document
from stackctl.engine.image_making import layers_of
from stackctl.engine.image_values import Progress, check_platform, first_failure, platform_of, short
from stackctl.errors import InvalidInputError, NotFoundError, UnsupportedError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from stackctl.oci.digest import chain_ids
from stackctl.oci.image import MAX_MANIFEST, Manifest, manifest_bytes, parse_manifest
from stackctl.oci.platform import Platform
from stackctl.oci.reference import Reference, in_order, parse_reference

if TYPE_CHECKING:
    from stackctl.engine.images import Images

_REPORT_EVERY = 0.1
_ATTEMPTS = 3
_MOUNT_SOURCES = 3
_LAYERS = frozenset({OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP})
Report = Callable[[Progress], None]


@frozen
class _Wanted:
    """One layer to have: its blob and what it unpacks to."""

    blob: Descriptor
    chain_id: str
    diff_id: str

    @property
    def short(self) -> str:
        return self.blob.digest.partition(":")[2][:12]


async def pull(
    images: "Images", text: str, platform: Platform | None, credentials: Credentials | None
) -> AsyncIterator[Progress]:
    reference = parse_reference(text).with_default_tag()
    outcome: list[tuple[ImageRecord, bool]] = []
    async with aclosing(_pull_one(images, reference, platform, credentials, outcome)) as messages:
        async for message in messages:
            yield message
    [(record, fresh)] = outcome
    images.event("pull", record, name=reference.name, actor=str(reference))
    yield _status(str(reference), fresh=fresh)
    try:
        check_platform(record, str(reference), platform)
    except NotFoundError as warning:
        yield Progress(status=f"WARNING: {warning.message}")


async def pull_all(
    images: "Images", text: str, platform: Platform | None, credentials: Credentials | None
) -> AsyncIterator[Progress]:
    reference = replace(parse_reference(text), tag="", digest="")
    outcome: list[tuple[ImageRecord, bool]] = []
    for tag in await images.parts.registry.tags(reference, credentials):
        source = _pull_one(images, reference.with_tag(tag), platform, credentials, outcome)
        async with aclosing(source) as messages:
            async for message in messages:
                yield message
    images.parts.publish("image", "pull", reference.name, {"name": reference.name})
    yield _status(reference.name, fresh=any(fresh for _, fresh in outcome))


def _status(name: str, *, fresh: bool) -> Progress:
    verb = "Downloaded newer image for" if fresh else "Image is up to date for"
    return Progress(status=f"Status: {verb} {name}")


async def _pull_one(
    images: "Images",
    reference: Reference,
    platform: Platform | None,
    credentials: Credentials | None,
    outcome: list[tuple[ImageRecord, bool]],
) -> AsyncGenerator[Progress, None]:
    """Pull what one name stands for; ``outcome`` gets the image, and whether that was anything new."""
    wanted = platform or images.parts.platform
    label = str(reference) if reference.digest else reference.tag
    head = Progress(status=f"Pulling from {reference.repository}", id=label, bare=True)
    if digest := await _unchanged(images, reference, wanted, credentials):
        yield head
        outcome.append(await _kept(images, reference, digest, wanted))
        yield Progress(status=f"Digest: {digest}")
        return
    resolved = await images.parts.registry.resolve(reference, wanted, credentials)
    yield head
    manifest = parse_manifest(resolved.data, resolved.descriptor.media_type)
    if not isinstance(manifest, Manifest):
        raise InvalidInputError(f"{reference}: the registry gave an index where an image was due")
    _refuse_artifact(reference, manifest)
    names = [manifest.config.digest, *(layer.digest for layer in manifest.layers)]
    chain: list[str] = []
    try:
        async with aclosing(
            _pull_layers(images, reference, resolved, manifest, credentials, chain, outcome)
        ) as lines:
            async for message in lines:
                yield message
    except BaseException:
        # What came is of use to nobody without an image; partial downloads stay for the next try.
        await image_gc.collect(images, chain, names)
        raise


async def _unchanged(
    images: "Images", reference: Reference, wanted: Platform, credentials: Credentials | None
) -> str:
    """Return the digest of what the name stands for when that is here whole, else "".

    Only asked where something of the repository is here; what is only asked for counts for no registry's limit.
    """
    prefix = f"{reference.name}@"
    if not any(name.startswith(prefix) for record in images.all() for name in record.digests):
        return ""
    digest = await images.parts.registry.digest(reference, credentials)
    return digest if digest and _here(images, reference, digest, wanted) else ""


def _here(
    images: "Images", reference: Reference, digest: str, wanted: Platform
) -> ImageRecord | None:
    name = f"{reference.name}@{digest}"
    for record in images.all():
        if name in record.digests and wanted.accepts(platform_of(record)):
            unpacked = all(images.parts.layers.has(layer) for layer in record.layers)
            return record if unpacked and images.is_whole(record) else None
    return None


async def _kept(
    images: "Images", reference: Reference, digest: str, wanted: Platform
) -> tuple[ImageRecord, bool]:
    """Give the image that is here the name that was pulled; return it, and whether the name led elsewhere before."""
    record = _here(images, reference, digest, wanted)
    if record is None:
        raise NotFoundError(f"{reference} was removed while it was being pulled")
    before = images.find(str(reference))
    if reference.tag and not reference.digest:
        await images.tag(record.id, str(reference), announce=False)
    return images.resolve(record.id), before is None or before.id != record.id


async def _pull_layers(
    images: "Images",
    reference: Reference,
    resolved: ResolvedManifest,
    manifest: Manifest,
    credentials: Credentials | None,
    chain: list[str],
    outcome: list[tuple[ImageRecord, bool]],
) -> AsyncGenerator[Progress, None]:
    """Fetch, unpack and record; ``chain`` becomes the layers' chain IDs."""
    names = [manifest.config.digest, *(layer.digest for layer in manifest.layers)]
    with images.held.hold(names):
        document = await _fetch_config(images, reference, manifest, credentials)
        layers = _wanted(manifest, document)
        chain += [layer.chain_id for layer in layers]
        # Of an image that is here under another name, no layer is told.
        known = images.get(manifest.config.digest) is not None
        with images.held.hold([layer.chain_id for layer in layers]):
            job = _Pull(images, reference, credentials)
            async with aclosing(reported(lambda report: job.run(layers, report))) as messages:
                async for message in messages:
                    if not known or message.status != "Already exists":
                        yield message
            record, fresh = await _finish(images, reference, resolved, manifest, job)
    outcome.append((record, fresh))
    yield Progress(status=f"Digest: {resolved.top.digest}")


async def _fetch_config(
    images: "Images", reference: Reference, manifest: Manifest, credentials: Credentials | None
) -> ImageDocument:
    content = images.parts.content
    if manifest.config.size > MAX_MANIFEST:
        raise InvalidInputError(
            f"{reference}: an image configuration of {manifest.config.size} bytes"
        )
    if not content.has(manifest.config.digest):
        chunks = images.parts.registry.fetch(reference, manifest.config, credentials)
        await content.ingest(chunks, manifest.config)
    return parse_document(await content.read(manifest.config.digest))


def _refuse_artifact(reference: Reference, manifest: Manifest) -> None:
    """Refuse what lies in registries beside images; raises UnsupportedError saying what it is."""
    kind = manifest.config.media_type
    if kind not in (OCI_CONFIG, DOCKER_CONFIG):
        raise UnsupportedError(
            f"{reference} is not an image: its configuration is of type {kind or 'unknown'}",
            hint="it is an artifact such as a chart, a signature or a plugin; only images run",
        )
    for layer in manifest.layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise UnsupportedError(
                f"{reference}: a layer is of type {layer.media_type}",
                hint="such layers lie elsewhere than in the registry, and are not offered",
            )
        if layer.media_type not in _LAYERS:
            raise UnsupportedError(
                f"{reference} is not an image: a layer is of type {layer.media_type or 'unknown'}"
            )


def _wanted(manifest: Manifest, document: ImageDocument) -> list[_Wanted]:
    if len(manifest.layers) != len(document.diff_ids):
        raise InvalidInputError(
            f"the manifest has {len(manifest.layers)} layers, its configuration {len(document.diff_ids)}"
        )
    chain = chain_ids(document.diff_ids)
    return [
        _Wanted(blob=blob, chain_id=chain_id, diff_id=diff_id)
        for blob, chain_id, diff_id in zip(manifest.layers, chain, document.diff_ids, strict=True)
    ]


async def _finish(
    images: "Images",
    reference: Reference,
    resolved: ResolvedManifest,
    manifest: Manifest,
    job: "_Pull",
) -> tuple[ImageRecord, bool]:
    content = images.parts.content
    before = images.find(str(reference))
    layers = [
        replace(layer, digest=job.instead.get(layer.digest, layer.digest))
        for layer in manifest.layers
    ]
    data = resolved.data
    if job.instead:
        # Some blobs are the same layer in other clothes; the manifest we keep must name what we have.
        data = manifest_bytes(
            replace(manifest, layers=tuple(job.described(item) for item in manifest.layers))
        )
        layers = [job.described(item) for item in manifest.layers]
    record = await images.add(
        await content.read(manifest.config.digest),
        layers=layers,
        tags=[str(reference)] if reference.tag and not reference.digest else [],
        digests=[f"{reference.name}@{resolved.top.digest}"],
        manifest=data,
    )
    return record, before is None or before.id != record.id


class _Pull:
    """The layers of one pull. ``instead`` maps a manifest's blob to the one we have of the same layer."""

    def __init__(
        self, images: "Images", reference: Reference, credentials: Credentials | None
    ) -> None:
        self._images = images
        self._reference = reference
        self._credentials = credentials
        self._slots = images.download_slots
        self.instead: dict[str, str] = {}
        self._known: dict[str, Descriptor] = {}

    def described(self, blob: Descriptor) -> Descriptor:
        return self._known.get(blob.digest, blob)

    async def run(self, layers: Sequence[_Wanted], report: Report) -> None:
        missing = []
        for layer in layers:
            there = await self._is_there(layer)
            status = "Already exists" if there else "Pulling fs layer"
            report(Progress(status=status, id=layer.short))
            missing += [] if there else [layer]
        async with asyncio.TaskGroup() as group:
            for layer in missing:
                group.create_task(self._have(layer, report))

    async def _is_there(self, layer: _Wanted) -> bool:
        return self._images.parts.layers.has(layer.chain_id) and await self._have_blob(layer)

    async def _have(self, layer: _Wanted, report: Report) -> None:
        parts = self._images.parts
        lock = self._images.downloads.setdefault(layer.blob.digest, asyncio.Lock())
        async with lock:
            if await self._is_there(layer):
                report(Progress(status="Already exists", id=layer.short))
                return
            if not parts.content.has(layer.blob.digest):
                if self._slots.locked():
                    report(Progress(status="Waiting", id=layer.short))
                async with self._slots:
                    await self._download(layer, report)
            report(Progress(status="Download complete", id=layer.short))
            size = max(layer.blob.size, 0)
            report(Progress(status="Extracting", id=layer.short, current=0, total=size))
            path = parts.content.path(layer.blob.digest)
            await parts.layers.unpack(layer.chain_id, path, layer.blob.media_type, layer.diff_id)
            report(Progress(status="Extracting", id=layer.short, current=size, total=size))
            report(Progress(status="Pull complete", id=layer.short))
        self._images.downloads.pop(layer.blob.digest, None)

    async def _have_blob(self, layer: _Wanted) -> bool:
        """Tell whether a blob of the unpacked layer is there: this one, or another image's."""
        if self._images.parts.content.has(layer.blob.digest):
            return True
        for record in self._images.all():
            if layer.chain_id not in record.layers:
                continue
            for descriptor in await layers_of(self._images, record):
                at = (
                    record.layer_blobs.index(descriptor.digest)
                    if descriptor.digest in record.layer_blobs
                    else -1
                )
                if (
                    at >= 0
                    and record.layers[at] == layer.chain_id
                    and self._images.parts.content.has(descriptor.digest)
                ):
                    self.instead[layer.blob.digest] = descriptor.digest
                    self._known[layer.blob.digest] = descriptor
                    return True
        return False

    async def _download(self, layer: _Wanted, report: Report) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                start = self._images.parts.content.partial(layer.blob)
                chunks = self._counted(layer, report, start)
                await self._images.parts.content.ingest(chunks, layer.blob, resume=True)
                return
            except InvalidInputError:
                # Not what its digest says: once more, since a proxy may have served something stale.
                if attempt == _ATTEMPTS:
                    raise
                report(Progress(status="Retrying in 1 second", id=layer.short))
                await self._images.parts.clock.sleep(1.0)

    async def _counted(
        self, layer: _Wanted, report: Report, start: int
    ) -> AsyncGenerator[bytes, None]:
        parts = self._images.parts
        got, next_report = start, 0.0
        source = parts.registry.fetch(self._reference, layer.blob, self._credentials, start=start)
        async for chunk in source:
            got += len(chunk)
            now = parts.clock.monotonic()
            if now >= next_report:
                next_report = now + _REPORT_EVERY
                report(
                    Progress(
                        status="Downloading", id=layer.short, current=got, total=layer.blob.size
                    )
                )
            yield chunk
        report(Progress(status="Verifying Checksum", id=layer.short))


async def reported(work: Callable[[Report], Awaitable[None]]) -> AsyncGenerator[Progress, None]:
    """Run work that reports, yielding what it reports; raise what it raises; cancel it when nobody listens any more."""
    queue: asyncio.Queue[Progress | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(queue.put_nowait)
        finally:
            queue.put_nowait(None)

    task = asyncio.create_task(run(), name="image transfer")
    try:
        while (message := await queue.get()) is not None:
            yield message
        try:
            await task
        except BaseExceptionGroup as group:
            raise first_failure(group) from group
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def push(
    images: "Images", text: str, credentials: Credentials | None
) -> AsyncIterator[Progress]:
    reference = parse_reference(text)
    yield Progress(
        status=f"The push refers to repository [{reference.registry}/{reference.repository}]"
    )
    for target in _push_targets(images, reference):
        record = images.resolve(str(target))
        held = [record.id, record.manifest, *record.layer_blobs]
        with images.held.hold(held):
            work = functools.partial(_push, images, record, target, credentials)
            async with aclosing(reported(work)) as messages:
                async for message in messages:
                    yield message
        # What was plain is kept compressed from now on.
        await images.collect_blobs(held)


def _push_targets(images: "Images", reference: Reference) -> list[Reference]:
    tags = in_order(tag for record in images.all() for tag in record.tags)
    targets = [tag for tag in map(parse_reference, tags) if tag.name == reference.name]
    if not targets:
        raise NotFoundError(f"An image does not exist locally with the tag: {reference.name}")
    if not reference.tag:
        return targets
    if reference not in targets:
        raise NotFoundError(f"tag does not exist: {reference}")
    return [reference]


async def _push(
    images: "Images",
    record: ImageRecord,
    target: Reference,
    credentials: Credentials | None,
    report: Report,
) -> None:
    layers = await layers_of(images, record)
    pairs = list(zip(layers, record.diff_ids, strict=True))
    for _, diff_id in reversed(pairs):
        report(Progress(status="Preparing", id=short(diff_id)))
    with ExitStack() as holds:
        job = _Push(images, target, credentials, report, holds)
        await _publish(images, record, target, await job.run(pairs), credentials, report)


class _Push:
    """The layers of one push, top first as Docker sends them; ``holds`` keeps what is made on the way."""

    def __init__(
        self,
        images: "Images",
        target: Reference,
        credentials: Credentials | None,
        report: Report,
        holds: ExitStack,
    ) -> None:
        self._images = images
        self._target = target
        self._credentials = credentials
        self._report = report
        self._holds = holds
        self._slots = images.upload_slots

    async def run(self, pairs: Sequence[tuple[Descriptor, str]]) -> tuple[Descriptor, ...]:
        """Send layers (blob, diff ID; lowest first); return the blobs as they are in the registry."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._one(layer, short(diff_id)))
                for layer, diff_id in reversed(pairs)
            ]
        return tuple(task.result() for task in reversed(tasks))

    async def _one(self, layer: Descriptor, shown: str) -> Descriptor:
        if self._slots.locked():
            self._report(Progress(status="Waiting", id=shown))
        async with self._slots:
            return await self._send(layer, shown)

    async def _send(self, layer: Descriptor, shown: str) -> Descriptor:
        images = self._images
        if layer.media_type == OCI_LAYER:
            # Kept plain while it is only here; on the wire and from then on compressed.
            layer = await images.parts.content.compress(layer.digest)
            self._holds.enter_context(images.held.hold([layer.digest]))

        def progress(sent: int) -> None:
            self._report(Progress(status="Pushing", id=shown, current=sent, total=layer.size))

        fate = await images.parts.registry.push_blob(
            self._target,
            layer,
            images.parts.content.path(layer.digest),
            self._credentials,
            progress,
            sources=_mountable(images, self._target, layer),
        )
        self._report(Progress(status=fate, id=shown))
        return layer


async def _publish(
    images: "Images",
    record: ImageRecord,
    target: Reference,
    pushed: tuple[Descriptor, ...],
    credentials: Credentials | None,
    report: Report,
) -> None:
    document = parse_manifest(await images.parts.content.read(record.manifest))
    data = await images.parts.content.read(record.manifest)
    if not isinstance(document, Manifest):
        raise InvalidInputError(f"the manifest of {target} is not an image's")
    if pushed != document.layers:
        data = manifest_bytes(replace(document, layers=pushed))
    await images.parts.registry.push_blob(
        target, document.config, images.parts.content.path(record.id), credentials
    )
    published = await images.parts.registry.push_manifest(
        target, data, document.media_type or OCI_MANIFEST, credentials
    )
    kept = await images.parts.content.put(data, document.media_type)
    current = images.get(record.id) or record
    changed = replace(
        current,
        manifest=kept.digest,
        layer_blobs=tuple(layer.digest for layer in pushed),
        digests=(*current.digests, f"{target.name}@{published.digest}"),
    )
    images.save(changed)
    tag = target.tag
    report(Progress(status=f"{tag}: digest: {published.digest} size: {len(data)}"))
    report(Progress(aux={"Tag": tag, "Digest": published.digest, "Size": len(data)}))
    images.event("push", changed, name=target.name, actor=str(target))


def _mountable(images: "Images", target: Reference, layer: Descriptor) -> list[str]:
    """Return repositories of the target's registry that have the layer as far as we know, a few of them."""
    found: dict[str, None] = {}
    for record in images.all():
        if layer.digest not in record.layer_blobs:
            continue
        for name in record.digests:
            known = parse_reference(name)
            if known.registry == target.registry and known.repository != target.repository:
                found[known.repository] = None
    return list(found)[:_MOUNT_SOURCES]
