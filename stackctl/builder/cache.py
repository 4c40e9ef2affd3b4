"""Cache keys, and the steps that were built before.

A key is the digest of all that a step's result depends on: the state it starts from (layers and configuration,
content-addressed themselves), the instruction with its variables replaced, the build arguments it can see, and the
content of what it copies: names, modes, owners, bytes, never times. What a key leads to is the configuration blob of
the state after the step; it holds the layers' diff IDs, so a hit costs one small read.
"""

import asyncio
import contextlib
import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from weakref import WeakValueDictionary

from stackctl.builder.image import State, decode_cached, encode, identity
from stackctl.contracts.clock import Clock
from stackctl.contracts.state import BuildCacheRecord, StateStore
from stackctl.contracts.storage import ContentStore, LayerStore
from stackctl.engine.image_config import parse_document
from stackctl.errors import HostError, InvalidInputError, NotFoundError, StackctlError
from stackctl.oci.descriptor import OCI_CONFIG, OCI_LAYER, Descriptor
from stackctl.oci.digest import chain_ids, check_digest
from stackctl.values import Json

_VERSION = 1
_STEPS = "stackctl-steps.json"
_TOUCH_AFTER = 3600.0


def step_key(state: State, instruction: Json) -> str:
    """Return the key of a step: ``instruction`` is everything the result depends on beside the state."""
    # The history counts as well: it is part of the image that a hit gives.
    history = [entry.created_by for entry in state.document.history]
    text = json.dumps([_VERSION, identity(state), list(history), instruction], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


class BuildCache:
    """What was built before, by key. Lasts over restarts; a step whose layer or blob is gone is forgotten."""

    def __init__(
        self, store: StateStore, content: ContentStore, layers: LayerStore, clock: Clock
    ) -> None:
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
        now = self._clock.now()
        if now - record.used_at > _TOUCH_AFTER:
            self._save(replace(record, used_at=now))
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
            )
        )

    async def export(self, keys: Sequence[str], directory: Path) -> None:
        """Write steps with their blobs to a directory, an OCI layout with a list of the steps beside it.

        Raises HostError.
        """
        records = [self._load()[key] for key in dict.fromkeys(keys) if key in self._load()]
        try:
            blobs = directory / "blobs" / "sha256"
            await asyncio.to_thread(blobs.mkdir, parents=True, exist_ok=True)
            for digest in dict.fromkeys(blob for record in records for blob in record.blobs):
                target = blobs / digest.partition(":")[2]
                await asyncio.to_thread(_copy_blob, self._content.path(digest), target)
            steps: Json = [
                {"key": item.id, "image": item.image_id, "layers": list(item.layers), "blobs": list(item.blobs)}
                for item in records
            ]  # fmt: skip
            text = json.dumps({"version": _VERSION, "steps": steps})
            await asyncio.to_thread(_write, directory / _STEPS, text)
        except OSError as error:
            raise HostError(
                f"cannot write the cache to {directory}: {error.strerror}", errno=error.errno or 0
            ) from error

    async def take(self, directory: Path) -> int:
        """Take the steps of a directory; return how many. What is missing or not what it says is left out."""
        try:
            tree = json.loads(await asyncio.to_thread((directory / _STEPS).read_bytes))
        except (OSError, ValueError, RecursionError):
            return 0
        if not isinstance(tree, dict) or tree.get("version") != _VERSION:
            return 0
        steps = tree.get("steps")
        taken = 0
        for step in steps if isinstance(steps, list) else ():
            with contextlib.suppress(StackctlError, OSError, ValueError, TypeError, KeyError):
                await self._take(step, directory / "blobs" / "sha256")
                taken += 1
        return taken

    async def _take(self, step: Mapping[str, object], blobs: Path) -> None:
        key, image = check_digest(str(step["key"])), check_digest(str(step["image"]))
        names = [check_digest(str(name)) for name in cast(list[object], step["blobs"])]
        if key in self._load() or image not in names:
            return
        for name in names:
            if not self._content.has(name):
                path = blobs / name.partition(":")[2]
                expected = Descriptor(media_type=OCI_LAYER, digest=name)
                await self._content.ingest(_pieces(path), expected)
        diff_ids = parse_document(await self._content.read(image)).diff_ids
        chain = chain_ids(diff_ids)
        layers = [name for name in names if name != image]
        if len(layers) != len(chain):
            raise InvalidInputError("the step's blobs are not its layers")
        for chain_id, diff_id, blob in zip(chain, diff_ids, layers, strict=True):
            if not self._layers.has(chain_id):
                path = self._content.path(blob)
                await self._layers.unpack(chain_id, path, OCI_LAYER, diff_id)
        self._save(
            BuildCacheRecord(
                id=key,
                image_id=image,
                used_at=self._clock.now(),
                layers=tuple(chain),
                blobs=tuple(names),
            )
        )

    def note(self, name: str) -> str:
        """Return a digest noted under a name, "" when there is none."""
        record = self._load().get(f"note:{name}")
        return record.image_id if record else ""

    def save_note(self, name: str, digest: str) -> None:
        """Note a digest that was costly to compute (of files in a stage)."""
        self._save(BuildCacheRecord(id=f"note:{name}", image_id=digest, used_at=self._clock.now()))

    def prune(self) -> int:
        """Forget every step; return how many there were. Blobs and layers go with the store's own collection."""
        records = self._load()
        count = len(records)
        for record in list(records.values()):
            self._forget(record)
        return count

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


def _write(target: Path, text: str) -> None:
    part = target.with_name(f".{target.name}.part")
    part.write_text(text)
    part.replace(target)


def _copy_blob(source: Path, target: Path) -> None:
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while data := await asyncio.to_thread(file.read, 1 << 20):
            yield data
