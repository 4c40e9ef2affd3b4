"""Passing bytes on between a client and a container: TCP connections and UDP flows."""

import socket
from collections.abc import Callable

from stackctl.keeper.loop import READ, WRITE, Loop

_CHUNK = 65536
_FLOW_IDLE = 90.0
_MAX_FLOWS = 512


class _End:
    """One side of a connection: what still has to be written to it, and whether it has ended."""

    __slots__ = ("buffer", "has_ended", "is_shut", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.has_ended = False
        self.is_shut = False


def relay(loop: Loop, client: socket.socket, target: tuple[str, int]) -> None:
    """Connect to the target and pass bytes both ways until both sides have ended; half-closes pass too."""
    client.setblocking(False)
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        server.connect(target)
    except BlockingIOError:
        pass
    except OSError:
        client.close()
        server.close()
        return
    _Relay(loop, _End(client), _End(server)).start()


class _Relay:
    def __init__(self, loop: Loop, client: _End, server: _End) -> None:
        self._loop = loop
        self._ends = (client, server)
        self._is_connected = False

    def start(self) -> None:
        self._loop.watch(self._ends[1].sock, WRITE, lambda events: self._ready(1, events))

    def _ready(self, side: int, events: int) -> None:
        end, other = self._ends[side], self._ends[1 - side]
        try:
            if not self._is_connected:
                # Writable for the first time: connected, or refused.
                if end.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._close()
                    return
                self._is_connected = True
            if events & READ and not other.buffer:
                _read(end, other)
            if events & WRITE:
                _flush(end)
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        self._rearm()

    def _rearm(self) -> None:
        for side in (0, 1):
            end, other = self._ends[side], self._ends[1 - side]
            if other.has_ended and not end.buffer and not end.is_shut:
                end.is_shut = True
                try:
                    end.sock.shutdown(socket.SHUT_WR)
                except OSError:
                    self._close()
                    return
        if all(end.has_ended and not end.buffer for end in self._ends):
            self._close()
            return
        for side in (0, 1):
            end, other = self._ends[side], self._ends[1 - side]
            events = (WRITE if end.buffer else 0) | (
                READ if not end.has_ended and not other.buffer else 0
            )
            self._loop.watch(end.sock, events, lambda ready, side=side: self._ready(side, ready))  # type: ignore[misc]

    def _close(self) -> None:
        for end in self._ends:
            self._loop.close(end.sock)


def _read(end: _End, other: _End) -> None:
    data = end.sock.recv(_CHUNK)
    if not data:
        end.has_ended = True
        return
    other.buffer = data
    _flush(other)


def _flush(end: _End) -> None:
    if end.buffer:
        try:
            end.buffer = end.buffer[end.sock.send(end.buffer) :]
        except BlockingIOError:
            return


class Flows:
    """The UDP side of a reserved port: one connected socket a client, forgotten when idle."""

    def __init__(
        self, loop: Loop, listener: socket.socket, target: Callable[[int], tuple[str, int]]
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._target = target
        self._flows: dict[tuple[str, int], list[socket.socket | bool]] = {}
        loop.watch(listener, READ, self._ready)

    def forget(self) -> None:
        """Let every client begin anew: whom it reached is no longer the target."""
        for client in list(self._flows):
            self._end(client)

    def close(self) -> None:
        self.forget()

    def _ready(self, _: int) -> None:
        try:
            data, client = self._listener.recvfrom(_CHUNK)
        except OSError:
            return
        flow = self._flows.get(client)
        if flow is None:
            flow = self._begin(client)
            if flow is None:
                return
        flow[1] = True
        upstream = flow[0]
        assert isinstance(upstream, socket.socket)
        try:
            upstream.send(data)
        except OSError:
            return

    def _begin(self, client: tuple[str, int]) -> list[socket.socket | bool] | None:
        target = self._target(self._listener.family)
        if len(self._flows) >= _MAX_FLOWS or not target[0]:
            return None
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        upstream = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            upstream.connect(target)
        except OSError:
            upstream.close()
            return None

        def answer(_: int) -> None:
            try:
                self._listener.sendto(upstream.recv(_CHUNK), client)
            except OSError:
                return  # refused by the container, or the client is gone

        self._loop.watch(upstream, READ, answer)
        flow: list[socket.socket | bool] = [upstream, True]
        self._flows[client] = flow
        self._loop.after(_FLOW_IDLE, lambda: self._expire(client, flow))
        return flow

    def _expire(self, client: tuple[str, int], flow: list[socket.socket | bool]) -> None:
        if self._flows.get(client) is not flow:
            return
        if flow[1]:
            flow[1] = False
            self._loop.after(_FLOW_IDLE, lambda: self._expire(client, flow))
        else:
            self._end(client)

    def _end(self, client: tuple[str, int]) -> None:
        flow = self._flows.pop(client, None)
        if flow and isinstance(flow[0], socket.socket):
            self._loop.close(flow[0])
