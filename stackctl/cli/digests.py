"""Images of a stack pinned to the digests that their registries have."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from stackctl.errors import StackctlError, UnavailableError
from stackctl.oci.reference import parse_reference
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.orchestrator.stackfile.load import Loaded


def pinned(loaded: "Loaded", digest_of: Callable[[str], str]) -> "Loaded":
    """Return the stack with digests on the images of services; raises UnavailableError where one is not known."""
    tree = copy.deepcopy(loaded.tree)
    for name, service in _services(tree).items():
        image = service.get("image")
        if not isinstance(image, str) or not image:
            continue
        reference = parse_reference(image).with_default_tag()
        full = f"{reference.registry}/{reference.repository}"
        tag = f":{reference.tag}" if reference.tag else ""
        digest = reference.digest
        if not digest:
            try:
                digest = digest_of(f"{full}{tag}")
            except StackctlError as error:
                raise UnavailableError(
                    f"service {name}: cannot learn the digest of {image}: {error}",
                    hint=error.hint or "is its registry reachable from the engine?",
                ) from error
        service["image"] = f"{full}{tag}@{digest}"
    return replace(loaded, tree=tree)


def lock(loaded: "Loaded") -> "Loaded":
    """Return an override of a pinned stack: the images and nothing else."""
    images: JsonObject = {
        name: {"image": service["image"]}
        for name, service in _services(loaded.tree).items()
        if service.get("image")
    }
    return replace(loaded, tree={"services": images}, extensions={}, models={})


def _services(tree: JsonObject) -> dict[str, JsonObject]:
    services = tree.get("services")
    found = services.items() if isinstance(services, dict) else ()
    return {name: service for name, service in found if isinstance(service, dict)}
