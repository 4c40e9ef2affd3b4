"""The keeper's loop: sockets that became ready and timers, in one thread."""

import heapq
import selectors
import socket
import sys
import time
from collections.abc import Callable

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Ready = Callable[[int], None]


class Loop:
    """Calls back with the events of each watched socket; a callback that fails does not stop the others."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._is_running = True

    def watch(self, sock: socket.socket, events: int, ready: Ready) -> None:
        """Call ``ready(events)`` when the socket is; replaces what was asked for it before. 0 stops."""
        known = sock.fileno() in self._selector.get_map()
        if not events:
            self.forget(sock)
        elif known:
            self._selector.modify(sock, events, ready)
        else:
            self._selector.register(sock, events, ready)

    def forget(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0 and sock.fileno() in self._selector.get_map():
            self._selector.unregister(sock)

    def close(self, sock: socket.socket) -> None:
        self.forget(sock)
        sock.close()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, call))

    def stop(self) -> None:
        self._is_running = False

    def run(self) -> None:
        while self._is_running:
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, events in self._selector.select(wait):
                ready: Ready = key.data
                # An earlier callback of this round may have closed the socket, or its number be another's by now.
                current = self._selector.get_map().get(key.fd)
                if current is not None and current.data is ready:
                    _guarded(lambda ready=ready, events=events: ready(events))  # type: ignore[misc]
            while self._timers and self._timers[0][0] <= time.monotonic():
                _guarded(heapq.heappop(self._timers)[2])


def _guarded(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - one client's failure must not end everybody's names
        place = error.__traceback__
        while place and place.tb_next:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else "?"
        sys.stderr.write(f"keeper: {type(error).__name__}: {error} at {where}\n")
        sys.stderr.flush()
