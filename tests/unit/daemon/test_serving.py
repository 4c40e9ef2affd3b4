"""Requests on a real socket, answered by the application: routes, errors, upgraded connections."""

import asyncio
import contextlib
import json
import logging
import time
from types import SimpleNamespace

import pytest
from aiohttp import web

from stackctl.api.framing import Decoder
from stackctl.daemon.app import Application, Router
from stackctl.daemon.call import Serving
from stackctl.daemon.handlers import swarm, system
from stackctl.daemon.settings import Settings
from stackctl.daemon.streams import finish, hijack, join, until_gone
from stackctl.engine.events import Events
from stackctl.errors import ConflictError, NotModifiedError, StartError
from stackctl.paths import engine_paths


class Echo:
    """Streams of a process that says back on stdout what it is told, and "bye" on stderr at the end of input."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.closed = False

    async def output(self):
        while (item := await self.queue.get()) is not None:
            yield item

    async def write(self, data):
        self.queue.put_nowait((1, data))

    async def close_input(self):
        self.queue.put_nowait((2, b"bye"))
        self.queue.put_nowait(None)

    async def close(self):
        self.closed = True


@contextlib.asynccontextmanager
async def served(tmp_path, *routes, events=None):
    world = SimpleNamespace(clock=SimpleNamespace(now=time.time))
    engine = SimpleNamespace(world=world, events=events)
    settings = Settings(paths=engine_paths({"STACKCTL_SOCKET": str(tmp_path / "s")}, uid=0))
    serving = Serving(engine=engine, settings=settings, stopping=asyncio.Event(), started_at=0.0)
    router = Router((*routes, *system.ROUTES, *swarm.ROUTES))
    server = web.Server(Application(router, serving), access_log=None, auto_decompress=False)
    loop = asyncio.get_running_loop()
    path = str(tmp_path / "s")
    listening = await loop.create_unix_server(server, path)
    try:
        yield path
    finally:
        listening.close()
        await server.shutdown(0.1)


async def ask(path, text, *, body=b""):
    reader, writer = await asyncio.open_unix_connection(path)
    head = f"{text} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    raw = await reader.read()
    writer.close()
    head, _, rest = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, rest


async def test_ping_announces_the_newest_version(tmp_path):
    async with served(tmp_path) as path:
        status, headers, body = await ask(path, "GET /_ping")
        assert (status, body) == (200, b"OK")
        assert headers["Api-Version"] == "1.51"
        assert (headers["Ostype"], headers["Swarm"]) == ("linux", "inactive")
        status, headers, body = await ask(path, "HEAD /v1.30/_ping")
        assert (status, body, headers["Api-Version"]) == (200, b"", "1.51")
        assert headers["Content-Length"] == "0"


@pytest.mark.parametrize(
    ("request_line", "status", "words"),
    [
        ("GET /bogus", 404, "page not found"),
        ("DELETE /version", 404, "page not found"),
        ("GET /v1.99/version", 400, "too new"),
        ("GET /v1.10/version", 400, "too old"),
        ("GET /v1.41/services", 503, "not a swarm manager"),
        ("POST /swarm/leave", 503, "not part of a swarm"),
        ("POST /swarm/init", 501, "swarm mode"),
        ("GET /nodes/x", 503, "not a swarm manager"),
        ("GET /containers/x/checkpoints", 501, "heckpoint"),
        ("GET /containers//json", 404, "page not found"),
    ],
)
async def test_what_is_not_served_is_refused_in_json(tmp_path, request_line, status, words):
    async with served(tmp_path) as path:
        got, headers, body = await ask(path, request_line)
        assert got == status
        assert headers["Content-Type"] == "application/json"
        assert words in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConflictError("in use", hint="stop it"), 409, "in use (stop it)"),
        (StartError("no such file", exit_code=127), 400, "no such file"),
        (StartError("odd", exit_code=128), 500, "odd"),
        (RuntimeError("secret detail"), 500, "internal error"),
        (NotModifiedError("already"), 304, None),
    ],
)
async def test_every_error_has_its_status(tmp_path, caplog, error, status, message):
    async def failing(call):
        raise error

    caplog.set_level(logging.CRITICAL)
    async with served(tmp_path, ("GET", "/fail/{id}", failing)) as path:
        got, _, body = await ask(path, "GET /fail/x")
    assert got == status
    assert message is None or message in json.loads(body)["message"]
    assert b"secret" not in body
    assert status != 304 or body == b""


async def test_an_unexpected_error_is_logged_with_its_traceback(tmp_path, caplog):
    async def failing(call):
        raise ZeroDivisionError

    async with served(tmp_path, ("GET", "/fail", failing)) as path:
        await ask(path, "GET /fail")
    assert "GET /fail failed unexpectedly" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_broken_body_is_refused_by_name(tmp_path):
    async def reading(call):
        (await call.body()).child("HostConfig").texts("Binds")
        return call.empty()

    async with served(tmp_path, ("POST", "/read", reading)) as path:
        assert (await ask(path, "POST /read", body=b"{"))[0] == 400
        status, _, body = await ask(path, "POST /read", body=b'{"HostConfig":{"Binds":"x"}}')
        assert status == 400
        assert "HostConfig.Binds" in json.loads(body)["message"]
        assert (await ask(path, "POST /read"))[0] == 204


def attaching(echo, *, tty=False, keys=b""):
    async def handler(call):
        connection = await hijack(call, tty=tty)
        try:
            await join(connection, echo, tty=tty, wants=frozenset({1, 2}), stdin=True, keys=keys)
        finally:
            await echo.close()
            response = finish(call, connection)
        return response

    return ("POST", "/attach", handler)


async def upgrade(path, headers):
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"POST /attach HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    return head, reader, writer


async def test_the_docker_clients_upgrade_gets_101_and_frames(tmp_path):
    async with served(tmp_path, attaching(Echo())) as path:
        head, reader, writer = await upgrade(path, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
        assert head.startswith("HTTP/1.1 101 UPGRADED\r\n")
        assert "Content-Type: application/vnd.docker.multiplexed-stream" in head
        writer.write(b"hello")
        await asyncio.sleep(0)
        writer.write_eof()
        frames = list(Decoder().feed(await reader.read()))
        assert b"".join(data for stream, data in frames if stream == 1) == b"hello"
        assert frames[-1] == (2, b"bye")
        writer.close()


async def test_without_an_upgrade_header_the_answer_is_200_and_raw(tmp_path):
    async with served(tmp_path, attaching(Echo())) as path:
        head, reader, writer = await upgrade(path, "")
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        assert "application/vnd.docker.raw-stream" in head
        assert "Content-Length" not in head
        writer.write_eof()
        assert list(Decoder().feed(await reader.read())) == [(2, b"bye")]
        writer.close()


async def test_a_terminals_stream_is_raw_and_the_detach_keys_leave_it(tmp_path):
    echo = Echo()
    async with served(tmp_path, attaching(echo, tty=True, keys=b"\x10\x11")) as path:
        _, reader, writer = await upgrade(path, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
        writer.write(b"ls")
        assert await reader.readexactly(2) == b"ls"
        writer.write(b"\x10\x11")
        assert await reader.read() == b""
        writer.close()
    assert echo.closed


async def test_a_client_that_leaves_is_noticed_while_nothing_is_said(tmp_path):
    echo = Echo()
    async with served(tmp_path, attaching(echo, tty=True)) as path:
        _, _, writer = await upgrade(path, "Connection: Upgrade\r\nUpgrade: tcp\r\n")
        echo.close_input = lambda: asyncio.sleep(0)  # a process that goes on after its input ended
        writer.transport.abort()
        async with asyncio.timeout(60):
            while not echo.closed:
                await asyncio.sleep(0.01)
    assert echo.closed


async def test_a_listener_that_leaves_is_forgotten(tmp_path):
    bus = Events(SimpleNamespace(now=time.time))
    async with served(tmp_path, events=bus) as path:
        for number in range(3):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"GET /v1.51/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            bus.publish("container", f"told-{number}", "id")
            assert f"told-{number}".encode() in await reader.readuntil(b"\n\r\n")
            assert bus.listening == 1
            writer.close()
            async with asyncio.timeout(20):
                while bus.listening:
                    await asyncio.sleep(0.002)


def test_the_router_tells_names_with_slashes_from_actions():
    router = Router((("GET", "/images/{name:*}/json", "inspect"), ("GET", "/images/json", "list")))
    assert router.find("GET", "/images/json") == ("list", {})
    assert router.find("GET", "/images/reg:5000/a/b:tag/json") == (
        "inspect",
        {"name": "reg:5000/a/b:tag"},
    )
    assert router.find("POST", "/images/json") is None


def telling(source):
    async def handler(call):
        response = await call.stream("text/plain")
        await until_gone(call, source(), response.write)
        await response.write_eof()
        return response

    return ("GET", "/tell", handler)


async def test_many_small_lines_arrive_whole_and_in_order(tmp_path):
    lines = [f"{number}\n".encode() for number in range(20_000)]

    async def source():
        for number, line in enumerate(lines):
            if number % 5000 == 0:
                await asyncio.sleep(0)
            yield line

    async with served(tmp_path, telling(source)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /tell HTTP/1.0\r\nHost: x\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
    assert body == b"".join(lines)


async def test_a_line_is_sent_before_the_next_one_comes(tmp_path):
    more = asyncio.Event()

    async def source():
        yield b"first\n"
        await more.wait()
        yield b"second\n"

    async with served(tmp_path, telling(source)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /tell HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"first\n")).endswith(b"first\n")
        more.set()
        assert await reader.read() == b"second\n"
        writer.close()


async def test_a_source_is_ended_when_its_listener_leaves(tmp_path):
    ended = asyncio.Event()

    async def source():
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served(tmp_path, telling(source)) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /tell HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        async with asyncio.timeout(60):
            await ended.wait()
