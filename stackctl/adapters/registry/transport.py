"""HTTP to registries: finds the scheme, answers challenges, follows redirects, retries; one session for all.

Credentials go to the registry and to the token service it names, never along a redirect to another host.
"""

import asyncio
import contextlib
import email.utils
import json
import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import cast
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from stackctl.adapters.registry.auth import (
    Challenge,
    basic,
    cache_key,
    check_realm,
    parse_challenges,
)
from stackctl.adapters.registry.endpoints import (
    Endpoint,
    certs_homes,
    endpoints,
    proxy_for,
    tls_context,
)
from stackctl.contracts.clock import Clock
from stackctl.contracts.registry import Credentials
from stackctl.errors import StackctlError, UnauthorizedError, UnavailableError
from stackctl.frozen import frozen

_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 60.0
_ATTEMPTS = 5
_MAX_WAIT = 30.0
_MAX_REDIRECTS = 5
_MAX_TOKEN = 1 << 20
_TOKEN_LIFE = 60.0
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
USER_AGENT = "stackctl/0.1"


@frozen
class Call:
    """One request. ``path`` is below /v2/, or an absolute URL a registry gave; ``body`` makes the body anew a try."""

    registry: str
    method: str
    path: str
    credentials: Credentials | None = None
    scope: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], AsyncIterator[bytes]] | bytes | None = None


