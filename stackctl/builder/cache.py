"""Cache keys, and the steps that were built before.

A key is the digest of all that a step's result depends on: the state it starts from (layers and configuration,
content-addressed themselves), the instruction with its variables replaced, the build arguments it can see, and the
content of what it copies: names, modes, owners, bytes, never times. What a key leads to is the configuration blob of
the state after the step; it holds the layers' diff IDs, so a hit costs one small read.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from stackctl.builder.image import State, decode_cached, encode, identity
from stackctl.contracts.clock import Clock
from stackctl.contracts.state import BuildCacheRecord, StateStore
from stackctl.contracts.storage import ContentStore, LayerStore
from stackctl.engine.image_config import ImageDocument, parse_document
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import OCI_CONFIG, OCI_LAYER, Descriptor
from stackctl.oci.digest import chain_ids
from stackctl.values import Json

_VERSION = 2  # what a step makes of the same words is another than it was


@frozen
class Step:
    """A step as it is kept outside: its key, the configuration it led to, the layers' chain IDs and blobs."""

    key: str
    config: str
    layers: tuple[str, ...]
    blobs: tuple[str, ...]


def step_key(state: State, instruction: Json) -> str:
    """Return the key of a step: ``instruction`` is everything the result depends on beside the state."""
    # The history counts as well: it is part of the image that a hit gives.
    history = [entry.created_by for entry in state.document.history]
    text = json.dumps([_VERSION, identity(state), list(history), instruction], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


class BuildCache:
    """What was built before, by key. Lasts over restarts; a step whose layer or blob is gone is forgotten.

    What a forgotten step named goes to ``left``, for the next collection.
    """

    def __init__(
        self,
        store: StateStore,
        content: ContentStore,
        layers: LayerStore,
        clock: Clock,
        left: set[str],
    ) -> None:
        self._left = left
        self._clock = clock
        self._store = store
        self._content = content
        self._layers = layers
        self._records: dict[str, BuildCacheRecord] | None = None
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._blobs: dict[str, bytes] = {}

    def lock(self, key: str) -> asyncio.Lock:
        """Return the lock under which a step is built, so that builds at the same time share it."""
        return self._locks.setdefault(key, asyncio.Lock())

    async def find(self, key: str, before: State) -> State | None:
        """Return the state after the step, or None."""
        records = self._load()
        record = records.get(key)
        if record is None:
            return None
        try:
            data = self._blobs.get(record.image_id)
            if data is None or not self._content.has(record.image_id):
                data = await self._content.read(record.image_id)
                self._blobs[record.image_id] = data
            after = decode_cached(data, before)
        except (NotFoundError, InvalidInputError, ValueError):
            self._forget(record)
            return None
        fresh = list(zip(after.layers, after.blobs, strict=True))[len(before.layers) :]
        if not all(self._layers.has(one) and self._content.has(blob.digest) for one, blob in fresh):
            self._forget(record)
            return None
        blobs = await asyncio.to_thread(self._sized, [blob for _, blob in fresh])
        after = replace(after, blobs=(*before.blobs, *blobs))
        self._save(replace(record, used_at=self._clock.now(), uses=record.uses + 1))
        return after

    def _sized(self, blobs: Sequence[Descriptor]) -> list[Descriptor]:
        """Return the descriptors with the sizes that a manifest must tell."""
        return [
            replace(blob, size=self._content.path(blob.digest).stat().st_size) for blob in blobs
        ]

    async def remember(self, key: str, after: State) -> None:
        """Store what a step led to."""
        descriptor = await self._content.put(encode(after), OCI_CONFIG)
        self._save(
            BuildCacheRecord(
                id=key,
                image_id=descriptor.digest,
                used_at=self._clock.now(),
                layers=after.layers,
                blobs=(descriptor.digest, *(blob.digest for blob in after.blobs)),
                created_at=self._clock.now(),
                description=_description(after.document),
            )
        )

    async def steps(self, keys: Sequence[str]) -> Sequence[Step]:
        """Return steps as they are kept elsewhere, those that are still here."""
        records = [self._load()[key] for key in dict.fromkeys(keys) if key in self._load()]
        return [
            Step(
                key=record.id,
                config=(await self._content.read(record.image_id)).decode(),
                layers=record.layers,
                blobs=tuple(blob for blob in record.blobs if blob != record.image_id),
            )
            for record in records
        ]

    async def take(self, step: Step, blob: Callable[[str], AsyncIterator[bytes]]) -> None:
        """Take over a step from elsewhere; ``blob`` gives a layer's bytes, perhaps compressed.

        Raises InvalidInputError when it is not what it says.
        """
        if step.key in self._load():
            return
        data = step.config.encode()
        document = parse_document(data)
        diff_ids = document.diff_ids
        if chain_ids(diff_ids) != step.layers or len(step.blobs) != len(diff_ids):
            raise InvalidInputError("the step's layers are not those of its configuration")
        for name, diff_id, chain_id in zip(step.blobs, diff_ids, step.layers, strict=True):
            if not self._content.has(name):
                await self.bring(name, diff_id, blob(name))
            if not self._layers.has(chain_id):
                path = self._content.path(name)
                await self._layers.unpack(chain_id, path, OCI_LAYER, diff_id)
        image = await self._content.put(data, OCI_CONFIG)
        self._save(
            BuildCacheRecord(
                id=step.key,
                image_id=image.digest,
                used_at=self._clock.now(),
                layers=step.layers,
                blobs=(image.digest, *step.blobs),
                created_at=self._clock.now(),
                description=_description(document),
            )
        )

    async def bring(self, name: str, diff_id: str, chunks: AsyncIterator[bytes]) -> None:
        """Store a layer under its name; raises InvalidInputError when it is another."""
        if name != diff_id:
            await self._content.ingest(chunks, Descriptor(media_type=OCI_LAYER, digest=name))
            return
        # Kept plain here, and sent compressed.
        found = await self._content.ingest_tar(chunks)
        if found.digest != diff_id:
            await self._content.delete(found.digest)
            raise InvalidInputError(f"a layer is {found.digest}, not {diff_id}")

    def note(self, name: str) -> str:
        """Return a digest noted under a name, "" when there is none."""
        record = self._load().get(f"note:{name}")
        return record.image_id if record else ""

    def save_note(self, name: str, digest: str) -> None:
        """Note a digest that was costly to compute (of files in a stage)."""
        self._save(BuildCacheRecord(id=f"note:{name}", image_id=digest, used_at=self._clock.now()))

    def prune(
        self, takes: Callable[[BuildCacheRecord], bool] = lambda _: True
    ) -> Sequence[BuildCacheRecord]:
        """Forget the steps that are taken and return them; their blobs and layers are for the caller to collect."""
        records = [record for record in self._load().values() if takes(record)]
        for record in records:
            self._forget(record)
        return records

    def _load(self) -> dict[str, BuildCacheRecord]:
        if self._records is None:
            self._records = {record.id: record for record in self._store.load(BuildCacheRecord)}
        return self._records

    def _save(self, record: BuildCacheRecord) -> None:
        self._load()[record.id] = record
        self._store.save(record)

    def _forget(self, record: BuildCacheRecord) -> None:
        self._load().pop(record.id, None)
        self._blobs.pop(record.image_id, None)
        self._store.delete(record)
        self._left.update((*record.layers, *record.blobs))


def _description(document: ImageDocument) -> str:
    return document.history[-1].created_by if document.history else ""
