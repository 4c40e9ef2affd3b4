"""The keeper's client: calls over its control socket, and everything told again when it had to be restarted.

The client remembers what the keeper should know; after a restart of the daemon it asks the keeper for that. So a
keeper that is killed comes back with all zones, names and ports within moments.
"""

import asyncio
import contextlib
import errno
import json
import logging
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stackctl.adapters.network.sandbox import RESOLVER_PORT
from stackctl.contracts.container import PortBinding, PublishedPort
from stackctl.contracts.network import Zone
from stackctl.errors import HostError, PortTakenError, UnavailableError
from stackctl.host import detached, listeners
from stackctl.values import Json, JsonObject

_VERSION = 2
_START_TIMEOUT = 10.0
_LINE_LIMIT = 64 << 20
_PROGRAM = Path(__file__).parents[2] / "keeper" / "__main__.py"
_log = logging.getLogger(__name__)


class PortKeeper(Protocol):
    """What the network driver asks of the keeper: host ports, held while a container runs."""

    async def reserve(
        self,
        container_id: str,
        ports: Sequence[PortBinding],
        ipv4_address: str,
        ipv6_address: str,
        *,
        donor: str = "",
    ) -> Sequence[PublishedPort]:
        """Hold them, all or none; what is held already is answered as before. Raises PortTakenError.

        What the ``donor``, another container, holds of them changes hands.
        """

    async def release(self, container_id: str) -> None:
        """Give them back."""

    def reserving(self) -> Sequence[str]:
        """Return the IDs of the containers that hold ports."""


