"""Leases, as the built-in engine keeps them beside the Docker Engine API: what goes when its owner goes.

A ``Lease`` is handed to the calls that create things; they are listed under it from their first moment on.
"""

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from stackctl.client.raw import Stream, Transport
from stackctl.errors import ConflictError, NotFoundError, StackctlError, UnavailableError
from stackctl.host import procstat
from stackctl.values import Json, JsonObject

FEATURE = "leases"
_PATH = "/_stackctl/v1/leases"
_AGAIN_SECONDS = 0.2


def headers(lease: str, order: int) -> dict[str, str]:
    """Return the headers that put what a request creates under a lease; none without one."""
    return {"X-Stackctl-Lease": lease, "X-Stackctl-Lease-Order": str(order)} if lease else {}


def create(
    transport: Transport,
    *,
    pid: int,
    connection: bool,
    seconds: float,
    labels: Mapping[str, str],
    claims: Mapping[str, str],
) -> str:
    """Make a lease and return its ID; raises NotFoundError for a process that is not there."""
    body: JsonObject = {
        "Connection": connection,
        "Seconds": seconds,
        "Labels": dict(labels),
        "Claims": dict(claims),
    }
    if pid:
        started = procstat.start_time(pid)
        if not started:
            raise NotFoundError(f"there is no process {pid} that could own a lease")
        body["Owner"] = {"Pid": pid, "StartTime": started, "Space": procstat.pid_space()}
    answer = json.loads(transport.request("POST", _PATH, body)[2])
    identity = answer.get("Id") if isinstance(answer, dict) else None
    if not isinstance(identity, str):
        raise UnavailableError("the engine's answer has no Id")
    return identity


def every(transport: Transport) -> list[JsonObject]:
    """Return the engine's leases."""
    found = json.loads(transport.request("GET", _PATH)[2])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def add(transport: Transport, lease: str, items: Sequence[tuple[str, str, int]]) -> None:
    """List things that exist: (kind, ID, order)."""
    body: list[Json] = [{"Kind": kind, "Id": key, "Order": order} for kind, key, order in items]
    transport.request("POST", f"{_PATH}/{lease}/items", {"Items": body})


def release(transport: Transport, lease: str) -> None:
    """Forget a lease and leave what it lists; success when it is gone or over."""
    with contextlib.suppress(NotFoundError, ConflictError):
        transport.request("DELETE", f"{_PATH}/{lease}")


@contextlib.contextmanager
def held(transport: Transport, lease: str) -> Iterator[None]:
    """Hold a connection's lease, again when the engine was replaced in between; raises when it cannot be held."""
    holder = _Holder(lambda: transport.stream("POST", f"{_PATH}/{lease}/hold"))
    holder.begin()
    try:
        yield
    finally:
        holder.end()


class _Holder:
    """A thread that reads from the connection that holds a lease: nothing comes until it breaks."""

    def __init__(self, connect: Callable[[], Stream]) -> None:
        self._connect = connect
        self._stream: Stream | None = None
        self._ending = threading.Event()

    def begin(self) -> None:
        self._stream = self._connect()
        threading.Thread(target=self._hold, name=f"lease of {os.getpid()}", daemon=True).start()

    def end(self) -> None:
        self._ending.set()
        if self._stream is not None:
            self._stream.close()

    def _hold(self) -> None:
        while not self._ending.is_set():
            try:
                for _ in self._stream or ():
                    pass
            except (OSError, ValueError, StackctlError):
                pass
            self._ending.wait(_AGAIN_SECONDS)
            while not self._ending.is_set():
                try:
                    self._stream = self._connect()
                    break
                except (NotFoundError, ConflictError):
                    return  # it is over
                except (OSError, StackctlError):
                    self._ending.wait(_AGAIN_SECONDS)
        if self._stream is not None:
            self._stream.close()
