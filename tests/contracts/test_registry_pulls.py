"""Whole pulls, store included, from a registry that misbehaves on purpose; and a real one behind a token service."""

import asyncio
import base64
import contextlib
import gzip
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from aiohttp import web

from stackctl.adapters.registry.client import RegistryClient
from stackctl.contracts.registry import Credentials
from stackctl.engine.image_values import ImagePruneFilter
from stackctl.errors import InvalidInputError, StackctlError, UnauthorizedError, UnavailableError
from stackctl.oci.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from stackctl.oci.digest import digest_of
from stackctl.oci.image import Index, Manifest, manifest_bytes
from stackctl.oci.platform import Platform
from stackctl.oci.reference import parse_reference
from tests.contracts.test_registry import LocalRegistry, made, statuses
from tests.fakes.storage import QuickClock, Shelf, tar_of

pytestmark = pytest.mark.root
SQUEEZE: dict[str, Callable[[bytes], bytes]] = {
    OCI_LAYER: bytes,
    OCI_LAYER_GZIP: lambda data: gzip.compress(data, mtime=0),
    OCI_LAYER_ZSTD: zstandard.compress,
}


class Misbehaving:
    """An image with some layers; a test changes what is answered by replacing ``answer``."""

    def __init__(self, layers: list[tuple[str, bytes]]) -> None:
        self.blobs: dict[str, bytes] = {}
        self.layers: list[str] = []
        self.asked: list[str] = []
        self.host = ""
        self.answer: Callable = self.usual
        descriptors = []
        for kind, plain in layers:
            data = SQUEEZE[kind](plain)
            descriptors.append(self.keep(kind, data))
        self.layers = [item.digest for item in descriptors]
        config = json.dumps(
            {
                "architecture": "amd64", "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(plain) for _, plain in layers]},
            }
        ).encode()  # fmt: skip
        self.config = self.keep(OCI_CONFIG, config)
        manifest = Manifest(config=self.config, layers=tuple(descriptors))
        self.manifest = manifest_bytes(manifest)

    def keep(self, kind: str, data: bytes) -> Descriptor:
        found = Descriptor(media_type=kind, digest=digest_of(data), size=len(data))
        self.blobs[found.digest] = data
        return found

    async def usual(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            data = self.blobs.get(name, self.manifest)
            return web.Response(body=data, content_type=OCI_MANIFEST)
        if name not in self.blobs:
            return web.Response(status=404)
        return web.Response(body=self.blobs[name])

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response()
        self.asked.append(request.path.rpartition("/")[2])
        return await self.answer(request)

    @contextlib.asynccontextmanager
    async def served(self):
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.host = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def shelf(tmp_path):
    client = RegistryClient(QuickClock())
    made = Shelf(tmp_path / "engine", client)
    await made.images.start()
    yield made
    await made.layers.close()
    await client.close()


async def nothing_is_there(shelf: Shelf) -> None:
    assert list(shelf.images.all()) == []
    assert list(await shelf.content.digests()) == []
    assert list(await shelf.layers.layers()) == []


def layers(count: int) -> list[tuple[str, bytes]]:
    return [(OCI_LAYER_GZIP, tar_of({f"f{number}": b"x" * 1000})) for number in range(count)]


async def test_layers_of_every_compression_are_unpacked(shelf):
    kinds = [(kind, tar_of({f"f{number}": kind.encode()})) for number, kind in enumerate(SQUEEZE)]
    async with Misbehaving(kinds).served() as registry:
        await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
        record = shelf.images.resolve(f"{registry.host}/a:v1")
        async with shelf.layers.view(record.layers) as root:
            for number, kind in enumerate(SQUEEZE):
                assert (root / f"f{number}").read_text() == kind


async def test_a_layer_is_unpacked_while_another_is_still_on_its_way(shelf):
    released = asyncio.Event()
    async with Misbehaving(layers(3)).served() as registry:

        async def answer(request):
            if request.path.endswith(registry.layers[0]):
                await released.wait()
            return await registry.usual(request)

        registry.answer = answer
        complete = []
        async for message in shelf.images.pull(f"{registry.host}/a:v1"):
            if message.status == "Pull complete":
                complete.append(message.id)
            if len(complete) == 2:
                # The lowest layer comes last, and those above it are unpacked already.
                released.set()
    assert complete[2] == registry.layers[0].partition(":")[2][:12]


async def test_three_layers_at_a_time_are_downloaded_whoever_asks(shelf):
    now, most = 0, 0
    async with (
        Misbehaving(layers(9)).served() as registry,
        Misbehaving(
            [(OCI_LAYER_GZIP, tar_of({f"g{n}": b"y"})) for n in range(5)]
        ).served() as other,
    ):

        async def answer(request):
            nonlocal now, most
            asked = registry if request.host == registry.host else other
            if "/blobs/" not in request.path or request.path.endswith(asked.config.digest):
                return await asked.usual(request)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.05)
            now -= 1
            return await asked.usual(request)

        registry.answer = other.answer = answer
        names = [f"{one.host}/a:v1" for one in (registry, other)]
        await asyncio.gather(*(statuses(shelf.images.pull(name)) for name in names))
    assert most == 3