class KeeperClient:
    """Implements contracts.network.Keeper and PortKeeper."""

    def __init__(self, socket_path: Path, log: Path) -> None:
        self._path = socket_path
        self._log_path = log
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: deque[asyncio.Future[JsonObject]] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._is_wanted = False
        self._zones: dict[str, JsonObject] = {}
        self._names: dict[tuple[str, str], JsonObject] = {}
        self._ports: dict[str, JsonObject] = {}

    async def start(self) -> bool:
        self._is_wanted = True
        return await self._ensure()

    async def close(self) -> None:
        """Leave the keeper alone; it goes on."""
        self._is_wanted = False
        if self._reading:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None
        await self._hang_up()

    async def stop(self) -> None:
        self._is_wanted = False
        if await self._connect():
            with contextlib.suppress(UnavailableError, ConnectionError):
                await self._exchange({"call": "stop"})
        await self.close()
        for known in (self._zones, self._names, self._ports):
            known.clear()

    async def serve(self, zone: Zone, netns: Path) -> None:
        call: JsonObject = {
            "call": "serve",
            "container": zone.container_id,
            "networks": list(zone.networks),
            "links": dict(zone.links),
            "upstream": list(zone.upstream),
            "search": list(zone.search),
            "netns": str(netns),
            "port": RESOLVER_PORT,
        }
        await self._call(call)
        self._zones[zone.container_id] = call

    async def unserve(self, container_id: str) -> None:
        self._zones.pop(container_id, None)
        await self._call({"call": "unserve", "container": container_id})

    async def add_names(
        self, network_id: str, container_id: str, addresses: Sequence[str], names: Sequence[str]
    ) -> None:
        call: JsonObject = {
            "call": "add_names",
            "network": network_id,
            "container": container_id,
            "addresses": list(addresses),
            "names": list(names),
        }
        self._names[network_id, container_id] = call
        await self._call(call)

    async def remove_names(self, network_id: str, container_id: str) -> None:
        self._names.pop((network_id, container_id), None)
        await self._call({"call": "remove_names", "network": network_id, "container": container_id})

    async def reset(self, keep: Sequence[str]) -> None:
        kept = set(keep)
        self._zones = {key: call for key, call in self._zones.items() if key in kept}
        self._names = {key: call for key, call in self._names.items() if key[1] in kept}
        self._ports = {key: call for key, call in self._ports.items() if key in kept}
        await self._call({"call": "reset", "keep": list(keep)})

    async def reserve(
        self,
        container_id: str,
        ports: Sequence[PortBinding],
        ipv4_address: str,
        ipv6_address: str,
        *,
        donor: str = "",
    ) -> Sequence[PublishedPort]:
        requests: list[list[Json]] = [
            [p.container_port, p.protocol, p.host_ip, p.host_port, p.host_port_end] for p in ports
        ]
        call: JsonObject = {
            "call": "reserve",
            "container": container_id,
            "target": [ipv4_address, ipv6_address],
            "ports": list(requests),
        }
        held = await self._call({**call, "donor": donor} if donor else call)
        published: list[PublishedPort] = []
        for entry in held if isinstance(held, list) else []:
            match entry:
                case [int(number), str(host), int(port)]:
                    binding = ports[number]
                    # Told again with the port that was chosen.
                    requests[number][3:] = [port, 0]
                    published.append(
                        PublishedPort(
                            container_port=binding.container_port,
                            protocol=binding.protocol,
                            host_ip=host,
                            host_port=port,
                        )
                    )
        former = self._ports.get(container_id, {}).get("ports")
        merged = list(former) if isinstance(former, list) else []
        merged += [request for request in requests if request not in merged]
        self._ports[container_id] = {**call, "ports": list(merged)}
        self._take_from(donor, requests)
        return published

    def _take_from(self, donor: str, requests: list[list[Json]]) -> None:
        """Forget that the donor holds what another container holds now."""
        known = self._ports.get(donor, {}).get("ports")
        if not isinstance(known, list):
            return
        taken = [request[1:4] for request in requests]
        left: list[Json] = [
            item for item in known if isinstance(item, list) and item[1:4] not in taken
        ]
        if left:
            self._ports[donor] = {**self._ports[donor], "ports": left}
        else:
            del self._ports[donor]

    async def release(self, container_id: str) -> None:
        self._ports.pop(container_id, None)
        await self._call({"call": "release", "container": container_id})

    def reserving(self) -> Sequence[str]:
        return list(self._ports)

    # The connection

    async def _call(self, call: JsonObject) -> Json:
        """Return the keeper's result; one restart of the keeper in between goes unnoticed."""
        await self._ensure()
        try:
            answer = await self._exchange(call)
        except ConnectionError:
            await self._ensure()
            try:
                answer = await self._exchange(call)
            except ConnectionError as error:
                raise UnavailableError(
                    "the keeper ends as soon as it is called", hint=f"see {self._log_path}"
                ) from error
        return await _result(answer)

    async def _exchange(self, call: JsonObject) -> JsonObject:
        writer = self._writer
        if writer is None:
            raise ConnectionResetError("the keeper is gone")
        answer: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        writer.write(json.dumps(call).encode() + b"\n")
        return await answer

    async def _ensure(self) -> bool:
        """Connect, starting the keeper when it is absent and telling it all; True when it was started."""
        async with self._opening:
            if self._writer is not None:
                return False
            fresh = False
            if not await self._connect():
                await asyncio.to_thread(
                    detached.start_detached,
                    [sys.executable, "-I", "-S", str(_PROGRAM), "--socket", str(self._path)],
                    log=str(self._log_path), timeout=_START_TIMEOUT,
                )  # fmt: skip
                if not await self._connect():
                    raise UnavailableError(
                        f"the keeper does not answer at {self._path}", hint=f"see {self._log_path}"
                    )
                fresh = True
            if fresh:
                await self._replay()
            elif not (self._zones or self._names or self._ports):
                await self._learn()
            return fresh

    async def _connect(self) -> bool:
        if self._writer is not None:
            return True
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._path), limit=_LINE_LIMIT)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                return False
            raise HostError(
                f"connecting to the keeper at {self._path}: {error.strerror}",
                errno=error.errno or 0,
            ) from error
        self._writer = writer
        self._reading = asyncio.get_running_loop().create_task(self._read(reader, writer))
        try:
            hello = (await self._exchange({"call": "hello"})).get("result")
            if isinstance(hello, dict) and hello.get("version") == _VERSION:
                return True
            # A keeper of another version: take what it knows, then a new one takes its place.
            await self._learn()
            await self._exchange({"call": "stop"})
        except ConnectionError:
            pass
        await self._hang_up()
        return False

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(json.loads(line))
        writer.close()
        if self._writer is not writer:
            return
        await self._hang_up()
        # Names must not stay away until somebody calls.
        if self._is_wanted:
            _log.warning("the keeper is gone; starting it again")
            try:
                await self._ensure()
            except (HostError, UnavailableError) as error:
                _log.error("the keeper cannot be started: %s", error.message)

    async def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer:
            writer.close()
        while self._waiting:
            answer = self._waiting.popleft()
            if not answer.done():
                answer.set_exception(ConnectionResetError("the keeper is gone"))

    async def _replay(self) -> None:
        for call in (*self._zones.values(), *self._names.values(), *self._ports.values()):
            answer = await self._exchange(call)
            if "error" in answer:
                # A namespace that is gone, a port that somebody took meanwhile: the others matter still.
                _log.warning("the restarted keeper refuses: %s", answer["error"])

    async def _learn(self) -> None:
        state = (await self._exchange({"call": "state"})).get("result")
        if not isinstance(state, dict):
            return
        for zone in _objects(state.get("zones")):
            self._zones[str(zone["container"])] = {"call": "serve", **zone}
        for entry in _objects(state.get("names")):
            key = (str(entry["network"]), str(entry["container"]))
            self._names[key] = {"call": "add_names", **entry}
        for entry in _objects(state.get("ports")):
            self._ports[str(entry["container"])] = {"call": "reserve", **entry}


def _objects(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


async def _result(answer: JsonObject) -> Json:
    if "error" not in answer:
        return answer.get("result")
    message = str(answer["error"])
    if answer.get("kind") == "conflict":
        holder = str(answer.get("holder", ""))
        if not holder:
            message += await _held_by_a_process(message)
        raise PortTakenError(message, holder=holder)
    number = answer.get("errno", 0)
    raise HostError(message, errno=number if isinstance(number, int) else 0)


async def _held_by_a_process(message: str) -> str:
    place, _, protocol = message.partition(": ")[0].rpartition("/")
    port = place.rpartition(":")[2]
    if not port.isdigit():
        return ""
    holder = await asyncio.to_thread(listeners.holder_of_port, protocol, int(port))
    return f" (held by {holder})" if holder else ""
