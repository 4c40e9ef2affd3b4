"""What a container, network or volume was made from, as a label: whether it is current, and what changed.

The *definition* of a service is the canonical form of all that its container is made from: defaults left out, names
as on the engine, inputs (configs, secrets) by a digest of their content. The container carries it in a label, so that
a plan can say which field changed; the *fingerprint* is its digest, with a version in front. Values that look secret
and the content of secrets and configs go in as digests keyed with a key that only the user has, so that a label gives
nothing away. The image is compared apart, by ID, since a pull or build may find that it is the same.
"""

import functools
import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import cast

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Strings
from stackctl.orchestrator.model.mounts import VolumeMount
from stackctl.orchestrator.model.network import Network
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning.plan import Change
from stackctl.values import Json, JsonObject

VERSION = "1"

_NOT_IN_CONTAINER = frozenset(
    {
        "name", "image", "build", "pull_policy", "pull_refresh_after", "provider", "models",
        "depends_on", "profiles", "scale", "deploy", "watch", "attach", "env_file", "label_file",
        "ready", "post_start", "pre_stop", "extensions", "environment", "networks", "volumes",
        "configs", "secrets",
    }
)  # fmt: skip
_CREDENTIALS = re.compile(
    r"(://[^/\s:@]*:)[^/\s@]+@"
)  # user:password@ of a URL, whatever it is called
_SECRET_WORDS = ("PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE", "AUTH")


@frozen
class Inputs:
    """What planning needs of the world besides the stack file.

    ``key`` makes digests of secret values; ``files`` are the keyed digests of the content of configs and secrets, by
    ``config:<key>`` and ``secret:<key>``.
    """

    key: bytes = b""
    files: Strings = EMPTY


@frozen
class Fingerprint:
    """``digest`` goes into the fingerprint label, ``definition`` into the definition label."""

    digest: str
    definition: str


def image_name(stack: Stack, name: str) -> str:
    """Return the reference of a service's image: its own, or the one a build without a name gets."""
    service = stack.services[name]
    return service.image or stack.named(service.name)


def keyed_digest(key: bytes, data: bytes) -> str:
    """Return a short digest that cannot be guessed back without the key."""
    return hashlib.blake2b(data, key=key[:64], digest_size=12).hexdigest()


def looks_secret(name: str) -> bool:
    """Tell whether a variable's value should not be shown, from its name."""
    upper = name.upper()
    return any(word in upper for word in _SECRET_WORDS)


def service_fingerprint(stack: Stack, service: Service, inputs: Inputs) -> Fingerprint:
    """Return the fingerprint of a service's containers."""
    return _seal(service_definition(stack, service, inputs))


def network_fingerprint(network: Network) -> Fingerprint:
    return _seal(_plain(network, without=frozenset({"key", "external", "extensions"})))


def volume_fingerprint(volume: Volume) -> Fingerprint:
    return _seal(_plain(volume, without=frozenset({"key", "external", "extensions"})))


def service_definition(stack: Stack, service: Service, inputs: Inputs) -> JsonObject:
    """Return the canonical form of what the service's containers are made from."""
    form = _plain(service, without=_NOT_IN_CONTAINER)
    form["image"] = service.image or stack.named(service.name)
    if service.environment:
        form["environment"] = {
            name: f"digest:{keyed_digest(inputs.key, value.encode())}"
            if looks_secret(name)
            else value
            for name, value in service.environment.items()
            if value is not None
        }
    if service.networks:
        form["networks"] = {
            stack.networks[key].name if key in stack.networks else key: _plain(endpoint)
            for key, endpoint in service.networks.items()
        }
    if service.volumes:
        form["volumes"] = {mount.target: _mount(stack, mount) for mount in service.volumes}
    for kind, references in (("config", service.configs), ("secret", service.secrets)):
        if references:
            form[f"{kind}s"] = {
                reference.source: {
                    **_plain(reference, without=frozenset({"source", "extensions"})),
                    "content": f"digest:{inputs.files.get(f'{kind}:{reference.source}', '')}",
                }
                for reference in references
            }
    if service.deploy is not None:
        kept = {
            name: _canonical(value)
            for name in ("limits", "reservations", "restart_policy")
            if (value := getattr(service.deploy, name)) is not None
        }
        if kept:
            form["deploy"] = kept
    return form


def changes(before: str, after: str) -> tuple[Change, ...]:
    """Return the fields in which two definitions (label texts) differ; empty when one cannot be read."""
    try:
        old, new = json.loads(before or "{}"), json.loads(after or "{}")
    except ValueError:
        return ()
    if not before or not isinstance(old, dict) or not isinstance(new, dict):
        return ()
    found: list[Change] = []
    _differ("", old, new, found)
    return tuple(found)


def _differ(at: str, old: JsonObject, new: JsonObject, found: list[Change]) -> None:
    for name in sorted({*old, *new}):
        left, right = old.get(name), new.get(name)
        if left == right:
            continue
        where = f"{at}.{name}" if at else name
        if isinstance(left, dict) and isinstance(right, dict):
            _differ(where, left, right, found)
        else:
            before, after = _shown(left), _shown(right)
            if before == after:
                after = f"{after} (another secret)"
            found.append(Change(field=where, before=before, after=after))


def _shown(value: Json) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.startswith("digest:"):
        return f"(secret {value[7:13]})"
    return _CREDENTIALS.sub(r"\1***@", json.dumps(value, sort_keys=True, ensure_ascii=False))


def _seal(form: JsonObject) -> Fingerprint:
    text = json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return Fingerprint(digest=f"{VERSION}:{digest}", definition=text)


def _mount(stack: Stack, mount: object) -> JsonObject:
    form = _plain(mount, without=frozenset({"target", "extensions"}))
    form["kind"] = type(mount).__name__
    if isinstance(mount, VolumeMount) and mount.source in stack.volumes:
        form["source"] = stack.volumes[mount.source].name
    return form


@functools.cache
def _fields(kind: Hashable) -> tuple[tuple[str, object], ...]:
    return tuple((field.name, field.default) for field in fields(cast(type, kind)))


def _plain(value: object, *, without: frozenset[str] = frozenset({"extensions"})) -> JsonObject:
    """Return the fields of a model value that are not at their defaults."""
    form: JsonObject = {}
    for name, default in _fields(cast(Hashable, type(value))):
        if name in without:
            continue
        item = getattr(value, name)
        if item is default or item == default:
            continue
        form[name] = _canonical(item)
    return form


def _canonical(value: object) -> Json:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if is_dataclass(value):
        return _plain(value)
    return str(value)