@pytest.mark.parametrize("wrong", ["content", "length", "config", "layer of another image"])
async def test_what_is_not_what_it_should_be_is_never_seen(shelf, wrong):
    async with Misbehaving(layers(2)).served() as registry:
        bad = registry.config.digest if wrong == "config" else registry.layers[1]
        data = registry.blobs[bad]
        if wrong == "layer of another image":
            # Its digest is right, and it unpacks to something else than the configuration says.
            swapped = registry.keep(OCI_LAYER_GZIP, SQUEEZE[OCI_LAYER_GZIP](tar_of({"evil": b"x"})))
            text = registry.manifest.decode().replace(bad, swapped.digest)
            size = f'"size":{len(data)}'
            registry.manifest = re.sub(
                rf'("digest":"{swapped.digest}"[^}}]*?){size}', rf'\g<1>"size":{swapped.size}', text
            ).encode()  # fmt: skip
        elif wrong == "length":
            registry.blobs[bad] = data + b"more"
        else:
            registry.blobs[bad] = bytes(len(data))
        with pytest.raises(StackctlError):
            await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
    await nothing_is_there(shelf)


async def test_a_download_that_always_breaks_off_leaves_a_part_that_prune_removes(shelf):
    noise = tar_of({"noise": bytes(range(256)) * 8000})
    async with Misbehaving([(OCI_LAYER, noise)]).served() as registry:

        async def answer(request):
            if not request.path.endswith(registry.layers[0]):
                return await registry.usual(request)
            response = web.StreamResponse()
            response.content_length = len(noise)
            await response.prepare(request)
            if "Range" not in request.headers:
                await response.write(noise[: 1 << 20])
            request.transport.close()
            return response

        registry.answer = answer
        with pytest.raises(UnavailableError):
            await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
    await nothing_is_there(shelf)
    wanted = Descriptor(media_type=OCI_LAYER, digest=registry.layers[0], size=len(noise))
    assert shelf.content.partial(wanted) > 0
    _, freed = await shelf.images.prune(ImagePruneFilter())
    assert freed >= 1 << 20
    assert shelf.content.partial(wanted) == 0


async def test_a_trickle_is_waited_for(shelf):
    async with Misbehaving(layers(1)).served() as registry:

        async def answer(request):
            if not request.path.endswith(registry.layers[0]):
                return await registry.usual(request)
            response = web.StreamResponse()
            data = registry.blobs[registry.layers[0]]
            response.content_length = len(data)
            await response.prepare(request)
            for byte in data:
                await response.write(bytes([byte]))
            return response

        registry.answer = answer
        await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
    assert shelf.images.resolve(f"{registry.host}/a:v1")


@pytest.mark.parametrize("length", [1, 2])
async def test_indexes_that_lead_in_circles_end(shelf, length):
    async with Misbehaving(layers(1)).served() as registry:
        platform = Platform(architecture="amd64")
        # A digest cannot name itself; a registry that lies can, and a chain of indexes is refused anyway.
        inner = Descriptor(
            media_type=OCI_INDEX, digest="sha256:" + "1" * 64, size=10, platform=platform
        )
        data = manifest_bytes(Index(manifests=(inner,)))
        if length == 2:
            first = Descriptor(
                media_type=OCI_INDEX, digest=digest_of(data), size=len(data), platform=platform
            )
            outer = manifest_bytes(Index(manifests=(first,)))
            registry.blobs[digest_of(data)] = data
        else:
            outer = data

        async def answer(request):
            name = request.path.rpartition("/")[2]
            return web.Response(body=registry.blobs.get(name, outer), content_type=OCI_INDEX)

        registry.answer = answer
        with pytest.raises(InvalidInputError):
            await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
        assert len(registry.asked) <= 3
    await nothing_is_there(shelf)


