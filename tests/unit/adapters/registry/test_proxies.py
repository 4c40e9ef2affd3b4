"""Registries through proxies: plain HTTP is forwarded, TLS is tunnelled, this machine is reached directly."""

import asyncio
import contextlib
import ssl
import subprocess
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from stackctl.adapters.registry.client import RegistryClient
from stackctl.errors import UnavailableError
from stackctl.oci.digest import digest_of
from stackctl.oci.reference import Reference
from tests.fakes.storage import QuickClock
from tests.unit.adapters.registry.test_client import MANIFEST, manifest_answer, served


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def proxy(target: tuple[str, int]):
    """A proxy that leads everything to one place; gives its URL and the first lines of what it was asked."""
    asked: list[str] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        asked.append(line.decode().strip())
        method, url, _ = line.decode().split(" ", 2)
        inner, outer = await asyncio.open_connection(*target)
        if method == "CONNECT":
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            parts = urlsplit(url)
            outer.write(line.replace(url.encode(), (parts.path or "/").encode()))
        await asyncio.gather(pump(reader, outer), pump(inner, writer))
        writer.close()
        outer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()


async def answer(_):
    return manifest_answer()


async def test_plain_http_is_forwarded_by_the_proxy_that_the_environment_names(monkeypatch):
    async with served(answer) as (_, _, real):
        host, _, port = real.registry.partition(":")
        async with proxy((host, int(port))) as (url, asked):
            monkeypatch.setenv("HTTP_PROXY", url)
            client = RegistryClient(QuickClock(), insecure=["registry.invalid"])
            # TLS is tried first, without a proxy for it: the name cannot be resolved here.
            reference = Reference(registry="registry.invalid", repository="a/b", tag="v1")
            found = await client.resolve(reference, None, None)
            await client.close()
    assert found.descriptor.digest == digest_of(MANIFEST)
    assert asked == ["GET http://registry.invalid/v2/ HTTP/1.1"] or asked[0].startswith(
        "GET http://registry.invalid/v2/"
    )


async def test_what_no_proxy_names_and_this_machine_are_reached_directly(monkeypatch):
    async with served(answer) as (client, _, reference):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", ".invalid")
        found = await client.resolve(reference, None, None)
        assert found.descriptor.digest == digest_of(MANIFEST)
        other = RegistryClient(QuickClock(), insecure=["registry.invalid"])
        with pytest.raises(UnavailableError, match="cannot be resolved"):
            await other.resolve(Reference(registry="registry.invalid", repository="a"), None, None)
        await other.close()


async def test_tls_goes_through_the_proxy_in_a_tunnel_and_stays_verified(monkeypatch, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=registry.invalid",
         "-addext", "subjectAltName=DNS:registry.invalid"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response() if request.path == "/v2/" else await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    reference = Reference(registry="registry.invalid", repository="a/b", tag="v1")
    try:
        async with proxy(runner.addresses[0]) as (url, asked):
            monkeypatch.setenv("HTTPS_PROXY", url)
            stranger = RegistryClient(QuickClock(), certs=[])
            with pytest.raises(UnavailableError, match="certificate"):
                await stranger.resolve(reference, None, None)
            await stranger.close()
            home = tmp_path / "certs.d" / "registry.invalid"
            home.mkdir(parents=True)
            (home / "ca.crt").write_bytes((tmp_path / "cert.pem").read_bytes())
            client = RegistryClient(QuickClock(), certs=[tmp_path / "certs.d"])
            found = await client.resolve(reference, None, None)
            await client.close()
    finally:
        await runner.cleanup()
    assert found.descriptor.digest == digest_of(MANIFEST)
    assert set(asked) == {"CONNECT registry.invalid:443 HTTP/1.1"}
