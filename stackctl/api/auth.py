"""Registry credentials as the Docker Engine API carries them: base64url JSON in a header; pure."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import field

from stackctl.api.codec import Reader
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.values import JsonObject

AUTH_HEADER = "X-Registry-Auth"
CONFIG_HEADER = "X-Registry-Config"


@frozen
class AuthConfig:
    """AuthConfig of the Docker Engine API."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server_address: str = ""

    @property
    def empty(self) -> bool:
        return not (self.username or self.password or self.identity_token or self.registry_token)


def read_auth(reader: Reader) -> AuthConfig:
    """Return the credentials of an AuthConfig object; raises InvalidInputError naming the field."""
    username, password = reader.text("username"), reader.text("password")
    if not username and (combined := reader.text("auth")):
        username, password = _split_basic(combined)
    return AuthConfig(
        username=username,
        password=password,
        identity_token=reader.text("identitytoken"),
        registry_token=reader.text("registrytoken"),
        server_address=reader.text("serveraddress"),
    )


def decode_auth(header: str) -> AuthConfig | None:
    """Return what X-Registry-Auth holds; None for none or an empty one. Raises InvalidInputError."""
    if not header:
        return None
    auth = read_auth(Reader(_decode(header, AUTH_HEADER), AUTH_HEADER))
    return None if auth.empty else auth


def decode_config(header: str) -> Mapping[str, AuthConfig]:
    """Return what X-Registry-Config holds: credentials by registry. Raises InvalidInputError."""
    if not header:
        return {}
    reader = Reader(_decode(header, CONFIG_HEADER), CONFIG_HEADER)
    found = {name: read_auth(reader.child(name)) for name in reader.names()}
    return {name: auth for name, auth in found.items() if not auth.empty}


def encode_auth(auth: AuthConfig) -> str:
    """Return the header's text for credentials."""
    body = {
        "username": auth.username,
        "password": auth.password,
        "identitytoken": auth.identity_token,
        "registrytoken": auth.registry_token,
        "serveraddress": auth.server_address,
    }
    data = json.dumps({key: value for key, value in body.items() if value}).encode()
    return base64.urlsafe_b64encode(data).decode()


def _decode(header: str, name: str) -> JsonObject:
    padded = header + "=" * (-len(header) % 4)
    try:
        data = json.loads(base64.b64decode(padded.translate({45: 43, 95: 47}), validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise InvalidInputError(f"invalid {name} header: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInputError(f"invalid {name} header: not a JSON object")
    return data


def _split_basic(combined: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(combined).decode().partition(":")
    except (ValueError, binascii.Error):
        return "", ""
    return username, password.rstrip("\0")
