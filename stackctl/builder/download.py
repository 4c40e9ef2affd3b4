"""ADD of a URL: fetched to a file of its own."""

import asyncio
import email.utils
import hashlib
import http.client
import os
import posixpath
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from stackctl.errors import InvalidInputError, UnavailableError

_TIMEOUT = 60.0
_CHUNK = 1 << 20


def is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def url_name(url: str) -> str:
    """Return the file name in a URL, "" when it has none."""
    return posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))


async def download(url: str, target: Path, checksum: str) -> None:
    """Fetch the URL into the new file ``target``, mode 0600, its time the server's Last-Modified.

    Raises UnavailableError, or InvalidInputError when the checksum ("sha256:…") differs.
    """
    stopped = False

    def work() -> None:
        digest = hashlib.sha256()
        request = urllib.request.Request(url, headers={"User-Agent": "stackctl"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
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
        await asyncio.to_thread(work)
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"cannot download {url}: {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"cannot download {url}: {error}") from error
    finally:
        stopped = True
