"""Batches of file changes, as the built-in engine takes them beside the Docker Engine API."""

import json
from collections.abc import Iterator

from stackctl.client.raw import Transport
from stackctl.errors import UnavailableError
from stackctl.values import JsonObject

_EXTENSION = "/_stackctl/v1"


def send(transport: Transport, container: str, batch: Iterator[bytes]) -> JsonObject:
    """Stream a batch to a container and return what was done; ``container`` is quoted already."""
    target = f"{_EXTENSION}/containers/{container}/sync"
    headers = {"Content-Type": "application/vnd.stackctl.sync"}
    answer = json.loads(b"".join(transport.stream("POST", target, batch, headers)) or b"null")
    if not isinstance(answer, dict):
        raise UnavailableError("the engine's answer to a batch of files is no JSON object")
    return answer
