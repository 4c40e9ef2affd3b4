"""Removing images and what only they used, with Docker's rules for what may go.

A layer or blob goes when no image record and no step of a build names it, no container stands on it and nothing in flight holds it.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from stackctl.contracts.state import BuildCacheRecord, ImageRecord
from stackctl.engine.image_config import instant
from stackctl.engine.image_values import ImagePruneFilter, Removal, is_running, short
from stackctl.errors import ConflictError, NotFoundError, StackctlError
from stackctl.oci.descriptor import OCI_LAYER
from stackctl.oci.reference import in_order, parse_reference

if TYPE_CHECKING:
    from stackctl.engine.images import Images


async def remove(
    images: "Images", reference: str, *, force: bool, prune: bool, done: list[Removal]
) -> None:
    record = images.resolve(reference)
    by_name = not record.id.removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))
    if by_name:
        if not force and _is_single(record):
            _refuse_used_name(images, record, reference)
        record = _untag_name(images, record, reference, done)
        if record.tags or record.digests:
            return
    elif _is_single(record):
        _check(images, record, soft=not force, references=False)
        for name in in_order((*record.tags, *record.digests)):
            record = images.untag(record, name)
            done.append(Removal(untagged=name))
    await _delete(images, record, force=force, prune=prune, quiet=by_name, done=done)


async def prune(images: "Images", filters: ImagePruneFilter) -> tuple[Sequence[Removal], int]:
    """Remove what the filters take; return what was done and the bytes of the layers that went."""
    done: list[Removal] = []
    before = {
        chain_id: await images.parts.layers.size(chain_id)
        for chain_id in await images.parts.layers.layers()
    }
    for record in images.all():
        current = images.get(record.id)
        if current is None or not _is_taken(images, current, filters):
            continue
        try:
            for name in in_order((*current.tags, *current.digests)):
                current = images.untag(current, name)
                done.append(Removal(untagged=name))
            await _delete(images, current, force=False, prune=True, quiet=True, done=done)
        except (ConflictError, NotFoundError):
            continue
    freed = await images.parts.content.drop_partials(
        [name for name, count in images.held.counts.items() if count > 0]
    )
    after = set(await images.parts.layers.layers())
    return done, freed + sum(size for chain_id, size in before.items() if chain_id not in after)


async def repair(images: "Images", record: ImageRecord) -> None:
    """Unpack layers that are gone again from their blobs; what cannot be is left for the next use to report."""
    pairs = zip(record.layers, record.diff_ids, record.layer_blobs, strict=False)
    for chain_id, diff_id, blob in pairs:
        if images.parts.layers.has(chain_id) or not images.parts.content.has(blob):
            continue
        try:
            path = images.parts.content.path(blob)
            await images.parts.layers.unpack(chain_id, path, OCI_LAYER, diff_id)
        except StackctlError:
            continue


async def collect_everything(images: "Images") -> None:
    """Remove every layer and blob that nothing uses (what a crash left behind)."""
    await collect(images, await images.parts.layers.layers(), await images.parts.content.digests())


async def collect(
    images: "Images", chain_ids: Collection[str], digests: Collection[str]
) -> Sequence[str]:
    """Remove those of the layers and blobs that nothing uses; return the chain IDs that went.

    What is only held at the moment, or has only a container on it, is tried again by the next collection.
    """
    gone = []
    cached = _kept_by_cache(images)
    again = set(images.left)
    images.left.clear()
    # Looked up anew for each, since a pull or a build may take one while another is being removed.
    for chain_id in dict.fromkeys((*chain_ids, *again)):
        if chain_id in cached or any(chain_id in record.layers for record in images.all()):
            continue
        if images.held.counts[chain_id] > 0 or chain_id in images.parts.layers_in_use():
            images.left.add(chain_id)
        else:
            if images.parts.layers.has(chain_id):
                gone.append(chain_id)
            await images.parts.layers.remove(chain_id)
    for digest in dict.fromkeys((*digests, *again)):
        if digest in cached or _is_blob_named(images, digest):
            continue
        if images.held.counts[digest] > 0:
            images.left.add(digest)
        else:
            await images.parts.content.delete(digest)
    return gone


def _kept_by_cache(images: "Images") -> set[str]:
    """Return the chain IDs and digests that build steps may use again."""
    return {
        name
        for step in images.parts.state.load(BuildCacheRecord)
        for name in (*step.layers, *step.blobs)
    }


def _is_blob_named(images: "Images", digest: str) -> bool:
    return any(
        digest in (record.id, record.manifest) or digest in record.layer_blobs
        for record in images.all()
    )


def _is_taken(images: "Images", record: ImageRecord, filters: ImagePruneFilter) -> bool:
    if filters.dangling and record.tags:
        return False
    if images.children(record.id) or images.parts.users_of(record.id):
        return False
    if filters.until is not None and instant(record.created) > filters.until:
        return False
    labels = record.config.labels
    return all(_has(labels, key, value) for key, value in filters.labels) and not any(
        _has(labels, key, value) for key, value in filters.not_labels
    )


def _has(labels: object, key: str, value: str | None) -> bool:
    return isinstance(labels, dict) and key in labels and value in (None, labels[key])


def _refuse_used_name(images: "Images", record: ImageRecord, reference: str) -> None:
    for user in images.parts.users_of(record.id):
        raise ConflictError(
            f'conflict: unable to remove repository reference "{reference}" (must force) - '
            f"container {user.id[:12]} is using its referenced image {short(record.id)}"
        )


def _untag_name(
    images: "Images", record: ImageRecord, reference: str, done: list[Removal]
) -> ImageRecord:
    parsed = parse_reference(reference).with_default_tag()
    name = f"{parsed.name}@{parsed.digest}" if parsed.digest else str(parsed)
    record = images.untag(record, name)
    done.append(Removal(untagged=name))
    repository = parsed.name
    if not parsed.digest and not any(_repository(tag) == repository for tag in record.tags):
        # The digests of a repository whose last tag went mean nothing to anybody.
        for digest in [item for item in record.digests if _repository(item) == repository]:
            # Docker says that they went, and has no event for it.
            record = images.untag(record, digest, announce=False)
            done.append(Removal(untagged=digest))
    return record


async def _delete(
    images: "Images",
    record: ImageRecord,
    *,
    force: bool,
    prune: bool,
    quiet: bool,
    done: list[Removal],
) -> None:
    try:
        _check(images, record, soft=not force, references=True)
    except ConflictError:
        used = bool(images.parts.users_of(record.id))
        dangling = not (record.tags or record.digests or images.children(record.id))
        if quiet and (not dangling or used):
            return
        raise
    for name in in_order((*record.tags, *record.digests)):
        record = images.untag(record, name)
        done.append(Removal(untagged=name))
    images.forget(record)
    images.event("delete", record)
    done.append(Removal(deleted=record.id))
    gone = await collect(
        images, tuple(reversed(record.layers)), (record.id, record.manifest, *record.layer_blobs)
    )
    done.extend(Removal(deleted=chain_id) for chain_id in gone)
    parent = images.get(record.parent) if prune and record.parent else None
    if parent is not None and not (parent.tags or parent.digests):
        await _delete(images, parent, force=False, prune=True, quiet=True, done=done)


def _check(images: "Images", record: ImageRecord, *, soft: bool, references: bool) -> None:
    """Raise ConflictError when something needs the image; ``soft`` also for what force would override."""
    if images.children(record.id):
        raise _conflict(record, "cannot be forced", "image has dependent child images")
    users = images.parts.users_of(record.id)
    for user in users:
        if is_running(user):
            text = f"image is being used by running container {user.id[:12]}"
            raise _conflict(record, "cannot be forced", text)
    if soft and references and len(record.tags) + len(record.digests) > 0:
        text = "image is referenced in multiple repositories"
        raise _conflict(record, "must be forced", text)
    if soft and users:
        text = f"image is being used by stopped container {users[0].id[:12]}"
        raise _conflict(record, "must be forced", text)


def _conflict(record: ImageRecord, how: str, why: str) -> ConflictError:
    return ConflictError(f"conflict: unable to delete {short(record.id)} ({how}) - {why}")


def _is_single(record: ImageRecord) -> bool:
    """Tell whether the image has one name only: one tag at most, all in one repository."""
    if len(record.tags) + len(record.digests) <= 1:
        return True
    repositories = {_repository(name) for name in (*record.tags, *record.digests)}
    return len(record.tags) <= 1 and len(repositories) == 1


def _repository(name: str) -> str:
    return parse_reference(name).name
