"""/containers: create, list, inspect, rename, update, remove, prune, changes, export, top, stats."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from stackctl.api.codec import encode_object
from stackctl.api.filters import atoi
from stackctl.contracts.container import ContainerRecord, Status
from stackctl.daemon.bodies import checks, limits, listing, stats
from stackctl.daemon.bodies import containers as bodies
from stackctl.daemon.bodies import create as create_bodies
from stackctl.daemon.call import BYTES_TYPE, JSON_TYPE, Call
from stackctl.daemon.handlers.leases import claim_of
from stackctl.daemon.streams import until_gone
from stackctl.errors import ConflictError, InvalidInputError, NotFoundError, StackctlError
from stackctl.values import Json

_PRUNE_KEYS = frozenset({"label", "label!", "until"})


async def create(call: Call) -> web.StreamResponse:
    name = create_bodies.check_name(call.text("name"))
    body = await call.body()
    host = call.engine.world.host
    spec = create_bodies.read_spec(body, cpus=host.cpus)
    limits.check_sets(spec, cpu_list=host.cpu_list, memory_nodes=host.memory_nodes)
    checks.check_runtime(spec, call.serving.settings.runtime_paths)
    spec, told = checks.settle(spec, body, host)
    made = await call.engine.containers.create(
        spec,
        name=name,
        platform=call.text("platform"),
        claim=claim_of(call, "container", spec.labels),
    )
    return call.json({"Id": made.id, "Warnings": [*told, *made.warnings]}, status=201)


async def list_(call: Call) -> web.StreamResponse:
    engine = call.engine
    filters = call.filters(listing.KEYS)
    query = listing.ListQuery(
        all=call.flag("all"),
        limit=atoi(call.text("limit") or "0"),
        filters=filters,
        ancestors=_ancestors(call, filters.get("ancestor", ())),
    )
    chosen = listing.select(engine.containers.all(), query, engine.containers.resolve)
    now = engine.world.clock.now()
    entries: list[Json] = []
    for record in chosen:
        sizes = None
        if call.flag("size"):
            written, whole = await engine.containers.size(record.id)
            sizes = {"SizeRw": written, "SizeRootFs": whole}
        image = image_name(call, record)
        entries.append(listing.entry_body(record, now=now, image=image, sizes=sizes))
    return call.json(entries)


def image_name(call: Call, record: ContainerRecord) -> str:
    """Return the name the container was made with, or the image's ID when the name means another one now, or none."""
    try:
        current = call.engine.images.find(record.spec.image)
    except StackctlError:
        current = None
    is_same = current is not None and current.id == record.image_id
    return record.spec.image if is_same else record.image_id


def _ancestors(call: Call, names: tuple[str, ...]) -> frozenset[str]:
    """Return the IDs of the named images and of all that were made from them."""
    images = call.engine.images
    found: set[str] = set()
    for name in names:
        try:
            found.add(images.resolve(name).id)
        except (NotFoundError, InvalidInputError):
            continue
    if found:
        pending = True
        while pending:
            pending = False
            for image in images.all():
                if image.parent in found and image.id not in found:
                    found.add(image.id)
                    pending = True
    return frozenset(found)


async def inspect(call: Call) -> web.StreamResponse:
    engine, host = call.engine, call.engine.world.host
    record = engine.containers.resolve(call.args["id"])
    written = whole = None
    if call.flag("size"):
        written, whole = await engine.containers.size(record.id)
    around = bodies.Surroundings(
        directory=str(host.data_root / "containers" / record.id),
        sandbox=str(engine.world.network.sandbox_path(record.id)),
        exec_ids=engine.execs.ids(record.id),
        size_rw=written,
        size_root_fs=whole,
        volumes=engine.containers.config_of(record).volumes,
        graph={"ID": record.id, **engine.world.layers.places(record.layers, record.id)},
    )
    return call.json(bodies.inspect_body(record, around))


async def rename(call: Call) -> web.StreamResponse:
    name = call.text("name")
    if not name:
        raise InvalidInputError("Neither old nor new names may be empty")
    try:
        plain = create_bodies.check_name(f"/{name.removeprefix('/')}")
        await call.engine.containers.rename(call.args["id"], plain)
    except (ConflictError, InvalidInputError) as error:
        if not error.message.startswith(("Conflict. ", "Invalid container name")):
            raise
        words = f"Error when allocating new name: {error.message}"
        raise type(error)(words, hint=error.hint) from error
    return call.empty()


