"""Challenges and credentials of registries (RFC 9110 section 11; distribution's token authentication); pure."""

import base64
import re
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import urlsplit

from stackctl.contracts.registry import Credentials
from stackctl.errors import UnauthorizedError
from stackctl.frozen import frozen

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]*)(?:\s+|$)")
_PARAMETER = re.compile(r'\s*([A-Za-z_][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)?')
_MAX_HEADER = 16_384


@frozen
class Challenge:
    """One challenge of a WWW-Authenticate header: scheme in lower case, its parameters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(text: str) -> list[Challenge]:
    """Return the challenges of a WWW-Authenticate header; what cannot be read ends the list."""
    text = text[:_MAX_HEADER]
    found: list[Challenge] = []
    at = 0
    while at < len(text):
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        while (parameter := _PARAMETER.match(text, at)) is not None:
            quoted = parameter[2]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else parameter[3]
            parameters[parameter[1].lower()] = value
            at = parameter.end()
        found.append(Challenge(scheme=scheme[1].lower(), parameters=parameters))
        at += len(text[at:]) - len(text[at:].lstrip(" ,"))
    return found


def basic(username: str, password: str) -> str:
    """Return the header of the Basic scheme (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def check_realm(realm: str, *, plain_allowed: bool) -> None:
    """Refuse to ask a token where the answer or the credentials could be read on the way.

    Raises UnauthorizedError: a realm over plain HTTP is for a registry that is itself reached so.
    """
    parts = urlsplit(realm)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UnauthorizedError(f'the registry names no usable token service: "{realm[:200]}"')
    if parts.scheme == "http" and not plain_allowed:
        raise UnauthorizedError(
            f"the registry sends its users to {parts.hostname} over plain HTTP for a token",
            hint="credentials are only sent over TLS",
        )


def cache_key(credentials: Credentials | None) -> str:
    """Return what tells one user's tokens from another's."""
    if credentials is None:
        return ""
    return "\0".join(
        (
            credentials.username,
            credentials.password,
            credentials.identity_token,
            credentials.registry_token,
        )
    )