async def test_a_registry_that_takes_no_token_is_given_up_at_once(shelf):
    async with Misbehaving(layers(1)).served() as registry:

        async def answer(request):
            if request.path == "/token":
                return web.json_response({"token": "never enough"})
            realm = f'Bearer realm="http://{registry.host}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})

        registry.answer = answer
        with pytest.raises(StackctlError):
            await statuses(shelf.images.pull(f"{registry.host}/a:v1"))
        assert len(registry.asked) <= 4
    await nothing_is_there(shelf)


async def test_a_date_says_when_to_come_back():
    async with Misbehaving(layers(1)).served() as registry:
        clock = QuickClock()
        client = RegistryClient(clock)
        shelf_asked = 0

        async def answer(request):
            nonlocal shelf_asked
            shelf_asked += 1
            if shelf_asked > 1:
                return await registry.usual(request)
            when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
            return web.Response(status=429, headers={"Retry-After": when})

        registry.answer = answer
        await client.resolve(parse_reference(f"{registry.host}/a:v1"), None, None)
        await client.close()
    assert 10 < clock.slept[0] <= 20


class TokenService:
    """Gives tokens as Docker's registry wants them (distribution, jwt.md), signed by openssl, to user and secret."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.asked: list[tuple[str, str]] = []
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem",
             "-out", "cert.pem", "-days", "2", "-subj", "/CN=tokens"],
            cwd=home, check=True, capture_output=True,
        )  # fmt: skip
        done = subprocess.run(
            ["openssl", "x509", "-in", "cert.pem", "-outform", "DER"],
            cwd=home, check=True, capture_output=True,
        )  # fmt: skip
        self.chain = base64.b64encode(done.stdout).decode()

    async def handle(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        known = given == "Basic " + base64.b64encode(b"user:secret").decode()
        scopes = request.query.getall("scope", [])
        self.asked.append((given, " ".join(scopes)))
        if given and not known:
            return web.Response(status=401)
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = [word for word in actions.split(",") if known or word == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        return web.json_response({"token": await asyncio.to_thread(self._token, access)})

    def _token(self, access: list) -> str:
        now = int(time.time())
        claims = {
            "iss": "tests", "sub": "user", "aud": "registry", "exp": now + 300, "nbf": now - 10,
            "iat": now, "jti": str(now), "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.chain]}
        text = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self.home / "key.pem")],
            input=text.encode(), check=True, capture_output=True,
        )  # fmt: skip
        return f"{text}.{_base64(done.stdout)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_token_service_opens_debian_s_registry(shelf, tmp_path):
    home = tmp_path / "tokens"
    home.mkdir()
    service = TokenService(home)
    app = web.Application()
    app.router.add_get("/token", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    realm = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    local = await asyncio.to_thread(
        LocalRegistry,
        home,
        f"auth: {{token: {{realm: '{realm}', service: registry, issuer: tests, rootcertbundle: {home}/cert.pem}}}}\n",
    )
    try:
        name = f"{local.host}/deep/box:v1"
        await made(shelf, name)
        good = Credentials(username="user", password="secret", server_address=local.host)
        bad = Credentials(username="user", password="wrong", server_address=local.host)
        with pytest.raises(UnauthorizedError):
            await statuses(shelf.images.push(name, credentials=bad))
        with pytest.raises(StackctlError):
            await statuses(shelf.images.push(name))  # a token, but not for pushing
        await statuses(shelf.images.push(name, credentials=good))
        await shelf.images.remove(name, force=True)
        service.asked.clear()
        await statuses(shelf.images.pull(name))
        assert shelf.images.resolve(name)
        # One token for the manifest and every blob.
        assert service.asked == [("", "repository:deep/box:pull")]
    finally:
        local.stop()
        await runner.cleanup()
