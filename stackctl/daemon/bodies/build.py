"""The body of a build whose context is a directory of this machine: read where it is, not sent.

``POST /build`` takes it in place of a tar when its content type is LOCAL_TYPE. It carries what the classic wire has no
place for as well: named contexts, secrets, SSH agents and where the result goes. Announced as the feature
"build.local" in /_stackctl/v1/info. Whoever may use the socket equals root, so no path is closed to them anyway.
"""

import base64
import binascii
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.api.codec import Reader
from stackctl.api.filters import Filters, atoi
from stackctl.api.gotime import filter_instant
from stackctl.errors import InvalidInputError, NotFoundError, UnsupportedError
from stackctl.oci.reference import parse_reference

if TYPE_CHECKING:
    from stackctl.builder.request import BuildRequest, CachePlace, CachePrune

_PRUNE_KEYS = frozenset(
    {"description", "id", "inuse", "label", "label!", "parent", "private", "shared", "type"}
    | {"unused-for", "until"}
)
_STEP, _MOUNT = "regular", "exec.cachemount"
LOCAL_TYPE = "application/vnd.stackctl.build.v1+json"
FEATURE = "build.local"
_IMAGE = "docker-image://"


def check_space(name: str, text: str) -> None:
    """Raise InvalidInputError when a limit of POST /build/prune is no number of bytes."""
    try:
        atoi(text)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{name} is in bytes and expects an integer, got {text}: {error.message}"
        ) from error


def read_prune(filters: Filters, *, now: float) -> "CachePrune":
    """Return what of the build cache goes; raises InvalidInputError in Docker's words.

    Steps here have an ID, a type and a time of use; what a filter asks for beside those, none of them has.
    """
    from stackctl.builder.request import CachePrune

    try:
        until = _prune_until(filters, now)
        for key, values in filters.items():
            if key not in _PRUNE_KEYS:
                raise InvalidInputError(f"invalid filter '{key}'")
            if len(values) > 1 and not key.startswith("label"):
                raise InvalidInputError("filters expect only one value")
    except InvalidInputError as error:
        raise InvalidInputError(f"failed to prune build cache: {error.message}") from error
    part = "".join(filters.get("id", ()))
    kind = "".join(filters.get("type", ()))
    other = any(filters.get(key) for key in ("description", "inuse", "parent", "shared"))
    return CachePrune(
        part=part,
        until=until,
        steps=kind in ("", _STEP) and not other,
        mounts=kind in ("", _MOUNT) and not other and not part and until is None,
    )


def _prune_until(filters: Filters, now: float) -> float | None:
    if filters.get("until") and filters.get("unused-for"):
        raise InvalidInputError('conflicting filters: "until" and "unused-for"')
    key = "unused-for" if filters.get("unused-for") else "until"
    values = filters.get(key, ())
    if len(values) != 1:
        return None
    try:
        return filter_instant(values[0], now=now)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"\"{key}\" filter expects a duration (e.g., '24h') or a timestamp: {error.message}"
        ) from error


def with_local(request: "BuildRequest", body: Reader) -> "BuildRequest":
    """Return the request with what the body says. Blocks.

    Raises InvalidInputError, NotFoundError for a directory that is not (or not the same) here, UnsupportedError.
    """
    from stackctl.builder.request import BuildResult

    contexts: dict[str, Path | str] = {}
    named = body.child("contexts")
    for name in named.names():
        contexts[name.lower()] = _named(name, named.text(name))
    secrets = body.child("secrets")
    ssh = body.child("ssh")
    output = body.child("output")
    result = None
    push = output.text("push") == "true"
    if kind := output.text("type"):
        if kind not in ("tar", "local", "oci", "docker"):
            raise UnsupportedError(
                f'a build result of type "{kind}" is not offered: local, tar, oci or docker'
            )
        result = BuildResult(kind=kind, path=_absolute(output.text("path"), "output"))
    text = body.text("dockerfile")
    return replace(
        request,
        context=_context(body.child("context")),
        dockerfile_text=text if body.has("dockerfile") else None,
        contexts=contexts,
        secrets={name: _bytes(secrets.text(name), name) for name in secrets.names()},
        ssh={name: _socket(ssh.text(name), name) for name in ssh.names()},
        privileged=body.boolean("privileged"),
        host_network=body.boolean("host_network"),
        tags=tuple(dict.fromkeys((*request.tags, *map(_tag, body.texts("tags"))))),
        no_cache_filter=tuple(name.lower() for name in body.texts("no_cache_filter")),
        cache_sources=tuple(_place(item, "cache_from") for item in body.children("cache_from")),
        cache_targets=tuple(_place(item, "cache_to") for item in body.children("cache_to")),
        result=result,
        push=push,
        check=body.boolean("check"),
    )


def _tag(text: str) -> str:
    return str(parse_reference(text).with_default_tag())


def _place(reader: Reader, what: str) -> "CachePlace":
    from stackctl.builder.request import CachePlace

    path, reference = reader.text("path"), reader.text("reference")
    if reference:
        parse_reference(reference)
    return CachePlace(
        path=None if reference else _absolute(path, what),
        reference=reference,
        everything=reader.text("mode") != "min",
        lenient=reader.boolean("ignore_error"),
    )


def _context(reader: Reader) -> Path | str:
    from stackctl.builder.remote import is_remote

    remote = reader.text("remote")
    if not remote:
        return _directory(reader)
    if not is_remote(remote):
        raise UnsupportedError(
            f"the build context {remote[:200]} is of no kind that is offered",
            hint="a directory, a git repository, or an http:// or https:// URL",
        )
    return remote


def _directory(reader: Reader) -> Path:
    """Return the context; its device and inode tell that client and engine see the same directory."""
    path = _absolute(reader.text("path"), "context")
    try:
        found = path.stat()
    except OSError as error:
        raise NotFoundError(f"the build context {path} is not here: {error.strerror}") from error
    if (found.st_dev, found.st_ino) != (reader.integer("device"), reader.integer("inode")):
        raise NotFoundError(f"the build context {path} is another directory for the engine")
    return path


def _named(name: str, text: str) -> Path | str:
    from stackctl.builder.layout import is_layout, parse_place
    from stackctl.builder.remote import is_remote

    if text.startswith(_IMAGE):
        return text.removeprefix(_IMAGE)
    if is_layout(text):
        parse_place(text)
        return text
    if is_remote(text):
        return text
    if "://" in text:
        scheme = text.partition("://")[0]
        raise UnsupportedError(
            f'the build context "{name}" of kind {scheme}:// is not offered',
            hint="a directory, docker-image://NAME, oci-layout://DIRECTORY, a git repository or a URL",
        )
    path = _absolute(text, f'the build context "{name}"')
    if not path.is_dir():
        raise NotFoundError(f'the build context "{name}" is no directory: {path}')
    return path


def _socket(text: str, name: str) -> Path:
    path = _absolute(text, f'ssh "{name}"')
    if not path.is_socket():
        raise InvalidInputError(
            f'ssh "{name}": {path} is not the socket of an SSH agent',
            hint="start ssh-agent and add the key to it",
        )
    return path


def _bytes(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError(f'the secret "{name}" is not base64') from error


def _absolute(text: str, what: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise InvalidInputError(f'{what}: "{text[:200]}" is not an absolute path')
    return path
