"""Reserved host ports: a socket held for each, so that nobody else takes it, and a proxy behind that socket.

The packet filter sends packets on before they reach these sockets. What it cannot translate (::1, IPv6 to a
container that has IPv4 only) arrives here and is proxied.
"""

import errno
import os
import socket
from collections.abc import Callable

from stackctl.errors import ConflictError, HostError
from stackctl.keeper.loop import READ, Loop
from stackctl.keeper.relay import Flows, relay

_ATTEMPTS = 32
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_EPHEMERAL = 32768
Request = tuple[
    int, str, str, int, int
]  # container port, protocol, host address, host port, its end
Place = tuple[str, int]


class Reservation:
    """One published port of a container: the places held for it and where connections to them go."""

    __slots__ = ("flows", "places", "request", "sockets", "target")

    def __init__(self, request: Request, places: list[Place], sockets: list[socket.socket]) -> None:
        self.request = request
        self.places = places
        self.sockets = sockets
        self.target = ("", "")
        self.flows: list[Flows] = []


class Ports:
    """All reservations, by container."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.held: dict[str, list[Reservation]] = {}

    def reserve(
        self,
        container_id: str,
        requests: list[Request],
        target: tuple[str, str],
        donor: str = "",
    ) -> list[tuple[Request, list[Place]]]:
        """Hold the ports, all or none; a request that is held already is answered as before.

        ``target`` are the container's IPv4 and IPv6 address ("" for none). What the ``donor``, another container,
        holds of them changes hands without a moment in which nobody listens. Raises ConflictError naming the
        address, with the holding container's ID as hint where it is one of ours; HostError for other refusals.
        """
        held = list(self.held.get(container_id, []))
        given = list(self.held.get(donor, [])) if donor != container_id else []
        made: list[Reservation] = []
        moved: list[tuple[Reservation, Request]] = []
        answer = []
        try:
            for request in requests:
                known = next((r for r in (*held, *made) if _covers(r, request)), None)
                if known is None and (known := _offered(given, request)) is not None:
                    given.remove(known)
                    moved.append((known, request))
                if known is None:
                    known = self._open(request)
                    made.append(known)
                place = (request[2], request[3])
                answer.append((request, [place] if place in known.places else known.places))
                if known in held:
                    known.target = target
        except BaseException:
            for reservation in made:
                self._close(reservation)
            raise
        for reservation in made:
            reservation.target = target
            self._serve(reservation)
        for reservation, request in moved:
            reservation.request, reservation.target = request, target
            for flows in reservation.flows:
                flows.forget()
        self._hold(donor, given if moved else self.held.get(donor, []))
        self._hold(container_id, [*held, *made, *(reservation for reservation, _ in moved)])
        return answer

    def _hold(self, container_id: str, reservations: list[Reservation]) -> None:
        if reservations:
            self.held[container_id] = reservations
        else:
            self.held.pop(container_id, None)

    def release(self, container_id: str) -> None:
        for reservation in self.held.pop(container_id, []):
            self._close(reservation)

    def _open(self, request: Request) -> Reservation:
        _, protocol, host_ip, first, end = request
        hosts = [host_ip] if host_ip else ["0.0.0.0", "::"]
        if first:
            candidates = range(first, max(first, end) + 1)
        else:
            candidates = range(_ATTEMPTS)
        failure: ConflictError | None = None
        for candidate in candidates:
            port = candidate if first else 0
            try:
                places, sockets = self._open_all(hosts, protocol, port)
            except ConflictError as error:
                failure = error
                continue
            return Reservation(request, places, sockets)
        raise failure or ConflictError(f"no free port for {host_ip or '0.0.0.0'}")

    def _open_all(
        self, hosts: list[str], protocol: str, port: int
    ) -> tuple[list[Place], list[socket.socket]]:
        if protocol == "sctp":
            return self._mark(hosts, port), []
        places: list[Place] = []
        sockets: list[socket.socket] = []
        try:
            for host in hosts:
                try:
                    sock = _bind(host, protocol, port)
                except OSError as error:
                    if places and error.errno in _NO_FAMILY:
                        continue  # a host without IPv6
                    raise self._refusal(host, protocol, port, error) from error
                sockets.append(sock)
                port = int(sock.getsockname()[1])
                places.append((host, port))
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return places, sockets

    def _mark(self, hosts: list[str], port: int) -> list[Place]:
        """Reserve an SCTP port among our own only: kernels without the protocol still forward it."""
        taken = {
            place[1]: container
            for container, held in self.held.items()
            for reservation in held
            if reservation.request[1] == "sctp"
            for place in reservation.places
        }
        if port in taken:
            raise _conflict(hosts[0], "sctp", port, taken[port])
        while not port or port in taken:
            port = _EPHEMERAL + int.from_bytes(os.urandom(2), "big") % 28000
        return [(host, port) for host in hosts]

    def _refusal(
        self, host: str, protocol: str, port: int, error: OSError
    ) -> ConflictError | HostError:
        if error.errno == errno.EADDRINUSE:
            return _conflict(host, protocol, port, self._holder(protocol, port))
        return HostError(
            f"cannot listen on {_shown(host, port)}/{protocol}: {error.strerror}",
            errno=error.errno or 0,
        )

    def _holder(self, protocol: str, port: int) -> str:
        for container, held in self.held.items():
            for reservation in held:
                taken = {place[1] for place in reservation.places}
                if reservation.request[1] == protocol and port in taken:
                    return container
        return ""

    def _serve(self, reservation: Reservation) -> None:
        def target(family: int) -> tuple[str, int]:
            ipv4, ipv6 = reservation.target
            wanted = ipv6 if family == socket.AF_INET6 and ipv6 else ipv4 or ipv6
            return wanted, reservation.request[0]

        for sock in reservation.sockets:
            if reservation.request[1] == "udp":
                flows = Flows(self._loop, sock, target)
                reservation.flows.append(flows)
            else:
                self._loop.watch(sock, READ, _acceptor(self._loop, sock, target))

    def _close(self, reservation: Reservation) -> None:
        for flows in reservation.flows:
            flows.close()
        for sock in reservation.sockets:
            self._loop.close(sock)


def _covers(held: Reservation, request: Request) -> bool:
    """Tell whether a request is held: the same one, or one of the places that it got."""
    return held.request == request or (
        held.request[:2] == request[:2] and (request[2], request[3]) in held.places
    )


def _offered(given: list[Reservation], request: Request) -> Reservation | None:
    """Return what another container holds of the request: the host port, or any for the same container port."""
    container_port, protocol, host_ip, first, end = request
    for held in given:
        if held.request[1] != protocol or held.request[2] != host_ip or not held.places:
            continue
        port = held.places[0][1]
        if first == port or (
            held.request[0] == container_port and (not first or first <= port <= end)
        ):
            return held
    return None


def _acceptor(
    loop: Loop, listener: socket.socket, target: Callable[[int], tuple[str, int]]
) -> Callable[[int], None]:
    def ready(_: int) -> None:
        try:
            client, _address = listener.accept()
        except OSError:
            return
        place = target(listener.family)
        if place[0]:
            relay(loop, client, place)
        else:
            client.close()  # an empty address would mean the host itself

    return ready


def _bind(host: str, protocol: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Only a listening socket keeps out others that set SO_REUSEADDR too, and without the option
            # connections in TIME_WAIT would keep ourselves out.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        if protocol == "tcp":
            sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def _conflict(host: str, protocol: str, port: int, holder: str) -> ConflictError:
    return ConflictError(
        f"failed to bind host port {_shown(host, port)}/{protocol}: address already in use",
        hint=holder,
    )


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
