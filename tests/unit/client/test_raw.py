import json
import socket
import threading
from collections.abc import Iterator

import pytest

from stackctl.client.raw import Transport, lines_of
from stackctl.errors import ConflictError, NotFoundError, StackctlError, UnavailableError


class Server:
    """Answers each request on a connection with the next bytes given; an empty answer hangs up."""

    def __init__(self, *connections: list[bytes]) -> None:
        self._connections = iter(connections)
        self.requests: list[bytes] = []
        self.threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs, next(self._connections)))
        thread.start()
        self.threads.append(thread)
        return ours

    def _serve(self, link: socket.socket, answers: list[bytes]) -> None:
        with link:
            for answer in answers:
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = link.recv(65536)
                    if not piece:
                        return
                    data += piece
                head, _, body = data.partition(b"\r\n\r\n")
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"content-length:"):
                        while len(body) < int(line.split(b":")[1]):
                            body += link.recv(65536)
                    if line.lower() == b"transfer-encoding: chunked":
                        while not body.endswith(b"0\r\n\r\n"):
                            body += link.recv(65536)
                self.requests.append(head + b"\r\n\r\n" + body)
                if not answer:
                    return
                link.sendall(answer)


@pytest.fixture
def serve() -> Iterator:
    servers = []
    transports = []

    def make(*connections: list[bytes]) -> tuple[Server, Transport]:
        server = Server(*connections)
        transport = Transport(server.connect)
        servers.append(server)
        transports.append(transport)
        return server, transport

    yield make
    for transport in transports:
        kept = getattr(transport._local, "connection", None)
        if kept is not None:
            kept.close()
            kept.file.close()
    for server in servers:
        for thread in server.threads:
            thread.join(5)


def answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n"


def test_one_connection_serves_several_requests(serve) -> None:
    server, transport = serve([answer("200 OK", b"1"), CHUNKED, answer("200 OK", b"3")])
    assert [transport.request("GET", f"/{n}")[2] for n in range(3)] == [b"1", b"hello world", b"3"]
    assert [request.split(b" ")[1] for request in server.requests] == [b"/0", b"/1", b"/2"]


def test_a_connection_that_the_engine_closed_meanwhile_is_opened_again(serve) -> None:
    _, transport = serve([answer("200 OK", b"1")], [answer("200 OK", b"2")])
    assert transport.request("GET", "/")[2] == b"1"
    assert transport.request("GET", "/")[2] == b"2"


def test_an_engine_that_hangs_up_at_once_is_not_asked_for_ever(serve) -> None:
    _, transport = serve([b""])
    with pytest.raises(UnavailableError, match="closed the connection"):
        transport.request("GET", "/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("404 Not Found", NotFoundError),
        ("409 Conflict", ConflictError),
        ("500 Oops", StackctlError),
    ],
)
def test_a_status_becomes_a_kind_with_the_engines_words(serve, status: str, kind: type) -> None:
    _, transport = serve([answer(status, json.dumps({"message": "no such thing"}).encode())])
    with pytest.raises(kind, match="no such thing"):
        transport.request("GET", "/")


def test_a_body_is_sent_as_json(serve) -> None:
    server, transport = serve([answer("201 Created", b"{}")])
    transport.request("POST", "/x", {"a": "é"})
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == {"a": "é"}
    assert b"Content-Type: application/json" in head


def test_a_stream_goes_up_in_chunks_and_comes_down_as_it_arrives(serve) -> None:
    server, transport = serve([CHUNKED])
    stream = transport.stream("POST", "/build", iter([b"abc", b"defg"]))
    assert b"".join(stream) == b"hello world"
    assert server.requests[0].endswith(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")


def test_an_answer_cut_off_in_the_middle_is_an_error(serve) -> None:
    _, transport = serve([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
    with pytest.raises(UnavailableError, match="in the middle of its answer"):
        transport.request("GET", "/")


def test_objects_are_found_however_the_bytes_are_cut() -> None:
    data = '{"a": "é"}\r\n{"b": 2}{"c": 3}\n'.encode()
    for size in (1, 3, 100):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        assert list(lines_of(pieces)) == [{"a": "é"}, {"b": 2}, {"c": 3}]
