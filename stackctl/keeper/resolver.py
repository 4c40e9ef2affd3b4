"""The resolver: a UDP and a TCP socket in every container's namespace, answers, and forwarding from the host's."""

import socket
import struct
from collections.abc import Callable

from stackctl.host import namespaces
from stackctl.keeper import dns
from stackctl.keeper.loop import READ, WRITE, Loop
from stackctl.keeper.names import Names, Zone

ADDRESS = "127.0.0.11"
_UPSTREAM_PORT = 53
# Three servers within the five seconds after which the C libraries ask again.
_TIMEOUT = 1.5
_SERVERS = 3
_IDLE = 30.0
_MAX_PENDING = 2048
_MAX_CONNECTIONS = 64
Answer = Callable[[bytes], None]


class Served:
    """One zone with its sockets."""

    __slots__ = ("connections", "netns", "port", "tcp", "udp", "zone")

    def __init__(
        self, zone: Zone, netns: str, port: int, udp: socket.socket, tcp: socket.socket
    ) -> None:
        self.zone = zone
        self.netns = netns
        self.port = port
        self.udp = udp
        self.tcp = tcp
        self.connections: set[socket.socket] = set()


class Resolver:
    """Serves zones; the socket a query comes by says whose it is."""

    def __init__(self, loop: Loop, names: Names) -> None:
        self._loop = loop
        self._names = names
        self.served: dict[str, Served] = {}
        self._pending = 0

    def serve(self, zone: Zone, netns: str, port: int) -> None:
        """Answer at 127.0.0.11:PORT in the namespace; a zone that is served already is replaced in place.

        Raises OSError or HostError when the namespace or the port cannot be had.
        """
        known = self.served.get(zone.container_id)
        if known and known.netns == netns and known.port == port and _is_same(known, netns):
            known.zone = zone
            return
        self.unserve(zone.container_id)
        udp, tcp = namespaces.in_netns(netns, lambda: _open(port))
        served = Served(zone, netns, port, udp, tcp)
        self.served[zone.container_id] = served
        self._loop.watch(udp, READ, lambda _: self._datagrams(served))
        self._loop.watch(tcp, READ, lambda _: self._connection(served))

    def unserve(self, container_id: str) -> None:
        served = self.served.pop(container_id, None)
        if served:
            for sock in (served.udp, served.tcp, *served.connections):
                self._loop.close(sock)

    def _datagrams(self, served: Served) -> None:
        for _ in range(32):
            try:
                data, client = served.udp.recvfrom(4096)
            except BlockingIOError:
                return

            def send(answer: bytes, client: tuple[str, int] = client) -> None:
                if served.udp.fileno() >= 0:
                    try:
                        served.udp.sendto(answer, client)
                    except OSError:
                        return  # the client is gone

            self._answer(served.zone, data, send, is_tcp=False)

    def _connection(self, served: Served) -> None:
        try:
            sock, _ = served.tcp.accept()
        except OSError:
            return
        if len(served.connections) >= _MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        served.connections.add(sock)
        received = bytearray()

        def close() -> None:
            served.connections.discard(sock)
            self._loop.close(sock)

        def send(answer: bytes) -> None:
            if sock.fileno() >= 0:
                try:
                    # An answer fits the socket's buffer; a client that reads nothing loses the connection.
                    sock.sendall(struct.pack(">H", len(answer)) + answer)
                except OSError:
                    close()

        def ready(_: int) -> None:
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                close()
                return
            received.extend(data)
            while len(received) >= 2 and len(received) >= 2 + (
                size := received[0] << 8 | received[1]
            ):
                query = bytes(received[2 : 2 + size])
                del received[: 2 + size]
                self._answer(served.zone, query, send, is_tcp=True)

        self._loop.watch(sock, READ, ready)
        self._loop.after(_IDLE, close)

    def _answer(self, zone: Zone, query: bytes, send: Answer, *, is_tcp: bool) -> None:
        question = dns.parse_question(query)
        if question is None:
            return
        limit = 65535 if is_tcp else 0
        if question.rcode:
            send(dns.reply(question, question.rcode, []))
            return
        address = dns.reverse_address(question.name)
        if address and question.kind == dns.PTR:
            name = self._names.reverse(zone, address)
            if name:
                send(dns.reply(question, dns.NOERROR, [], names=[name], limit=limit))
                return
        addresses = self._names.lookup(zone, question.name)
        if addresses is not None and question.record_class == dns.IN:
            send(dns.reply(question, dns.NOERROR, addresses, limit=limit))
            return
        # A network without a way out has no servers: a name not known here does not exist.
        if not zone.upstream:
            send(dns.reply(question, dns.NXDOMAIN, []))
        elif self._pending >= _MAX_PENDING:
            send(dns.reply(question, dns.SERVFAIL, []))
        else:
            servers = zone.upstream[:_SERVERS]
            _Forward(self, self._loop, query, question, servers, send, is_tcp=is_tcp).next()

    def count(self, change: int) -> None:
        self._pending += change


