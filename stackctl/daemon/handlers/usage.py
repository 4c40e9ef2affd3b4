"""/system/df: what takes space."""

from collections import Counter
from collections.abc import Collection

from aiohttp import web

from stackctl.contracts.state import BuildCacheRecord
from stackctl.daemon.bodies import images as image_bodies
from stackctl.daemon.bodies import listing, usage
from stackctl.daemon.bodies import volumes as volume_bodies
from stackctl.daemon.call import Call
from stackctl.daemon.handlers.containers import image_name
from stackctl.daemon.handlers.images import shared_sizes
from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

_KINDS = frozenset({"image", "container", "volume", "build-cache"})


async def disk_usage(call: Call) -> web.StreamResponse:
    engine = call.engine
    kinds = set(call.request.query.getall("type", ())) or _KINDS
    if unknown := sorted(kinds - _KINDS):
        raise InvalidInputError(f"unknown object type: {unknown[0][:80]}")
    layers = {layer for image in engine.images.all() for layer in image.layers}
    volumes: list[Json] = [
        volume_bodies.volume_body(
            volume,
            size=await engine.volumes.usage(volume.name),
            users=len(engine.volumes.users(volume.name)),
        )
        for volume in (engine.volumes.all() if "volume" in kinds else ())
    ]
    body: JsonObject = {
        "LayersSize": sum((await _sizes(call, layers)).values()) if "image" in kinds else 0,
        "Images": await _image_usage(call) if "image" in kinds else None,
        "Containers": await _container_usage(call) if "container" in kinds else None,
        "Volumes": volumes if "volume" in kinds else None,
        "BuildCache": await _cache_usage(call, layers) if "build-cache" in kinds else None,
    }
    return call.json(body)


async def _image_usage(call: Call) -> list[Json]:
    users = Counter(record.image_id for record in call.engine.containers.all())
    shared = await shared_sizes(call)
    images = sorted(call.engine.images.all(), key=image_bodies.created_at, reverse=True)
    return [
        image_bodies.entry_body(image, containers=users[image.id], shared=shared[image.id])
        for image in images
    ]


async def _container_usage(call: Call) -> list[Json]:
    engine = call.engine
    now = engine.world.clock.now()
    entries: list[Json] = []
    for record in sorted(engine.containers.all(), key=lambda record: record.created, reverse=True):
        written, whole = await engine.containers.size(record.id)
        sizes = {"SizeRw": written, "SizeRootFs": whole}
        entries.append(
            listing.entry_body(record, now=now, image=image_name(call, record), sizes=sizes)
        )
    return entries


async def _cache_usage(call: Call, kept: Collection[str]) -> list[Json]:
    steps = call.engine.world.state.load(BuildCacheRecord)
    layers = {layer for step in steps for layer in step.layers}
    return usage.cache_rows(steps, await _sizes(call, layers), kept)


async def _sizes(call: Call, layers: Collection[str]) -> dict[str, int]:
    """Return the bytes of those layers that are unpacked."""
    store = call.engine.world.layers
    return {layer: await store.size(layer) for layer in layers if store.has(layer)}


ROUTES = (("GET", "/system/df", disk_usage),)
