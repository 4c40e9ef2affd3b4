"""/_stackctl/v1/leases: what is removed when its owner goes away.

``POST leases`` makes one: ``Owner`` {"Pid", "StartTime", "Space"} for a process, ``Connection`` true for one that
``POST leases/{id}/hold`` keeps open, ``Seconds`` to live, ``Labels``, and ``Claims``: what is created with all those
labels is listed by itself, whoever creates it. ``POST leases/{id}/items`` lists things that exist
(``Items`` of {"Kind", "Id", "Order"}); what is created with the header X-Stackctl-Lease (and X-Stackctl-Lease-Order) is
listed from its first moment on. ``DELETE`` forgets the lease and leaves the things.
"""

from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from stackctl.contracts.state import LeaseItem, LeaseRecord
from stackctl.daemon.call import JSON_TYPE, Call
from stackctl.daemon.handlers.system import EXTENSION
from stackctl.daemon.streams import until_gone
from stackctl.engine.requests import Claim, LeaseRequest
from stackctl.errors import InvalidInputError
from stackctl.values import Json, JsonObject

HEADER = "X-Stackctl-Lease"
ORDER_HEADER = "X-Stackctl-Lease-Order"
_LONGEST = 366 * 86400


def claim_of(call: Call, kind: str, labels: Mapping[str, str]) -> Claim:
    """Return who claims the thing that a request creates: the lease of its header, those of its labels, or nobody."""
    lease = call.request.headers.get(HEADER, "")
    if not lease:
        return call.engine.leases.claimed_by_label(kind, labels)
    order = call.request.headers.get(ORDER_HEADER, "0")
    if not order.removeprefix("-").isdecimal() or len(order) > 10:
        raise InvalidInputError(f"invalid {ORDER_HEADER}: {order[:40]!r} is not a number")
    return call.engine.leases.claimer(lease, kind, int(order))


async def create(call: Call) -> web.StreamResponse:
    body = await call.body()
    owner = body.child("Owner")
    seconds = body.raw("Seconds")
    if seconds is None:
        seconds = 0
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise body.fail("Seconds", "expected a number")
    if not 0 <= seconds <= _LONGEST:
        raise body.fail("Seconds", "expected 0 (no end) to a year")
    record = call.engine.leases.create(
        LeaseRequest(
            pid=owner.integer("Pid"),
            pid_start=owner.integer("StartTime"),
            space=owner.text("Space"),
            connection=body.boolean("Connection"),
            seconds=float(seconds),
            labels=body.text_map("Labels"),
            claims=body.text_map("Claims"),
        )
    )
    return call.json({"Id": record.id}, status=201)


async def list_(call: Call) -> web.StreamResponse:
    found: list[Json] = [_body(call, record) for record in call.engine.leases.all()]
    return call.json(found)


async def inspect(call: Call) -> web.StreamResponse:
    return call.json(_body(call, call.engine.leases.resolve(call.args["id"])))


def _body(call: Call, record: LeaseRecord) -> JsonObject:
    return {
        "Id": record.id,
        "Created": record.created,
        "Pid": record.pid,
        "Connection": record.connection,
        "Expires": record.expires,
        "Labels": dict(record.labels),
        "Claims": dict(record.claims),
        "Over": record.over,
        "Items": [
            {"Kind": item.kind, "Id": item.id, "Order": item.order}
            for item in call.engine.leases.items(record.id)
        ],
    }


async def add(call: Call) -> web.StreamResponse:
    body = await call.body()
    items = [
        LeaseItem(kind=entry.text("Kind"), id=entry.text("Id"), order=entry.integer("Order"))
        for entry in body.children("Items")
    ]
    call.engine.leases.add(call.args["id"], items)
    return call.empty()


async def release(call: Call) -> web.StreamResponse:
    call.engine.leases.release(call.args["id"])
    return call.empty()


async def hold(call: Call) -> web.StreamResponse:
    """Stay open; the lease is over soon after the client has closed the connection, unless it comes back."""
    leases = call.engine.leases
    async with leases.held(call.args["id"]):
        response = await call.stream(JSON_TYPE)
        stopping = call.serving.stopping

        async def silence() -> AsyncIterator[bytes]:
            yield b"{}\n"
            await stopping.wait()

        await until_gone(call, silence(), response.write)
    await response.write_eof()
    return response


ROUTES = (
    ("GET", f"{EXTENSION}/leases", list_),
    ("POST", f"{EXTENSION}/leases", create),
    ("GET", f"{EXTENSION}/leases/{{id}}", inspect),
    ("DELETE", f"{EXTENSION}/leases/{{id}}", release),
    ("POST", f"{EXTENSION}/leases/{{id}}/items", add),
    ("POST", f"{EXTENSION}/leases/{{id}}/hold", hold),
)
