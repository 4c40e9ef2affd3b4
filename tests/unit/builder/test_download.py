"""What is fetched by URL, from servers that stall, lie and refuse."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from stackctl.builder.download import Fetch
from stackctl.errors import UnavailableError


@asynccontextmanager
async def served(answer: bytes, *, hold: bool = False):
    """Answer every connection with the bytes; with ``hold`` stay connected. Gives the URL."""
    let_go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if hold:
            await let_go.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        let_go.set()


async def test_a_file_comes_with_its_size():
    async with (
        served(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwords") as url,
        Fetch(url) as fetch,
    ):
        assert fetch.size == 5
        assert b"".join([chunk async for chunk in fetch.chunks()]) == b"words"


async def test_a_file_that_breaks_off_is_said():
    async with (
        served(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nwords") as url,
        Fetch(url) as fetch,
    ):
        with pytest.raises(UnavailableError, match=f"cannot download {url}: .*more expected"):
            assert [chunk async for chunk in fetch.chunks()]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/x", "Connection refused"),
        ("ftp://127.0.0.1/x", "ftp:// is not fetched"),
        ("http:///x", "no host given"),
    ],
)
async def test_what_cannot_be_fetched_is_said(url, words):
    with pytest.raises(UnavailableError, match=words):
        async with Fetch(url):
            pass


async def test_who_leaves_waits_for_no_server():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nwords"
    async with served(answer, hold=True) as url:
        came = asyncio.Event()

        async def take() -> None:
            async with Fetch(url) as fetch:
                async for _ in fetch.chunks():
                    came.set()

        task = asyncio.create_task(take())
        await came.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