class Transport:
    """Sends calls. ``insecure`` lists registries that may be reached without verified TLS."""

    def __init__(self, clock: Clock, insecure: Collection[str], certs: Collection[Path]) -> None:
        self._clock = clock
        self._insecure = insecure
        self._certs = certs
        self._session: aiohttp.ClientSession | None = None
        self._found: dict[str, Endpoint] = {}
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}
        self._tokens: dict[tuple[str, str, str], tuple[str, float]] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, call: Call) -> "aiohttp.ClientResponse":
        """Return the answer, whatever its status but 401s that credentials answer and what a retry may cure.

        The caller releases it. Raises UnavailableError when the registry cannot be reached or stays busy,
        UnauthorizedError when no token is given.
        """
        attempt = 0
        while True:
            attempt += 1
            response = await self._authorised(call)
            if response.status not in _RETRIED or attempt >= _ATTEMPTS:
                return response
            wait = _retry_after(response, attempt, self._clock.now())
            response.release()
            await self._clock.sleep(wait)

    async def endpoint(self, registry: str) -> Endpoint:
        """Return the way to a registry that answered. Raises UnavailableError naming what was tried."""
        known = self._found.get(registry)
        if known is not None:
            return known
        failures = []
        for candidate in endpoints(registry, self._insecure):
            try:
                response = await self._raw(
                    registry, candidate, "GET", f"{candidate.base}/v2/", {}, None
                )
            except UnavailableError as error:
                failures.append(f"{error.message} ({urlsplit(candidate.base).scheme})")
                continue
            response.release()
            self._found[registry] = candidate
            return candidate
        raise UnavailableError("; ".join(failures), hint=_cure(registry, failures))

    async def _authorised(self, call: Call) -> "aiohttp.ClientResponse":
        way = await self.endpoint(call.registry)
        key = (call.registry, call.scope, cache_key(call.credentials))
        authorization = self._cached(key)
        response = await self._follow(call, way, authorization)
        if response.status != 401:
            return response
        challenges = parse_challenges(", ".join(response.headers.getall("WWW-Authenticate", [])))
        authorization, life = await self._answer(call, way, challenges)
        if not authorization:
            return response
        response.release()
        self._tokens[key] = (authorization, self._clock.monotonic() + life)
        return await self._follow(call, way, authorization)

    def _cached(self, key: tuple[str, str, str]) -> str:
        authorization, until = self._tokens.get(key, ("", 0.0))
        if authorization and self._clock.monotonic() >= until:
            del self._tokens[key]
            return ""
        return authorization

    async def _follow(
        self, call: Call, way: Endpoint, authorization: str
    ) -> "aiohttp.ClientResponse":
        url = (
            urljoin(f"{way.base}/v2/", call.path) if not call.path.startswith("http") else call.path
        )
        for _ in range(_MAX_REDIRECTS):
            headers = {**call.headers}
            if authorization and _same_host(url, way.base):
                headers["Authorization"] = authorization
            response = await self._raw(call.registry, way, call.method, url, headers, call.body)
            target = response.headers.get("Location", "")
            if (
                response.status not in _REDIRECTS
                or not target
                or call.method not in ("GET", "HEAD")
            ):
                return response
            response.release()
            url = urljoin(url, target)
            if urlsplit(url).scheme == "http" and way.base.startswith("https:") and way.verify:
                raise UnavailableError(
                    f"{call.registry} redirects to {urlsplit(url).hostname} over plain HTTP"
                )
        raise UnavailableError(f"{call.registry} redirects in circles")

    async def _answer(
        self, call: Call, way: Endpoint, challenges: list[Challenge]
    ) -> tuple[str, float]:
        """Return the Authorization header that answers a challenge and its life in seconds; "" when there is none."""
        credentials = call.credentials
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                if credentials and credentials.registry_token:
                    return f"Bearer {credentials.registry_token}", _TOKEN_LIFE
                token, life = await self._token(call, way, challenge)
                return f"Bearer {token}", life
            if challenge.scheme == "basic" and credentials and credentials.username:
                return basic(credentials.username, credentials.password), 3600.0
        return "", 0.0

    async def _token(self, call: Call, way: Endpoint, challenge: Challenge) -> tuple[str, float]:
        realm = challenge.parameters["realm"]
        check_realm(realm, plain_allowed=not way.verify or way.base.startswith("http:"))
        answer = await self.fetch_token(call, way, challenge)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token:
            raise UnauthorizedError(f"the token service of {call.registry} gave no token")
        life = answer.get("expires_in")
        # Ten seconds less, so that a token does not run out on the way.
        return token, max(
            float(life) if isinstance(life, int | float) else _TOKEN_LIFE, 20.0
        ) - 10.0

    async def fetch_token(
        self, call: Call, way: Endpoint, challenge: Challenge
    ) -> dict[str, object]:
        """Ask the token service (distribution, token.md; with an identity token oauth2.md)."""
        realm, credentials = challenge.parameters["realm"], call.credentials
        # One parameter a scope (distribution, token.md), where oauth2.md has them in one.
        scopes = (call.scope or challenge.parameters.get("scope", "")).split()
        query: dict[str, str | list[str]] = {}
        if service := challenge.parameters.get("service", ""):
            query["service"] = service
        if scopes:
            query["scope"] = scopes
        headers: dict[str, str] = {}
        if credentials and credentials.identity_token:
            form = {
                **query, "scope": " ".join(scopes), "grant_type": "refresh_token", "client_id": "stackctl",
                "refresh_token": credentials.identity_token,
            }  # fmt: skip
            body = str(URL.build(query=form))[1:].encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            response = await self._raw(call.registry, way, "POST", realm, headers, body)
        else:
            if credentials and credentials.username:
                query["account"] = credentials.username
                headers["Authorization"] = basic(credentials.username, credentials.password)
            url = str(URL(realm).update_query(query))
            response = await self._raw(call.registry, way, "GET", url, headers, None)
        try:
            if response.status in (400, 401, 403):
                raise UnauthorizedError(
                    f"{call.registry} refuses the credentials"
                    if credentials
                    else f"{call.registry} gives no token without credentials",
                    hint="log in first",
                )
            if response.status != 200:
                raise UnavailableError(
                    f"the token service of {call.registry} answers {response.status}"
                )
            data = await read_bounded(response, _MAX_TOKEN)
            tree = json.loads(data)
        except ValueError as error:
            raise UnavailableError(f"the token service of {call.registry} gives no JSON") from error
        finally:
            response.release()
        return cast(dict[str, object], tree) if isinstance(tree, dict) else {}

    async def _raw(
        self,
        registry: str,
        way: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Callable[[], AsyncIterator[bytes]] | bytes | None,
    ) -> "aiohttp.ClientResponse":
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, connect=None, sock_connect=_CONNECT_TIMEOUT, sock_read=_READ_TIMEOUT
            )
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        parts = urlsplit(url)
        host = parts.hostname or registry
        try:
            return await self._session.request(
                method,
                URL(url, encoded=True),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
                data=body() if callable(body) else body,
                allow_redirects=False,
                ssl=await self._tls(registry, way, parts.scheme, parts.netloc),
                proxy=proxy_for(parts.scheme, host),
            )
        except aiohttp.ClientConnectorDNSError as error:
            raise UnavailableError(f"tried {host}: the name cannot be resolved") from error
        except (aiohttp.ClientError, TimeoutError, socket.gaierror, ConnectionError) as error:
            raise UnavailableError(f"tried {parts.netloc or host}: {_reason(error)}") from error
        except ssl.SSLError as error:
            raise UnavailableError(f"tried {host}: {error}") from error

    async def _tls(
        self, registry: str, way: Endpoint, scheme: str, netloc: str
    ) -> ssl.SSLContext | bool:
        if scheme != "https":
            return True
        # The registry's own certificates and laxness count for its own host only.
        own = _same_host(f"https://{netloc}", way.base.replace("http:", "https:"))
        name = registry if own else netloc
        verify = way.verify or not own
        homes = await asyncio.to_thread(certs_homes, name, self._certs)
        key = (name, verify, homes)
        if key not in self._contexts:
            self._contexts[key] = await asyncio.to_thread(
                tls_context, name, [home for home, _ in homes], verify=verify
            )
        return self._contexts[key]


