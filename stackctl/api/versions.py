"""Versions of the Docker Engine API: which are served, and which one a request path names; pure."""

import re

from stackctl.errors import InvalidInputError

Version = tuple[int, int]

MINIMUM: Version = (1, 24)
MAXIMUM: Version = (1, 51)

_PREFIX = re.compile(r"/v([0-9]+)\.([0-9]+)(?=/|$)")


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def split_path(path: str) -> tuple[Version, str]:
    """Return the API version that a request path names (the newest when it names none) and the rest of the path.

    Raises InvalidInputError, in Docker's words, for a version that is not served.
    """
    match = _PREFIX.match(path)
    if match is None:
        return MAXIMUM, path
    version = (int(match[1][:9]), int(match[2][:9]))
    if version < MINIMUM:
        raise InvalidInputError(
            f"client version {text(version)} is too old. Minimum supported API version is {text(MINIMUM)}, "
            "please upgrade your client to a newer version"
        )
    if version > MAXIMUM:
        raise InvalidInputError(
            f"client version {text(version)} is too new. Maximum supported API version is {text(MAXIMUM)}"
        )
    return version, path[match.end() :] or "/"
