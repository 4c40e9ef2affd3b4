"""/volumes: list, inspect, create, remove, prune."""

from aiohttp import web

from stackctl.daemon.bodies import volumes as bodies
from stackctl.daemon.call import Call
from stackctl.daemon.handlers.leases import claim_of
from stackctl.engine.requests import VolumeRequest
from stackctl.errors import InvalidInputError
from stackctl.values import Json

_PRUNE_KEYS = frozenset({"all", "label", "label!"})


async def list_(call: Call) -> web.StreamResponse:
    volumes = call.engine.volumes
    try:
        filters = call.filters(bodies.KEYS)
    except InvalidInputError as error:
        if error.message != "invalid filter":
            raise
        raise InvalidInputError(f"error reading volume filters: {error.message}") from error
    found: list[Json] = [
        bodies.volume_body(record)
        for record in volumes.all()
        if bodies.matches(record, filters, used=bool(volumes.users(record.name)))
    ]
    return call.json({"Volumes": found, "Warnings": None})


async def inspect(call: Call) -> web.StreamResponse:
    return call.json(bodies.volume_body(call.engine.volumes.resolve(call.args["name"])))


async def create(call: Call) -> web.StreamResponse:
    body = await call.body()
    record = await call.engine.volumes.create(
        VolumeRequest(
            name=body.text("Name"),
            driver=body.text("Driver") or "local",
            options=body.text_map("DriverOpts"),
            labels=body.text_map("Labels"),
        ),
        claim=claim_of(call, "volume", body.text_map("Labels")),
    )
    return call.json(bodies.volume_body(record), status=201)


async def remove(call: Call) -> web.StreamResponse:
    await call.engine.volumes.remove(call.args["name"], force=call.flag("force"))
    return call.empty()


async def prune(call: Call) -> web.StreamResponse:
    filters = call.filters(_PRUNE_KEYS)
    everything = bodies.read_all(filters.get("all", ()))
    wanted = call.prune_filter(filters)
    deleted, freed = await call.engine.volumes.prune(wanted, everything=everything)
    return call.json({"VolumesDeleted": [*deleted], "SpaceReclaimed": freed})


ROUTES = (
    ("GET", "/volumes", list_),
    ("POST", "/volumes/create", create),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", inspect),
    ("DELETE", "/volumes/{name}", remove),
)
