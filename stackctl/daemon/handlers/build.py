"""/build: a Dockerfile and its context in, progress out; the builder itself is imported when it is needed."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp import web

from stackctl.api.auth import CONFIG_HEADER, decode_config
from stackctl.api.codec import Reader, encode_object
from stackctl.daemon.bodies import progress
from stackctl.daemon.bodies.create import read_ulimits
from stackctl.daemon.call import JSON_TYPE, Call, credentials
from stackctl.daemon.errors import text_of
from stackctl.daemon.streams import Batcher
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.oci.platform import parse_platform
from stackctl.oci.reference import parse_reference
from stackctl.values import Json, JsonObject

if TYPE_CHECKING:
    from stackctl.builder.build import BuildOutput, BuildRequest

_PRUNE_KEYS = frozenset({"description", "id", "inuse", "parent", "private", "shared", "type", "unused-for", "until"})


async def build(call: Call) -> web.StreamResponse:
    from stackctl.builder.build import build as run  # noqa: PLC0415 - rare and heavy

    request = _request(call)
    source = run(request, call.engine)
    first = await anext(source, None)
    response = await call.stream(JSON_TYPE)
    batcher = Batcher(response.write)
    try:
        if first is not None:
            await batcher.write(encode_object(_line(first)))
        async for output in source:
            await batcher.write(encode_object(_line(output)))
    except StackctlError as error:
        await batcher.write(encode_object(progress.error_line(text_of(error))))
    await batcher.flush()
    await response.write_eof()
    return response
