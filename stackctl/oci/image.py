"""Index, manifest and their descriptors (OCI image specification; Docker image manifest version 2, schema 2); pure.

A document says itself what it is, and may say it twice (media type and fields): where the two differ it is refused,
since another reader could take it for the other thing (CVE-2021-41190).
"""

import json
from collections.abc import Mapping
from dataclasses import field
from typing import cast

from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from stackctl.oci.digest import check_digest
from stackctl.oci.platform import Platform
from stackctl.values import Json, JsonObject

MAX_MANIFEST = 4 << 20
_MAX_SIZE = 1 << 50


@frozen
class Manifest:
    """An image: its config and its layers, lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)


@frozen
class Index:
    """Several manifests, one a platform."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)


def parse_manifest(data: bytes, content_type: str = "") -> Manifest | Index:
    """Return what the document is; ``content_type`` is what the registry called it, "" where nobody did.

    Raises InvalidInputError, also for a document that is two things at once.
    """
    tree = parse_object(data, "manifest")
    declared = tree.get("mediaType") or ""
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type not in INDEX_TYPES | MANIFEST_TYPES:
        content_type = ""
    if declared and content_type and declared != content_type:
        raise InvalidInputError(
            f"the manifest says it is {declared}, but was served as {content_type}"
        )
    if tree.get("schemaVersion") != 2:
        raise InvalidInputError(
            f"manifest schema version {tree.get('schemaVersion')} is not supported",
            hint="push the image again with a tool of the last years",
        )
    kind = str(declared or content_type or _guess(tree))
    if kind in MANIFEST_TYPES:
        _refuse(tree, kind, "manifests", "fsLayers")
        return Manifest(
            media_type=kind,
            config=_descriptor(tree.get("config"), "config"),
            layers=_descriptors(tree.get("layers"), "layers"),
            annotations=_texts(tree.get("annotations")),
        )
    if kind in INDEX_TYPES:
        _refuse(tree, kind, "config", "layers", "fsLayers")
        return Index(
            media_type=kind,
            manifests=_descriptors(tree.get("manifests"), "manifests"),
            annotations=_texts(tree.get("annotations")),
        )
    raise InvalidInputError(f"{kind or 'this document'} is not an image manifest")


def choose(index: Index, platform: Platform) -> Descriptor:
    """Return the manifest for the platform, the first that fits with the same variant preferred.

    Raises NotFoundError naming the platforms there are.
    """
    fitting = [
        item for item in index.manifests if item.platform and platform.accepts(item.platform)
    ]
    if not fitting and len(index.manifests) == 1 and index.manifests[0].platform is None:
        return index.manifests[0]
    if not fitting:
        known = sorted({str(item.platform) for item in index.manifests if item.platform})
        known = [text for text in known if not text.startswith("unknown")]
        raise NotFoundError(
            f"no matching manifest for {platform} in the manifest list entries",
            hint=f"there are {', '.join(known) or 'none'}",
        )
    exact = [
        item for item in fitting if item.platform and item.platform.variant == platform.variant
    ]
    return (exact or fitting)[0]


def manifest_bytes(document: Manifest | Index) -> bytes:
    """Return the document's JSON, always the same for the same value."""
    tree: JsonObject = {"schemaVersion": 2, "mediaType": document.media_type}
    if isinstance(document, Manifest):
        tree["config"] = descriptor_tree(document.config)
        tree["layers"] = [descriptor_tree(item) for item in document.layers]
    else:
        tree["manifests"] = [descriptor_tree(item) for item in document.manifests]
    if document.annotations:
        tree["annotations"] = dict(document.annotations)
    return json.dumps(tree, separators=(",", ":")).encode()


def descriptor_tree(descriptor: Descriptor) -> JsonObject:
    tree: JsonObject = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.platform:
        platform: JsonObject = {
            "architecture": descriptor.platform.architecture,
            "os": descriptor.platform.os,
        }
        if descriptor.platform.variant:
            platform["variant"] = descriptor.platform.variant
        tree["platform"] = platform
    if descriptor.annotations:
        tree["annotations"] = dict(descriptor.annotations)
    return tree


def parse_object(data: bytes, what: str) -> JsonObject:
    """Return a JSON object; raises InvalidInputError naming what it should have been."""
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"the {what} is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidInputError(f"the {what} is not a JSON object")
    return cast(JsonObject, tree)


def is_docker(document: Manifest | Index) -> bool:
    return document.media_type in (DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)


def _guess(tree: JsonObject) -> str:
    if "manifests" in tree and not ({"config", "layers", "fsLayers"} & set(tree)):
        return OCI_INDEX
    if "config" in tree and "layers" in tree and not ({"manifests", "fsLayers"} & set(tree)):
        return OCI_MANIFEST
    return ""


def _refuse(tree: JsonObject, kind: str, *fields: str) -> None:
    for name in fields:
        if name in tree:
            raise InvalidInputError(f'a {kind} should not have "{name}"')


def _descriptors(value: Json, where: str) -> tuple[Descriptor, ...]:
    if not isinstance(value, list):
        raise InvalidInputError(f'the manifest\'s "{where}" is not an array')
    return tuple(_descriptor(item, f"{where}[{number}]") for number, item in enumerate(value))


def _descriptor(value: Json, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidInputError(f'the manifest\'s "{where}" is not an object')
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise InvalidInputError(f'the manifest\'s "{where}" has no possible size')
    digest = value.get("digest")
    media_type = value.get("mediaType") or ""
    if not isinstance(digest, str) or not isinstance(media_type, str):
        raise InvalidInputError(f'the manifest\'s "{where}" has no digest or media type')
    return Descriptor(
        media_type=media_type,
        digest=check_digest(digest),
        size=size,
        platform=_platform(value.get("platform")),
        annotations=_texts(value.get("annotations")),
    )


def _platform(value: Json) -> Platform | None:
    if not isinstance(value, dict):
        return None
    return Platform(
        os=str(value.get("os") or ""),
        architecture=str(value.get("architecture") or ""),
        variant=str(value.get("variant") or ""),
    )


def _texts(value: Json) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: item for key, item in value.items() if isinstance(item, str)}