async def read_bounded(response: "aiohttp.ClientResponse", limit: int) -> bytes:
    """Return a whole body of at most ``limit`` bytes. Raises UnavailableError when it is longer or cut short."""
    parts: list[bytes] = []
    length = 0
    try:
        async for chunk in response.content.iter_any():
            length += len(chunk)
            if length > limit:
                raise UnavailableError(f"{response.url.host} answers with more than {limit} bytes")
            parts.append(chunk)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnavailableError(f"{response.url.host}: {_reason(error)}") from error
    return b"".join(parts)


def host_of(registry: str) -> str:
    """Return the host that a registry's name stands for."""
    return urlsplit(endpoints(registry, ())[0].base).netloc


def with_context(error: StackctlError, text: str) -> StackctlError:
    """Return the same kind of error with words before its message."""
    return type(error)(f"{text}: {error.message}", hint=error.hint)


def _same_host(url: str, base: str) -> bool:
    one, other = urlsplit(url), urlsplit(base)
    return (one.scheme, one.netloc.lower()) == (other.scheme, other.netloc.lower())


def _retry_after(response: "aiohttp.ClientResponse", attempt: int, now: float) -> float:
    """Return how long to wait: what the registry asks for, in seconds or as a date (RFC 9110, 10.2.3), else more each time."""
    asked = response.headers.get("Retry-After", "")
    if asked.isascii() and asked.isdigit():
        return min(float(asked), _MAX_WAIT)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return min(max(email.utils.parsedate_to_datetime(asked).timestamp() - now, 0.0), _MAX_WAIT)
    return min(0.5 * 2.0 ** (attempt - 1), _MAX_WAIT) * random.uniform(0.8, 1.2)


def _cure(registry: str, failures: Sequence[str]) -> str:
    """Return what can be done about a registry that cannot be reached."""
    text = " ".join(failures).lower()
    if "certificate" in text:
        return f"put its authority's certificate into /etc/stackctl/certs.d/{registry}/ca.crt"
    if "wrong_version_number" in text or "record layer failure" in text or "wrong version" in text:
        return (
            f'{registry} speaks plain HTTP: name it in "insecure-registries" of '
            "/etc/stackctl/engine.json if that is meant"
        )
    return "check the name of the registry and the network connection"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    inner = getattr(error, "os_error", None)
    if isinstance(inner, OSError) and inner.strerror:
        # asyncio's own words name its calls.
        plain = inner.errno and not isinstance(inner, ssl.SSLError)
        return os.strerror(inner.errno).lower() if plain and inner.errno else inner.strerror
    return str(error) or type(error).__name__
