"""Routes: from method and path to a handler, and from what it raises to an answer."""

import asyncio
import errno
import logging
import re
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from stackctl.api.codec import encode_object
from stackctl.api.versions import MAXIMUM, Version, split_path
from stackctl.daemon.call import JSON_TYPE, Call, Serving, base_headers
from stackctl.daemon.errors import status_of, text_of
from stackctl.errors import HostError, StackctlError

LOG = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]


class Router:
    """Finds handlers. Patterns name their variable parts: ``{id}`` is one segment, ``{name:*}`` may hold slashes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[tuple[str, str], Handler] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for method, path, handler in routes:
            if "{" not in path:
                self._exact[method, path] = handler
                continue
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
            pattern = re.sub(r"\{(\w+):\*\}", r"(?P<\1>.+)", pattern)
            key = (method, path.split("/", 2)[1])
            self._patterns.setdefault(key, []).append((re.compile(pattern), handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        if handler := self._exact.get((method, path)):
            return handler, {}
        for pattern, candidate in self._patterns.get((method, path.split("/", 2)[1]), ()):
            if match := pattern.fullmatch(path):
                return candidate, match.groupdict()
        return None


class BadRequestFilter(logging.Filter):
    """Keeps what is no HTTP at all out of the log, but for one line where every refused request has one."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            return True
        LOG.debug("no request: %s", " ".join(str(error).split())[:200])
        return False


class Application:
    """Answers requests; nothing that goes wrong in a handler gets past it."""

    def __init__(self, router: Router, serving: Serving) -> None:
        self._router = router
        self._serving = serving

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        version = MAXIMUM
        call: Call | None = None
        try:
            version, path = split_path(request.path)
            found = self._router.find(request.method, path.rstrip("/") or "/")
            if found is None:
                return _error(404, "page not found", version)
            handler, args = found
            call = Call(request, self._serving, version, args)
            return await handler(call)
        except asyncio.CancelledError:
            raise
        except ConnectionError:
            # The client left; nobody is there to be answered, and what it began was ended by the handler.
            if call is not None:
                call.cut()
            return web.Response()
        except StackctlError as error:
            return self._refuse(request, call, error, version)
        except web.HTTPException as error:
            return _error(error.status, error.reason or "bad request", version)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                full = HostError(
                    f"no space left for {error.filename or 'data'}", errno=errno.ENOSPC
                )
                return self._refuse(request, call, full, version)
            LOG.exception("%s %s failed unexpectedly", request.method, request.path_qs)
            if call is not None and call.started:
                call.cut()
            return _error(500, "internal error of the engine; its log has the details", version)

    def _refuse(
        self, request: web.BaseRequest, call: Call | None, error: StackctlError, version: Version
    ) -> web.StreamResponse:
        status = status_of(error)
        level = logging.ERROR if status == 500 else logging.DEBUG
        LOG.log(level, "%s %s: %d %s", request.method, request.path_qs, status, text_of(error))
        if call is not None and call.started:
            call.cut()
        if status == 304:
            return web.Response(status=304, headers=base_headers(version))
        return _error(status, text_of(error), version)


def _error(status: int, message: str, version: Version) -> web.StreamResponse:
    return web.Response(
        body=encode_object({"message": message}),
        status=status,
        headers={**base_headers(version), "Content-Type": JSON_TYPE},
    )