async def update(call: Call) -> web.StreamResponse:
    containers = call.engine.containers
    body = await call.body()
    spec = containers.resolve(call.args["id"]).spec
    asked = limits.read(body)
    host = call.engine.world.host
    wanted = limits.changed(spec, asked)
    limits.check(wanted, cpus=host.cpus)
    limits.check_sets(wanted, cpu_list=host.cpu_list, memory_nodes=host.memory_nodes)
    policy = None
    if body.child("RestartPolicy").text("Name"):
        policy = create_bodies.read_restart_policy(body.child("RestartPolicy"))
    if policy is not None and spec.auto_remove and policy.name != "no":
        raise InvalidInputError(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    warnings = await containers.update(call.args["id"], limits.update_of(asked, policy))
    return call.json({"Warnings": [*warnings] or None})


async def remove(call: Call) -> web.StreamResponse:
    await call.engine.containers.remove(
        call.args["id"], force=call.flag("force"), volumes=call.flag("v"), link=call.flag("link")
    )
    return call.empty()


async def prune(call: Call) -> web.StreamResponse:
    deleted, freed = await call.engine.containers.prune(
        call.prune_filter(call.filters(_PRUNE_KEYS))
    )
    return call.json({"ContainersDeleted": [*deleted] or None, "SpaceReclaimed": freed})


async def changes(call: Call) -> web.StreamResponse:
    found = await call.engine.containers.changes(call.args["id"])
    return call.json([{"Path": change.path, "Kind": change.kind} for change in found] or None)


async def export(call: Call) -> web.StreamResponse:
    record = call.engine.containers.resolve(call.args["id"])
    return await call.pour(BYTES_TYPE, call.engine.containers.export(record.id))


async def top(call: Call) -> web.StreamResponse:
    record = call.engine.containers.resolve(call.args["id"])
    titles, rows = await call.engine.running.top(record.id, call.text("ps_args") or "-ef")
    return call.json({"Titles": [*titles], "Processes": [[*row] for row in rows]})


async def statistics(call: Call) -> web.StreamResponse:
    record = call.engine.containers.resolve(call.args["id"])
    if not call.flag("stream", default=True):
        previous = None
        if not call.flag("one-shot") and record.status in (Status.RUNNING, Status.PAUSED):
            previous = await _sample(call, record.id)
            await asyncio.sleep(1.0)
        return call.json(_stats_body(call, record, await _sample(call, record.id), previous))
    response = await call.stream(JSON_TYPE)

    async def lines() -> AsyncIterator[bytes]:
        previous: stats.Sample | None = None
        while True:
            try:
                now = await _sample(call, record.id)
            except NotFoundError:
                return
            yield encode_object(_stats_body(call, record, now, previous))
            previous = now
            await asyncio.sleep(1.0)

    await until_gone(call, lines(), response.write)
    await response.write_eof()
    return response


async def _sample(call: Call, container_id: str) -> stats.Sample:
    engine = call.engine
    record = engine.containers.resolve(container_id)
    now = engine.world.clock.now()
    if record.status not in (Status.RUNNING, Status.PAUSED):
        return stats.Sample(read_at=now)
    try:
        usage = await engine.running.usage(container_id)
        networks = await engine.running.network_counters(container_id)
    except (ConflictError, NotFoundError):
        return stats.Sample(read_at=now)
    return stats.Sample(
        read_at=now,
        usage=usage,
        system_cpu=stats.parse_system_cpu(Path("/proc/stat").read_text(encoding="ascii")),
        cpus=engine.world.host.cpus,
        networks=networks,
    )


def _stats_body(
    call: Call, record: ContainerRecord, sample: stats.Sample, previous: stats.Sample | None
) -> Json:
    host = call.engine.world.host
    return stats.stats_body(
        record.id,
        record.name,
        sample,
        previous,
        host_memory=host.memory,
        v2=host.cgroup_version == "2",
    )


ROUTES = (
    ("POST", "/containers/create", create),
    ("GET", "/containers/json", list_),
    ("POST", "/containers/prune", prune),
    ("GET", "/containers/{id}/json", inspect),
    ("POST", "/containers/{id}/rename", rename),
    ("POST", "/containers/{id}/update", update),
    ("DELETE", "/containers/{id:*}", remove),
    ("GET", "/containers/{id}/changes", changes),
    ("GET", "/containers/{id}/export", export),
    ("GET", "/containers/{id}/top", top),
    ("GET", "/containers/{id}/stats", statistics),
)
