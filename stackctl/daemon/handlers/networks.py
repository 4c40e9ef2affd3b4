"""/networks: list, inspect, create, connect, disconnect, remove, prune."""

import json
from collections.abc import Mapping

from aiohttp import web

from stackctl.api.codec import Reader
from stackctl.api.filters import FALSE, TRUE
from stackctl.daemon.bodies import networks as bodies
from stackctl.daemon.bodies.create import read_endpoint
from stackctl.daemon.call import Call
from stackctl.daemon.handlers.leases import claim_of
from stackctl.engine.requests import NetworkRequest
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.values import JsonObject

_PRUNE_KEYS = frozenset({"label", "label!", "until"})


async def list_(call: Call) -> web.StreamResponse:
    networks = call.engine.networks
    filters = call.filters(bodies.KEYS)
    found = []
    for record in networks.all():
        used = bool(networks.members(record.id)) if "dangling" in filters else False
        if bodies.matches(record, filters, used=used):
            found.append(bodies.network_body(record, None))
    return call.json(found)


async def inspect(call: Call) -> web.StreamResponse:
    networks = call.engine.networks
    scope = call.text("scope")
    verbose = call.text("verbose")
    if verbose and verbose not in (*TRUE, *FALSE):
        raise InvalidInputError(
            f"invalid value for verbose: {verbose[:80]}: strconv.ParseBool: parsing "
            f"{json.dumps(verbose[:80])}: invalid syntax"
        )
    if scope not in ("", "local"):
        raise NotFoundError(f"network {call.args['id']} not found")
    record = networks.resolve(call.args["id"])
    extra: JsonObject = {"Services": {}} if verbose in TRUE else {}
    return call.json(bodies.network_body(record, networks.members(record.id), extra=extra))


async def create(call: Call) -> web.StreamResponse:
    body = await call.body()
    request = _request(body)
    record, warning = await call.engine.networks.create(
        request, claim=claim_of(call, "network", request.labels)
    )
    return call.json({"Id": record.id, "Warning": warning}, status=201)


def _request(body: Reader) -> NetworkRequest:
    name = body.text("Name")
    if not name.strip():
        raise InvalidInputError("invalid name: name is empty")
    if "/" in name or not name.isprintable() or len(name) > 255:
        raise InvalidInputError(f"invalid Name: {name[:80]!r} cannot be a network's name")
    options = body.text_map("Options")
    ipam = body.child("IPAM")
    return NetworkRequest(
        name=name,
        driver=body.text("Driver") or "bridge",
        internal=body.boolean("Internal"),
        attachable=body.boolean("Attachable"),
        ingress=body.boolean("Ingress"),
        scope=body.text("Scope"),
        enable_ipv4=_enabled(body, "EnableIPv4", options, default=True),
        enable_ipv6=_enabled(body, "EnableIPv6", options, default=False),
        subnets=bodies.read_subnets(body),
        ipam_driver=ipam.text("Driver") or "default",
        ipam_options=None if ipam.raw("Options") is None else ipam.text_map("Options"),
        options=options,
        labels=body.text_map("Labels"),
        config_only=body.boolean("ConfigOnly"),
        config_from=body.child("ConfigFrom").text("Network"),
    )


def _enabled(body: Reader, name: str, options: Mapping[str, str], *, default: bool) -> bool:
    """Return whether a family of addresses is on: the field says it, or an option by the older way."""
    given = body.optional_boolean(name)
    text = options.get(f"com.docker.network.{'enable_ipv' + name[-1]}", "").lower()
    if given is None and text in ("true", "false"):
        return text == "true"
    return default if given is None else given


async def connect(call: Call) -> web.StreamResponse:
    body = await call.body()
    container = _container(body)
    request = read_endpoint(call.args["id"], body.child("EndpointConfig"))
    await call.engine.networks.connect(call.args["id"], container, request)
    return call.empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    body = await call.body()
    container = _container(body)
    await call.engine.networks.disconnect(call.args["id"], container, body.boolean("Force"))
    return call.empty(200)


def _container(body: Reader) -> str:
    name = body.text("Container")
    if not name:
        raise InvalidInputError('invalid name or ID supplied: ""')
    return name


async def remove(call: Call) -> web.StreamResponse:
    await call.engine.networks.remove(call.args["id"])
    return call.empty()


async def prune(call: Call) -> web.StreamResponse:
    names = await call.engine.networks.prune(call.prune_filter(call.filters(_PRUNE_KEYS)))
    return call.json({"NetworksDeleted": [*names] or None})


ROUTES = (
    ("GET", "/networks", list_),
    ("POST", "/networks/create", create),
    ("POST", "/networks/prune", prune),
    ("GET", "/networks/{id}", inspect),
    ("DELETE", "/networks/{id}", remove),
    ("POST", "/networks/{id}/connect", connect),
    ("POST", "/networks/{id}/disconnect", disconnect),
)
