"""Call: one request being answered, with what handlers need of it; framework details stay here."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from aiohttp import web

from stackctl.api import times
from stackctl.api.auth import AUTH_HEADER, AuthConfig, decode_auth
from stackctl.api.codec import Reader, encode_object, parse_object
from stackctl.api.filters import Filters, parse_filters, until
from stackctl.api.versions import MAXIMUM, Version, text
from stackctl.contracts.registry import Credentials
from stackctl.daemon.errors import text_of
from stackctl.daemon.settings import Settings
from stackctl.engine.filters import PruneFilter
from stackctl.errors import InvalidInputError, StackctlError
from stackctl.frozen import frozen

if TYPE_CHECKING:
    from stackctl.engine.core import Engine

LOG = logging.getLogger(__name__)
_LONGEST_BODY = 16 * 1024 * 1024
_FALSE = frozenset({"", "0", "no", "false", "none"})
JSON_TYPE = "application/json"
TAR_TYPE = "application/x-tar"
BYTES_TYPE = "application/octet-stream"


@frozen
class Serving:
    """What every call is answered with. ``stopping`` is set when the daemon should end."""

    engine: "Engine"
    settings: Settings
    stopping: asyncio.Event
    started_at: float


class Call:
    """One request: path arguments, query, body, and the ways to answer."""

    __slots__ = ("args", "request", "serving", "started", "version")

    def __init__(
        self, request: web.BaseRequest, serving: Serving, version: Version, args: Mapping[str, str]
    ) -> None:
        self.request = request
        self.serving = serving
        self.version = version
        self.args = args
        self.started = False

    @property
    def engine(self) -> "Engine":
        return self.serving.engine

    # Query

    def text(self, name: str, default: str = "") -> str:
        return self.request.query.get(name, default)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a truth value as Docker reads it: "", 0, no, false and none are false, all else is true."""
        value = self.request.query.get(name)
        return default if value is None else value.lower() not in _FALSE

    def integer(self, name: str) -> int | None:
        """Return a number of the query; None when absent. Raises InvalidInputError."""
        value = self.request.query.get(name, "")
        if not value:
            return None
        try:
            return int(value[:20])
        except ValueError as error:
            raise InvalidInputError(f'invalid {name}: "{value[:80]}" is not a number') from error

    def instant(self, name: str) -> float:
        """Return seconds since the epoch, 0.0 when absent; raises InvalidInputError."""
        now = self.engine.world.clock.now()
        return times.parse_instant(self.text(name), field=name, now=now)

    def nanoseconds(self, name: str) -> int:
        """Return nanoseconds since the epoch, exact, 0 when absent; raises InvalidInputError."""
        now = self.engine.world.clock.now()
        return times.parse_nanoseconds(self.text(name), field=name, now=now)

    def filters(self, known: frozenset[str] = frozenset()) -> dict[str, tuple[str, ...]]:
        return parse_filters(self.text("filters"), known=known)

    def prune_filter(self, filters: Filters) -> PruneFilter:
        """Return what a prune's filters take; raises InvalidInputError."""
        return PruneFilter(
            until=until(filters, now=self.engine.world.clock.now()),
            labels=filters.get("label", ()),
            not_labels=filters.get("label!", ()),
        )

    # Body

    async def body(self) -> Reader:
        """Return the JSON object of the body; raises InvalidInputError."""
        data = bytearray()
        async for chunk in self.request.content.iter_any():
            data += chunk
            if len(data) > _LONGEST_BODY:
                raise InvalidInputError(
                    "the request body is too long", hint="at most 16 MiB of JSON"
                )
        return Reader(parse_object(bytes(data)))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        try:
            async for chunk in self.request.content.iter_any():
                yield chunk
        except web.HTTPException as error:
            raise InvalidInputError(f"the request body is broken: {error.reason}") from error

    def auth(self) -> Credentials | None:
        """Return what X-Registry-Auth carries; what cannot be read counts as nothing, as in Docker."""
        try:
            return credentials(decode_auth(self.request.headers.get(AUTH_HEADER, "")))
        except InvalidInputError:
            return None

    # Answer

    def json(self, body: object, *, status: int = 200) -> web.StreamResponse:
        return web.Response(
            body=encode_object(body),
            status=status,
            headers={**self.headers(), "Content-Type": JSON_TYPE},
        )

    def empty(self, status: int = 204) -> web.StreamResponse:
        return web.Response(status=status, headers=self.headers())

    def headers(self) -> dict[str, str]:
        return base_headers(self.version)

    async def stream(
        self, content_type: str, *, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Start an answer whose body is written bit by bit; its headers are sent at once."""
        response = web.StreamResponse(
            headers={**self.headers(), **(headers or {}), "Content-Type": content_type}
        )
        if self.request.version >= (1, 1):
            response.enable_chunked_encoding()
        self.started = True
        await response.prepare(self.request)
        return response

    async def pour(
        self,
        content_type: str,
        source: AsyncIterator[bytes],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Answer with a stream of bytes; an error before the first byte still has its own status.

        An error later cuts the connection, so that nobody takes half of it for the whole.
        """
        first = await anext(source, b"")
        response = await self.stream(content_type, headers=headers)
        try:
            await response.write(first)
            async for chunk in source:
                await response.write(chunk)
        except StackctlError as error:
            LOG.warning(
                "%s %s ended early: %s", self.request.method, self.request.path, text_of(error)
            )
            self.cut()
        await response.write_eof()
        return response

    def cut(self) -> None:
        """Close the connection without an orderly end."""
        if self.request.transport is not None:
            self.request.transport.abort()


def base_headers(version: Version) -> dict[str, str]:
    """Return the headers that every answer carries."""
    return {
        "Api-Version": text(version),
        "Docker-Experimental": "false",
        "Ostype": "linux",
        "Server": "Docker/stackctl (linux)",
    }


def ping_headers() -> dict[str, str]:
    """Return the headers of /_ping; the version is always the newest that is served."""
    return {
        **base_headers(MAXIMUM),
        "Builder-Version": "1",
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }


def credentials(auth: AuthConfig | None) -> Credentials | None:
    """Return credentials as the core takes them."""
    if auth is None:
        return None
    return Credentials(
        username=auth.username,
        password=auth.password,
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
        server_address=auth.server_address,
    )
