"""/containers/{id}: start, stop, restart, kill, pause, unpause, resize, wait."""

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from stackctl.api.codec import encode_object
from stackctl.contracts.runtime import Exit
from stackctl.daemon.call import JSON_TYPE, Call
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import Connection
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.values import JsonObject

_CONDITIONS = ("not-running", "next-exit", "removed")


async def start(call: Call) -> web.StreamResponse:
    body = await call.body()
    if any(body.names()):
        raise InvalidInputError(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    await call.engine.running.start(call.args["id"])
    return call.empty()


async def stop(call: Call) -> web.StreamResponse:
    await call.engine.running.stop(
        call.args["id"], timeout=call.integer("t"), signal=call.text("signal")
    )
    return call.empty()


async def restart(call: Call) -> web.StreamResponse:
    await call.engine.running.restart(
        call.args["id"], timeout=call.integer("t"), signal=call.text("signal")
    )
    return call.empty()


async def kill(call: Call) -> web.StreamResponse:
    await call.engine.running.kill(call.args["id"], call.text("signal") or "KILL")
    return call.empty()


async def pause(call: Call) -> web.StreamResponse:
    await call.engine.running.pause(call.args["id"])
    return call.empty()


async def unpause(call: Call) -> web.StreamResponse:
    await call.engine.running.unpause(call.args["id"])
    return call.empty()


def terminal_size(call: Call) -> tuple[int, int]:
    """Return height and width of a resize; raises InvalidInputError."""
    sizes = []
    for name in ("h", "w"):
        value = call.integer(name)
        if value is None or not 0 <= value < 65536:
            raise InvalidInputError(
                f"invalid {name}: a terminal's size is a number from 0 to 65535"
            )
        sizes.append(value)
    return sizes[0], sizes[1]


async def resize(call: Call) -> web.StreamResponse:
    height, width = terminal_size(call)
    await call.engine.running.resize(call.args["id"], height, width)
    return call.empty(200)


async def wait(call: Call) -> web.StreamResponse:
    """Answer when the container ends; the headers go out at once, since clients start it only after them."""
    condition = call.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidInputError(f'invalid condition: "{condition[:80]}"')
    record = call.engine.containers.resolve(call.args["id"])
    waiter = call.engine.running.watch(record.id, condition)
    leaving: asyncio.Task[None] | None = None
    try:
        response = await call.stream(JSON_TYPE)
        transport = call.request.transport
        if transport is None:
            return response
        sock = transport.get_extra_info("socket").dup()
        try:
            leaving = asyncio.create_task(Connection(sock, b"").gone())
            pending: set[asyncio.Future[Any]] = {waiter, leaving}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if leaving is not None:
                leaving.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await leaving
            sock.close()
        if waiter.done():
            await response.write(encode_object(_outcome(call, record.id, waiter)))
        await response.write_eof()
        return response
    finally:
        waiter.cancel()


def _outcome(call: Call, container_id: str, waiter: "asyncio.Future[Exit]") -> JsonObject:
    error = waiter.exception()
    if error is None:
        body: JsonObject = {"StatusCode": waiter.result().code}
        record = next((one for one in call.engine.containers.all() if one.id == container_id), None)
        if record is not None and record.error:
            body["Error"] = {"Message": record.error}
        return body
    text = text_of(error) if isinstance(error, StackctlError) else str(error)
    return {"StatusCode": -1, "Error": {"Message": text}}


ROUTES = (
    ("POST", "/containers/{id}/start", start),
    ("POST", "/containers/{id}/stop", stop),
    ("POST", "/containers/{id}/restart", restart),
    ("POST", "/containers/{id}/kill", kill),
    ("POST", "/containers/{id}/pause", pause),
    ("POST", "/containers/{id}/unpause", unpause),
    ("POST", "/containers/{id}/resize", resize),
    ("POST", "/containers/{id}/wait", wait),
)