class _Forward:
    """One query on its way to the host's servers, one after another."""

    def __init__(
        self, resolver: Resolver, loop: Loop, query: bytes, question: dns.Question,
        servers: list[str], send: Answer, *, is_tcp: bool,
    ) -> None:  # fmt: skip
        self._loop = loop
        self._resolver = resolver
        self._query = query
        self._question = question
        self._servers = list(servers)
        self._send = send
        self._is_tcp = is_tcp
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._attempt = 0
        resolver.count(1)

    def next(self) -> None:
        """Ask the next server; without one the answer is that nobody answered."""
        self._close()
        self._attempt += 1
        if not self._servers:
            self._finish(dns.reply(self._question, dns.SERVFAIL, []))
            return
        server = self._servers.pop(0)
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        kind = socket.SOCK_STREAM if self._is_tcp else socket.SOCK_DGRAM
        try:
            sock = self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            try:
                sock.connect((server, _UPSTREAM_PORT))
            except BlockingIOError:
                pass
            if not self._is_tcp:
                sock.send(self._query)
        except OSError:
            self.next()
            return
        self._received.clear()
        self._loop.watch(sock, WRITE if self._is_tcp else READ, self._ready)
        attempt = self._attempt
        self._loop.after(_TIMEOUT, lambda: self._expire(attempt))

    def _expire(self, attempt: int) -> None:
        if self._socket is not None and attempt == self._attempt:
            self.next()

    def _ready(self, events: int) -> None:
        sock = self._socket
        if sock is None:
            return
        try:
            if events & WRITE:
                sock.sendall(struct.pack(">H", len(self._query)) + self._query)
                self._loop.watch(sock, READ, self._ready)
                return
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self.next()
            return
        if self._is_tcp:
            self._stream(data)
        elif len(data) >= 12 and data[:2] == self._query[:2]:
            self._finish(data)

    def _stream(self, data: bytes) -> None:
        if not data:
            self.next()
            return
        self._received.extend(data)
        size = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + size > 2:
            self._finish(bytes(self._received[2 : 2 + size]))

    def _finish(self, answer: bytes) -> None:
        self._close()
        self._resolver.count(-1)
        self._send(answer)

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.close(self._socket)
            self._socket = None


def _open(port: int) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.bind((ADDRESS, port))
        tcp.bind((ADDRESS, port))
        tcp.listen(16)
    except OSError:
        udp.close()
        tcp.close()
        raise
    return udp, tcp


def _is_same(served: Served, netns: str) -> bool:
    """Tell whether the sockets are in the namespace that is kept there now (it may have been made anew)."""
    return namespaces.is_netns(netns) and namespaces.netns_of_socket(served.udp.fileno()) in (
        0, namespaces.netns_inode(netns),
    )  # fmt: skip
