"""Registry by the OCI distribution protocol (OCI distribution specification 1.1)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from stackctl.adapters.registry.auth import parse_challenges
from stackctl.adapters.registry.transport import (
    Call,
    Transport,
    host_of,
    read_bounded,
    with_context,
)
from stackctl.contracts.clock import Clock
from stackctl.contracts.registry import Credentials, ResolvedManifest, SearchResult
from stackctl.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    UnauthorizedError,
    UnavailableError,
)
from stackctl.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from stackctl.oci.digest import digest_of, is_digest
from stackctl.oci.image import MAX_MANIFEST, Index, choose, parse_manifest
from stackctl.oci.platform import Platform
from stackctl.oci.reference import DEFAULT_REGISTRY, Reference, is_registry

_ACCEPT = ", ".join((OCI_INDEX, DOCKER_MANIFEST_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"))
_CERTS = (Path("/etc/stackctl/certs.d"), Path("/etc/docker/certs.d"))
_TRIES_WITHOUT_PROGRESS = 5
_PIECE = 1 << 20
_CHUNK = 64 << 20
_MAX_TAGS = 16 << 20
_UPLOAD_TRIES = 3
_HUB_INDEX = "index.docker.io"
_HUB_LOGINS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "")


class RegistryClient:
    """One client for all registries.

    ``mirrors`` are URLs asked before Docker Hub for what is read from it, without its credentials; what a mirror
    lacks or gets wrong is read from the Hub. ``certs`` are directories as Docker's certs.d.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        insecure: Collection[str] = (),
        mirrors: Sequence[str] = (),
        certs: Collection[Path] = _CERTS,
    ) -> None:
        self._clock = clock
        self._mirrors = tuple(urlsplit(mirror).netloc or mirror for mirror in mirrors)
        plain = {urlsplit(mirror).netloc for mirror in mirrors if mirror.startswith("http://")}
        self._transport = Transport(clock, {*insecure, *plain}, certs)

    async def close(self) -> None:
        await self._transport.close()

    async def resolve(
        self, reference: Reference, platform: Platform | None, credentials: Credentials | None
    ) -> ResolvedManifest:
        name = reference.digest or reference.tag or "latest"
        top, data = await self._manifest(reference, name, credentials)
        document = parse_manifest(data, top.media_type)
        top = replace(top, media_type=document.media_type)
        if not isinstance(document, Index):
            return ResolvedManifest(descriptor=top, data=data, top=top)
        chosen = choose(document, platform) if platform else _first(document, reference)
        found, data = await self._manifest(reference, chosen.digest, credentials)
        inner = parse_manifest(data, found.media_type)
        if isinstance(inner, Index):
            raise InvalidInputError(f"{reference}: an index that leads to another index")
        if chosen.size != found.size:
            raise InvalidInputError(
                f"{reference}: the manifest has {found.size} bytes, not {chosen.size}"
            )
        return ResolvedManifest(
            descriptor=replace(found, media_type=inner.media_type, platform=chosen.platform),
            data=data,
            top=top,
        )

    async def digest(self, reference: Reference, credentials: Credentials | None) -> str:
        name = reference.digest or reference.tag or "latest"
        call = self._call(reference, "HEAD", f"manifests/{name}", credentials)
        try:
            response = await self._read(replace(call, headers={"Accept": _ACCEPT}), reference)
        except (NotFoundError, UnauthorizedError, ForbiddenError):
            return ""
        async with response:
            claimed = response.headers.get("Docker-Content-Digest", "")
            return claimed if response.status == 200 and is_digest(claimed) else ""

    async def _manifest(
        self, reference: Reference, name: str, credentials: Credentials | None
    ) -> tuple[Descriptor, bytes]:
        call = self._call(reference, "GET", f"manifests/{name}", credentials)
        response = await self._read(replace(call, headers={"Accept": _ACCEPT}), reference)
        async with response:
            if response.status != 200:
                raise await _refusal(response, reference, credentials)
            data = await read_bounded(response, MAX_MANIFEST)
            content_type = response.headers.get("Content-Type", "")
            claimed = response.headers.get("Docker-Content-Digest", "")
        digest = digest_of(data)
        expected = name if is_digest(name) else claimed
        if expected.startswith("sha256:") and digest != expected:
            raise InvalidInputError(
                f"{reference}: {host_of(reference.registry)} gave a manifest that is {digest}, not {expected}"
            )
        return Descriptor(media_type=content_type, digest=digest, size=len(data)), data

    async def tags(self, reference: Reference, credentials: Credentials | None) -> Sequence[str]:
        found: dict[str, None] = {}
        page = "n=1000"
        while page:
            call = self._call(reference, "GET", f"tags/list?{page}", credentials)
            async with await self._read(call, reference) as response:
                if response.status == 404:
                    raise NotFoundError(
                        f"repository {reference.name} not found: tried {host_of(reference.registry)}: "
                        f"{await _detail(response) or response.status}"
                    )
                if response.status != 200:
                    raise await _refusal(response, reference, credentials)
                fresh = _tag_names(await read_bounded(response, _MAX_TAGS))
                following = response.links.get("next")
                page = URL(str(following["url"])).raw_query_string if following else ""
            if found.keys() >= {*fresh}:
                break  # nothing new: a registry that goes in circles is not followed
            found |= dict.fromkeys(fresh)
        return sorted(found)

    async def fetch(
        self,
        reference: Reference,
        descriptor: Descriptor,
        credentials: Credentials | None,
        *,
        start: int = 0,
    ) -> AsyncIterator[bytes]:
        got, failures = start, 0
        while True:
            before = got
            try:
                source = self._fetch_from(reference, descriptor, credentials, got)
                async with contextlib.aclosing(source) as pieces:
                    async for chunk in pieces:
                        got += len(chunk)
                        yield chunk
                if descriptor.size < 0 or got >= descriptor.size:
                    return
                reason = "the connection was closed early"
            except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                reason = str(error) or type(error).__name__
            failures = 1 if got > before else failures + 1
            if failures >= _TRIES_WITHOUT_PROGRESS:
                raise UnavailableError(
                    f"cannot download {descriptor.digest[:19]} of {reference}: "
                    f"tried {host_of(reference.registry)}: {reason}"
                )
            await self._clock.sleep(min(0.5 * 2 ** (failures - 1), 8.0))

    async def _fetch_from(
        self,
        reference: Reference,
        descriptor: Descriptor,
        credentials: Credentials | None,
        start: int,
    ) -> AsyncGenerator[bytes, None]:
        call = self._call(reference, "GET", f"blobs/{descriptor.digest}", credentials)
        if start:
            call = replace(call, headers={"Range": f"bytes={start}-"})
        response = await self._read(call, reference)
        async with response:
            if response.status not in (200, 206):
                raise await _refusal(response, reference, credentials)
            skip = start if response.status == 200 else 0
            async for chunk in response.content.iter_any():
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:] if skip else chunk
                skip = 0

    async def push_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        path: Path,
        credentials: Credentials | None,
        progress: Callable[[int], None] | None = None,
        *,
        sources: Sequence[str] = (),
    ) -> str:
        call = self._call(reference, "HEAD", f"blobs/{descriptor.digest}", credentials, push=True)
        async with await self._send(call, reference) as response:
            if response.status == 200:
                return "Layer already exists"
            if response.status not in (404, 405):
                raise await _refusal(response, reference, credentials, pushing=True)
        for source in sources:
            if await self._mount(reference, descriptor.digest, source, credentials):
                return f"Mounted from {source}"
        size = (await asyncio.to_thread(path.stat)).st_size
        for attempt in range(1, _UPLOAD_TRIES + 1):
            try:
                await self._upload(reference, descriptor.digest, path, size, credentials, progress)
                break
            except UnavailableError:
                if attempt == _UPLOAD_TRIES:
                    raise
                await self._clock.sleep(0.5 * 2 ** (attempt - 1))
        return "Pushed"

    async def _mount(
        self, reference: Reference, digest: str, source: str, credentials: Credentials | None
    ) -> bool:
        """Ask the registry to take a blob from another of its repositories (distribution specification, end-11)."""
        query = urlencode({"mount": digest, "from": source})
        call = self._call(reference, "POST", f"blobs/uploads/?{query}", credentials, push=True)
        call = replace(
            call,
            headers={"Content-Length": "0"},
            scope=f"{call.scope} repository:{source}:pull",
        )
        try:
            response = await self._send(call, reference)
        except StackctlError:
            return False  # may not be read by this user: it is uploaded as any other
        async with response:
            if response.status == 201:
                return True
            location = response.headers.get("Location", "")
            target = urljoin(str(response.url), location)
        if response.status == 202 and location:
            # The registry began an upload instead; it is given up, so that nothing is left there.
            with contextlib.suppress(StackctlError):
                cancel = replace(call, method="DELETE", path=target, headers={})
                (await self._send(cancel, reference)).release()
        return False

    async def _upload(
        self,
        reference: Reference,
        digest: str,
        path: Path,
        size: int,
        credentials: Credentials | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        start = self._call(reference, "POST", "blobs/uploads/", credentials, push=True)
        location = await self._step(replace(start, headers={"Content-Length": "0"}), reference, 202)
        at = 0
        while size - at > _CHUNK:
            # A part at a time, since a proxy in between may bound the size of a request.
            headers = _part_headers(at, _CHUNK)
            body = _reader(path, at, _CHUNK, progress)
            patch = replace(start, method="PATCH", path=location, headers=headers, body=body)
            location = await self._step(patch, reference, 202)
            at += _CHUNK
        target = str(URL(location, encoded=True).update_query({"digest": digest}))
        put = replace(
            start,
            method="PUT",
            path=target,
            headers=_part_headers(at, size - at) if at else _whole_headers(size),
            body=_reader(path, at, size - at, progress) if size > at else b"",
        )
        await self._step(put, reference, 201)

    async def _step(self, call: Call, reference: Reference, expected: int) -> str:
        """Send one request of an upload; return where the next goes."""
        async with await self._send(call, reference) as response:
            if response.status != expected and not (expected == 201 and response.status == 204):
                raise await _refusal(response, reference, call.credentials)
            return urljoin(str(response.url), response.headers.get("Location", ""))

    async def push_manifest(
        self, reference: Reference, data: bytes, media_type: str, credentials: Credentials | None
    ) -> Descriptor:
        digest = digest_of(data)
        name = reference.tag or digest
        call = self._call(reference, "PUT", f"manifests/{name}", credentials, push=True)
        call = replace(call, headers={"Content-Type": media_type}, body=data)
        async with await self._send(call, reference) as response:
            if response.status not in (200, 201):
                raise await _refusal(response, reference, credentials)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    async def search(
        self, term: str, limit: int, credentials: Credentials | None
    ) -> Sequence[SearchResult]:
        registry, word = _searched(term)
        way = await self._transport.endpoint(registry)
        # The index is older than /v2/ (Docker Hub's and old registries' /v1/search).
        query = urlencode({"q": word, "n": limit})
        call = Call(
            registry=registry,
            method="GET",
            path=f"{way.base}/v1/search?{query}",
            credentials=credentials,
        )
        async with await self._transport.send(call) as response:
            if response.status != 200:
                raise UnavailableError(
                    f"{registry} answers a search with {response.status}",
                    hint="few registries have an index that can be searched",
                )
            return _results(await read_bounded(response, MAX_MANIFEST), registry)

    async def login(self, credentials: Credentials) -> str:
        address = credentials.server_address
        host = address.partition("://")[2] or address
        registry = DEFAULT_REGISTRY if address in _HUB_LOGINS else host.partition("/")[0]
        if not is_registry(registry):
            raise InvalidInputError(
                f'unable to parse server address: "{address[:200]}"',
                hint="write it as host[:port]",
            )
        call = Call(registry=registry, method="GET", path="", credentials=credentials)
        async with await self._transport.send(call) as response:
            if response.status in (401, 403):
                challenges = parse_challenges(response.headers.get("WWW-Authenticate", ""))
                ways = ", ".join(item.scheme for item in challenges) or "no scheme"
                raise UnauthorizedError(
                    f"login attempt to {host_of(registry)} failed: unauthorized ({ways})",
                    hint="check the user name and the password",
                )
            if response.status != 200:
                raise UnavailableError(f"{host_of(registry)} answers {response.status} to a login")
        return ""

    def _call(
        self,
        reference: Reference,
        method: str,
        path: str,
        credentials: Credentials | None,
        *,
        push: bool = False,
    ) -> Call:
        actions = "pull,push" if push else "pull"
        return Call(
            registry=reference.registry,
            method=method,
            path=f"{reference.repository}/{path}",
            credentials=credentials,
            scope=f"repository:{reference.repository}:{actions}",
        )

    async def _read(self, call: Call, reference: Reference) -> "aiohttp.ClientResponse":
        """Send a request that changes nothing: to the mirrors of Docker Hub first, where it is the Hub's."""
        failures = []
        missing = False
        for mirror in self._mirrors if call.registry == DEFAULT_REGISTRY else ():
            try:
                response = await self._transport.send(
                    replace(call, registry=mirror, credentials=None)
                )
            except StackctlError as error:
                failures.append(error.message)
                continue
            if response.status in (200, 206):
                return response
            missing = missing or response.status == 404
            failures.append(f"tried {mirror}: {response.status}")
            response.release()
        try:
            return await self._send(call, reference)
        except UnavailableError as error:
            if not failures:
                raise
            words = f"{error.message}; {'; '.join(failures)}"
            if missing:
                # What a mirror knows says more than that the way to the Hub is closed.
                raise NotFoundError(
                    f"manifest not found or repository does not exist: {words}", hint=error.hint
                ) from error
            raise UnavailableError(words, hint=error.hint) from error

    async def _send(self, call: Call, reference: Reference) -> "aiohttp.ClientResponse":
        try:
            return await self._transport.send(call)
        except UnauthorizedError as error:
            if call.credentials is None and "push" not in call.scope:
                # As Docker says it: an anonymous user cannot tell a private repository from none.
                raise NotFoundError(_denied(reference), hint=error.hint) from error
            raise
        except StackctlError as error:
            raise with_context(error, str(reference)) from error


def _first(index: Index, reference: Reference) -> Descriptor:
    if not index.manifests:
        raise NotFoundError(f"{reference}: the index is empty")
    return index.manifests[0]


async def _refusal(
    response: "aiohttp.ClientResponse",
    reference: Reference,
    credentials: Credentials | None,
    *,
    pushing: bool = False,
) -> StackctlError:
    """Return the error that an answer stands for, naming the registry."""
    detail = await _detail(response)
    tried = f"tried {host_of(reference.registry)}: {detail or response.status}"
    match response.status:
        case 404:
            return NotFoundError(f"manifest for {reference} not found: {tried}")
        case 401 if credentials is None and not pushing and response.method in ("GET", "HEAD"):
            return NotFoundError(_denied(reference), hint="log in first if it is private")
        case 401:
            return UnauthorizedError(f"unauthorized: {reference}: {tried}", hint="log in first")
        case 403:
            return ForbiddenError(f"access to {reference} is denied: {tried}")
        case 429:
            return UnavailableError(
                f"toomanyrequests: {reference}: {tried}", hint="try again later"
            )
        case status if status >= 500:
            return UnavailableError(f"{reference}: {tried}")
    return InvalidInputError(f"{reference}: the registry refuses: {tried}")


def _searched(term: str) -> tuple[str, str]:
    """Return the registry that is searched and the word: a first part that looks like a host is one."""
    head, slash, rest = term.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return head, rest
    return _HUB_INDEX, term.removeprefix("library/")


def _results(data: bytes, registry: str) -> list[SearchResult]:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        return [
            SearchResult(
                name=str(item["name"]),
                description=str(item.get("description") or ""),
                stars=int(item.get("star_count") or 0),
                official=item.get("is_official") is True,
            )
            for item in json.loads(data)["results"] or []
        ]
    raise UnavailableError(f"{registry} answers a search with something that is no list of results")


def _tag_names(data: bytes) -> list[str]:
    """Return the names of a list of tags (distribution specification, content discovery)."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        names = json.loads(data)["tags"] or []
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    raise UnavailableError("the registry gives no list of tags")


def _denied(reference: Reference) -> str:
    return (
        f"pull access denied for {reference.name}, repository does not exist or may require "
        f"'docker login': tried {host_of(reference.registry)}: denied"
    )


async def _detail(response: "aiohttp.ClientResponse") -> str:
    """Return what the registry says about its refusal (distribution specification, error codes)."""
    with contextlib.suppress(StackctlError, ValueError, TypeError, KeyError, AttributeError):
        errors = json.loads(await read_bounded(response, 65_536))["errors"]
        texts = [
            f"{str(item['code']).lower().replace('_', ' ')}: {item['message']}" for item in errors
        ]
        return "; ".join(texts)[:500]
    return ""


def _part_headers(at: int, length: int) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(length),
        "Content-Range": f"{at}-{at + length - 1}",
    }


def _whole_headers(size: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}


def _reader(
    path: Path, start: int, length: int, progress: Callable[[int], None] | None
) -> Callable[[], AsyncIterator[bytes]]:
    async def read() -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(open, path, "rb", 0)
        try:
            await asyncio.to_thread(file.seek, start)
            left = length
            while left:
                data = await asyncio.to_thread(file.read, min(left, _PIECE))
                if not data:
                    return
                left -= len(data)
                yield data
                if progress is not None:
                    progress(start + length - left)
        finally:
            file.close()

    return read
