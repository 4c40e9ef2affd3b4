"""The control socket: JSON lines, one request and one answer each (the other side: adapters.network.keeper).

A request is {"call": NAME, …}; the answer {"result": …} or {"error": text, "kind": "conflict" or "host", "errno": n,
"holder": container ID}. Clients come and go; nothing is forgotten when one goes.
"""

import json
import os
import socket
from collections.abc import Callable

from stackctl.errors import ConflictError, HostError
from stackctl.keeper.loop import READ, WRITE, Loop
from stackctl.keeper.names import Names, Zone
from stackctl.keeper.ports import Ports, Request
from stackctl.keeper.resolver import Resolver

# Raised when the meaning of a call changes; a client of another version replaces the keeper.
VERSION = 2
Call = dict[str, object]


class Control:
    """Takes calls and applies them to the names, the resolver and the ports."""

    def __init__(self, loop: Loop, listener: socket.socket) -> None:
        self._loop = loop
        self._listener = listener
        self._names = Names()
        self._resolver = Resolver(loop, self._names)
        self._ports = Ports(loop)
        self._calls: dict[str, Callable[[Call], object]] = {
            "hello": self._hello,
            "state": self._state,
            "serve": self._serve,
            "unserve": self._unserve,
            "add_names": self._add_names,
            "remove_names": self._remove_names,
            "reserve": self._reserve,
            "release": self._release,
            "reset": self._reset,
            "stop": self._stop,
        }
        loop.watch(listener, READ, self._accept)

    def _accept(self, _: int) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        received = bytearray()
        unsent = bytearray()

        def ready(events: int) -> None:
            try:
                if events & READ:
                    data = client.recv(1 << 18)
                    if not data:
                        self._loop.close(client)
                        return
                    received.extend(data)
                while (end := received.find(b"\n")) >= 0:
                    line = bytes(received[:end])
                    del received[: end + 1]
                    unsent.extend(self._answer(line) + b"\n")
                if unsent:
                    del unsent[: client.send(unsent)]
            except BlockingIOError:
                pass
            except OSError:
                self._loop.close(client)
                return
            self._loop.watch(client, READ | (WRITE if unsent else 0), ready)

        self._loop.watch(client, READ, ready)

    def _answer(self, line: bytes) -> bytes:
        answer: Call
        try:
            call = json.loads(line)
            answer = {"result": self._calls[call["call"]](call)}
        except ConflictError as error:
            answer = {"error": error.message, "kind": "conflict", "holder": error.hint}
        except HostError as error:
            answer = {"error": error.message, "kind": "host", "errno": error.errno}
        except OSError as error:
            answer = {"error": str(error), "kind": "host", "errno": error.errno or 0}
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            answer = {"error": f"not a call: {type(error).__name__}: {error}", "kind": "input"}
        return json.dumps(answer).encode()

    def _hello(self, _: Call) -> object:
        return {"version": VERSION, "pid": os.getpid()}

    def _state(self, _: Call) -> object:
        return {
            "zones": [
                {
                    "container": served.zone.container_id,
                    "networks": list(served.zone.networks),
                    "links": dict(served.zone.links),
                    "upstream": list(served.zone.upstream),
                    "search": list(served.zone.search),
                    "netns": served.netns,
                    "port": served.port,
                }
                for served in self._resolver.served.values()
            ],
            "names": [
                {"network": network, "container": container, "addresses": addresses, "names": names}
                for network, members in self._names.networks.items()
                for container, (addresses, names) in members.items()
            ],
            "ports": [
                {
                    "container": container,
                    "target": list(held[0].target),
                    # Held with the port that was chosen, so that a replay asks for the same.
                    "ports": [
                        [*r.request[:3], r.places[0][1], 0] for r in held if r.places
                    ],
                }
                for container, held in self._ports.held.items()
            ],
        }  # fmt: skip

    def _serve(self, call: Call) -> object:
        links = call.get("links")
        zone = Zone(
            _text(call, "container"), _texts(call, "networks"),
            {str(k): str(v) for k, v in links.items()} if isinstance(links, dict) else {},
            _texts(call, "upstream"), _texts(call, "search"),
        )  # fmt: skip
        self._resolver.serve(zone, _text(call, "netns"), _number(call["port"]))
        return True

    def _unserve(self, call: Call) -> object:
        self._resolver.unserve(_text(call, "container"))
        return True

    def _add_names(self, call: Call) -> object:
        self._names.add(
            _text(call, "network"), _text(call, "container"),
            _texts(call, "addresses"), _texts(call, "names"),
        )  # fmt: skip
        return True

    def _remove_names(self, call: Call) -> object:
        self._names.remove(_text(call, "network"), _text(call, "container"))
        return True

    def _reserve(self, call: Call) -> object:
        target = _texts(call, "target")
        ports = call["ports"]
        if not isinstance(ports, list):
            raise TypeError("ports")
        requests = [_request(item) for item in ports]
        donor = str(call.get("donor", ""))
        held = self._ports.reserve(
            _text(call, "container"), requests, (target[0], target[1]), donor
        )
        return [
            [number, host, port] for number, (_, places) in enumerate(held) for host, port in places
        ]

    def _release(self, call: Call) -> object:
        self._ports.release(_text(call, "container"))
        return True

    def _reset(self, call: Call) -> object:
        keep = set(_texts(call, "keep"))
        for container in [c for c in self._resolver.served if c not in keep]:
            self._resolver.unserve(container)
        for container in [c for c in self._ports.held if c not in keep]:
            self._ports.release(container)
        self._names.keep(keep)
        return True

    def _stop(self, _: Call) -> object:
        self._loop.stop()
        return True


def _text(call: Call, key: str) -> str:
    value = call[key]
    if not isinstance(value, str):
        raise TypeError(key)
    return value


def _texts(call: Call, key: str) -> list[str]:
    value = call.get(key, [])
    if not isinstance(value, list):
        raise TypeError(key)
    return [str(item) for item in value]


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= 65535:
        raise ValueError(f"{value!r} is not a port")
    return value


def _request(item: object) -> Request:
    if not isinstance(item, list) or len(item) != 5 or item[1] not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{item!r} is not a port to publish")
    return (
        _number(item[0]), str(item[1]), str(item[2]), _number(item[3]), _number(item[4])
    )  # fmt: skip
