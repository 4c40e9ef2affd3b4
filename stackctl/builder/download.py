"""What is fetched by URL: to a file of its own (ADD), or as a stream (import)."""

import asyncio
import contextlib
import email.utils
import hashlib
import http.client
import os
import posixpath
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

from stackctl.errors import InvalidInputError, UnavailableError

_TIMEOUT = 60.0
_CHUNK = 1 << 20


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def url_name(url: str) -> str:
    """Return the file name in a URL, "" when it has none."""
    return posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


class Fetch:
    """A file being fetched, as an async context manager. ``size`` is its length in bytes, 0 where it is not told.

    Entering raises UnavailableError when the URL cannot be had.
    """

    def __init__(self, url: str) -> None:
        self.size = 0
        self._url = url
        self._answer: http.client.HTTPResponse | None = None
        # A read cannot be broken off from outside: what is being read is closed by its reader.
        self._turn = threading.Lock()
        self._reading = False
        self._over = False

    async def __aenter__(self) -> "Fetch":
        with _said(self._url):
            self._answer = await asyncio.to_thread(_opened, self._url)
        length = self._answer.headers.get("Content-Length") or ""
        self.size = int(length) if length.isascii() and length.isdigit() else 0
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._turn:
            self._over = True
            if self._answer is not None and not self._reading:
                self._answer.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they come. Raises UnavailableError when they break off."""
        with _said(self._url):
            while piece := await self._next():
                yield piece

    async def _next(self) -> bytes:
        answer = self._answer
        assert answer is not None
        self._reading = True

        def work() -> bytes:
            try:
                piece = answer.read1(_CHUNK)
                left = answer.length or 0
            finally:
                with self._turn:
                    self._reading = False
                    if self._over:
                        answer.close()
            if not piece and left:
                raise http.client.IncompleteRead(piece, left)
            return piece

        return await asyncio.to_thread(work)


def _opened(url: str) -> http.client.HTTPResponse:
    if not is_url(url):
        raise ValueError(
            f"{urllib.parse.urlsplit(url).scheme}:// is not fetched, only http:// and https://"
        )
    request = urllib.request.Request(url, headers={"User-Agent": "stackctl"})
    return cast(http.client.HTTPResponse, urllib.request.urlopen(request, timeout=_TIMEOUT))


@contextlib.contextmanager
def _said(url: str) -> Iterator[None]:
    """Turn what goes wrong with a URL into UnavailableError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"cannot download {url}: {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise UnavailableError(f"cannot download {url}: {reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"cannot download {url}: {error}") from error


async def download(url: str, target: Path, checksum: str) -> None:
    """Fetch the URL into the new file ``target``, mode 0600, its time the server's Last-Modified.

    Raises UnavailableError, or InvalidInputError when the checksum ("sha256:…") differs.
    """
    stopped = False

    def work() -> None:
        digest = hashlib.sha256()
        with _opened(url) as answer:
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                while not stopped and (piece := answer.read(_CHUNK)):
                    digest.update(piece)
                    file.write(piece)
            modified = email.utils.parsedate_to_datetime(
                answer.headers.get("Last-Modified") or "Thu, 01 Jan 1970 00:00:00 GMT"
            ).timestamp()
        os.utime(target, (modified, modified))
        if checksum and checksum != f"sha256:{digest.hexdigest()}":
            raise InvalidInputError(
                f"digest mismatch for {url}: sha256:{digest.hexdigest()} but {checksum} was asked for"
            )

    try:
        with _said(url):
            await asyncio.to_thread(work)
    finally:
        stopped = True
