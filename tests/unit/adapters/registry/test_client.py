"""The registry client against registries that stall, lie and redirect."""

import json
from collections.abc import Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from stackctl.adapters.registry.client import RegistryClient
from stackctl.contracts.registry import Credentials, SearchResult
from stackctl.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from stackctl.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor
from stackctl.oci.digest import digest_of
from stackctl.oci.image import MAX_MANIFEST, Manifest, manifest_bytes
from stackctl.oci.reference import Reference
from tests.fakes.storage import QuickClock, collected

BLOB = bytes(range(256)) * 2000
DESCRIPTOR = Descriptor(media_type="x/y", digest=digest_of(BLOB), size=len(BLOB))
MANIFEST = manifest_bytes(
    Manifest(config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(b"{}"), size=2), layers=())
)
USER = Credentials(username="user", password="secret")


@asynccontextmanager
async def served(answer: Callable):
    """Serve every path below /v2/ with ``answer``; give (client, clock, the reference's maker)."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response()
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    clock = QuickClock()
    client = RegistryClient(clock)
    try:
        yield client, clock, Reference(registry=f"127.0.0.1:{port}", repository="a/b", tag="v1")
    finally:
        await client.close()
        await runner.cleanup()


def manifest_answer(data: bytes = MANIFEST, **headers: str) -> web.Response:
    return web.Response(body=data, headers={"Content-Type": OCI_MANIFEST, **headers})


async def test_a_busy_registry_is_asked_again_when_it_said():
    asked = []

    async def answer(request):
        asked.append(request.path)
        if len(asked) == 1:
            return web.Response(status=429, headers={"Retry-After": "7"})
        if len(asked) == 2:
            return web.Response(status=503)
        return manifest_answer()

    async with served(answer) as (client, clock, reference):
        found = await client.resolve(reference, None, None)
    assert found.data == MANIFEST
    assert clock.slept[0] == 7
    assert 0 < clock.slept[1] < 30


async def test_a_registry_that_stays_busy_is_given_up():
    async def answer(_):
        return web.Response(status=503)

    async with served(answer) as (client, clock, reference):
        with pytest.raises(UnavailableError, match=r"tried 127\.0\.0\.1"):
            await client.resolve(reference, None, None)
    assert len(clock.slept) == 4


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_download_that_breaks_off_goes_on_where_it_stopped(ranges):
    asked = []

    async def answer(request):
        wanted = request.headers.get("Range", "")
        asked.append(wanted)
        start = int(wanted[6:-1]) if wanted and ranges else 0
        response = web.StreamResponse(status=206 if start else 200)
        response.content_length = len(BLOB) - start
        await response.prepare(request)
        piece = BLOB[start:]
        if len(asked) < 4:
            await response.write(piece[: 100_000 * len(asked)])
            request.transport.close()
            return response
        await response.write(piece)
        return response

    async with served(answer) as (client, _, reference):
        assert await collected(client.fetch(reference, DESCRIPTOR, None)) == BLOB
    assert asked[0] == ""
    assert asked[1].startswith("bytes=")


async def test_a_download_that_never_goes_on_is_given_up():
    async def answer(request):
        response = web.StreamResponse()
        response.content_length = len(BLOB)
        await response.prepare(request)
        request.transport.close()
        return response

    async with served(answer) as (client, _, reference):
        with pytest.raises(UnavailableError, match=r"cannot download sha256:.*tried 127\.0\.0\.1"):
            await collected(client.fetch(reference, DESCRIPTOR, None))


async def test_credentials_do_not_follow_a_redirect_to_another_host():
    seen = {}

    async def other(request):
        seen["other"] = request.headers.get("Authorization")
        return web.Response(body=BLOB)

    async with served(other) as (_, _, elsewhere):

        async def answer(request):
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})
            seen["own"] = request.headers["Authorization"]
            target = f"http://{elsewhere.registry}/v2/blob"
            return web.Response(status=307, headers={"Location": target})

        async with served(answer) as (client, _, reference):
            assert await collected(client.fetch(reference, DESCRIPTOR, USER)) == BLOB
    assert seen["own"].startswith("Basic ")
    assert seen["other"] is None


async def test_redirects_in_circles_end():
    async def answer(request):
        return web.Response(status=302, headers={"Location": str(request.url)})

    async with served(answer) as (client, _, reference):
        with pytest.raises(UnavailableError, match="redirects in circles"):
            await client.resolve(reference, None, None)


async def test_a_token_is_fetched_once_and_used_until_it_ends():
    seen = {"tokens": [], "manifests": 0}

    async def answer(request):
        if request.path == "/token":
            seen["tokens"].append((dict(request.query), request.headers.get("Authorization")))
            return web.json_response({"token": "t0k3n", "expires_in": 300})
        if request.headers.get("Authorization") != "Bearer t0k3n":
            realm = f'Bearer realm="http://{request.host}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        seen["manifests"] += 1
        return manifest_answer()

    async with served(answer) as (client, _, reference):
        await client.resolve(reference, None, USER)
        await client.resolve(reference, None, USER)
        await client.resolve(reference, None, None)
    queries = [query for query, _ in seen["tokens"]]
    assert queries[0] == {"service": "s", "scope": "repository:a/b:pull", "account": "user"}
    assert seen["tokens"][0][1].startswith("Basic ")
    assert seen["tokens"][1] == ({"service": "s", "scope": "repository:a/b:pull"}, None)
    assert (len(queries), seen["manifests"]) == (2, 3)


@pytest.mark.parametrize(
    ("status", "credentials", "kind"),
    [
        (404, None, NotFoundError),
        (401, None, NotFoundError),
        (401, USER, UnauthorizedError),
        (403, USER, ForbiddenError),
        (400, None, InvalidInputError),
    ],
)
async def test_a_refusal_becomes_its_kind_and_names_the_registry(status, credentials, kind):
    async def answer(_):
        body = json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such thing"}]})
        return web.Response(status=status, text=body)

    async with served(answer) as (client, _, reference):
        with pytest.raises(kind, match=rf"tried {reference.registry.replace('.', '[.]')}: "):
            await client.resolve(reference, None, credentials)


async def test_a_manifest_that_is_not_what_its_digest_says_is_refused():
    async def answer(_):
        return manifest_answer(**{"Docker-Content-Digest": digest_of(b"other")})

    async with served(answer) as (client, _, reference):
        with pytest.raises(InvalidInputError, match="gave a manifest that is"):
            await client.resolve(reference, None, None)


async def test_a_manifest_served_as_another_kind_is_refused():
    async def answer(_):
        kind = "application/vnd.oci.image.index.v1+json"
        return web.Response(body=MANIFEST, headers={"Content-Type": kind})

    async with served(answer) as (client, _, reference):
        with pytest.raises(InvalidInputError, match="was served as"):
            await client.resolve(reference, None, None)


async def test_a_manifest_without_end_is_cut():
    async def answer(_):
        return manifest_answer(bytes(MAX_MANIFEST + 1))

    async with served(answer) as (client, _, reference):
        with pytest.raises(UnavailableError, match="answers with more than"):
            await client.resolve(reference, None, None)


async def test_a_large_blob_is_uploaded_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("stackctl.adapters.registry.client._CHUNK", 200_000)
    stored = bytearray()
    methods = []

    async def answer(request):
        methods.append(request.method)
        if request.method == "HEAD":
            return web.Response(status=404)
        stored.extend(await request.read())
        status = 201 if request.method == "PUT" else 202
        return web.Response(status=status, headers={"Location": "/v2/a/b/blobs/uploads/1?state=x"})

    (tmp_path / "blob").write_bytes(BLOB)
    async with served(answer) as (client, _, reference):
        sent: list[int] = []
        assert await client.push_blob(reference, DESCRIPTOR, tmp_path / "blob", None, sent.append)
    assert bytes(stored) == BLOB
    assert methods == ["HEAD", "POST", "PATCH", "PATCH", "PUT"]
    assert sent == sorted(sent)
    assert sent[-1] == len(BLOB)


@pytest.mark.parametrize(
    "where", ["/v2/a/b/tags/list", "http://registry.invalid/v2/other/tags/list"]
)
async def test_tags_come_in_pages_that_lead_nowhere_else_and_not_in_circles(where):
    pages = {"": ("c", "last=c"), "c": ("a", "last=a"), "a": ("c", "last=c")}
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        name, following = pages[request.query.get("last", "")]
        link = f'<{where}?{following}>; rel="next"'
        return web.json_response({"name": "a/b", "tags": [name]}, headers={"Link": link})

    async with served(answer) as (client, _, reference):
        assert await client.tags(reference, None) == ["a", "c"]
    paths = [f"/v2/a/b/tags/list?{query}" for query in ("n=1000", "last=c", "last=a")]
    assert asked == paths


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"tags": "a"}', b'{"tags": [1]}', b"no"])
async def test_a_list_of_tags_that_is_none_is_said(body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with served(answer) as (client, _, reference):
        with pytest.raises(UnavailableError, match="gives no list of tags"):
            await client.tags(reference, None)


async def test_an_index_is_searched():
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        if request.query.get("q") == "none":
            return web.Response(status=404)
        found = {"name": "a/b", "description": "words", "star_count": 3, "is_official": True}
        return web.json_response({"results": [found, {"name": "c", "description": None}]})

    async with served(answer) as (client, _, reference):
        found = await client.search(f"{reference.registry}/x/y z", 7, None)
        assert found == [
            SearchResult(name="a/b", description="words", stars=3, official=True),
            SearchResult(name="c"),
        ]
        with pytest.raises(UnavailableError, match="answers a search with 404"):
            await client.search(f"{reference.registry}/none", 25, None)
    assert asked == ["/v1/search?q=x%2Fy+z&n=7", "/v1/search?q=none&n=25"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"results": 1}', b'{"results": [{}]}', b"no"])
async def test_an_answer_to_a_search_that_is_none_is_said(body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with served(answer) as (client, _, reference):
        with pytest.raises(UnavailableError, match="no list of results"):
            await client.search(f"{reference.registry}/x", 25, None)
