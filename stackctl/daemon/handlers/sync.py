"""/_stackctl/v1/containers/{id}/sync: a batch of file changes, written and deleted in one stream.

The body's form is that of ``adapters.storage.treesync``. The answer is 200 with what was done, also where some of the
paths could not be written: those are listed. 409 means that the container is just starting or ending.
"""

from aiohttp import web

from stackctl.daemon.call import Call
from stackctl.daemon.handlers.system import EXTENSION
from stackctl.engine.sync import sync_files


async def sync(call: Call) -> web.StreamResponse:
    result = await sync_files(call.engine, call.args["id"], call.chunks())
    return call.json(
        {
            "Written": result.written,
            "Deleted": result.deleted,
            "Bytes": result.size,
            "Failures": [{"Path": path, "Message": why} for path, why in result.failures],
        }
    )


ROUTES = (("POST", f"{EXTENSION}/containers/{{id}}/sync", sync),)
