"""/_stackctl/v1/containers/{id}: start-aside, relieve, drain: one container takes the place of another.

``start-aside`` starts it without its published ports and aliases. ``relieve`` (body {"From": container}) gives it both,
taking the ports from the other one in one step. ``drain`` (query t: seconds, 10 where not given) answers
{"Open": number} when nobody is connected any more, or when the time is over.
"""

from aiohttp import web

from stackctl.daemon.call import Call
from stackctl.daemon.handlers.system import EXTENSION
from stackctl.engine import relief

_DRAIN = 10


async def start_aside(call: Call) -> web.StreamResponse:
    await call.engine.running.start(call.args["id"], aside=True)
    return call.empty()


async def relieve(call: Call) -> web.StreamResponse:
    body = await call.body()
    await relief.relieve(call.engine, call.args["id"], body.text("From"))
    return call.empty()


async def drain(call: Call) -> web.StreamResponse:
    seconds = call.integer("t")
    found = await relief.drain(call.engine, call.args["id"], _DRAIN if seconds is None else seconds)
    return call.json({"Open": found})


ROUTES = (
    ("POST", f"{EXTENSION}/containers/{{id}}/start-aside", start_aside),
    ("POST", f"{EXTENSION}/containers/{{id}}/relieve", relieve),
    ("POST", f"{EXTENSION}/containers/{{id}}/drain", drain),
)
