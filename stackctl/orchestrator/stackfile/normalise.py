"""Implied things made explicit: the default network, names of resources, dependencies that links bring."""

import posixpath
from collections.abc import Mapping

from stackctl.orchestrator.stackfile.marks import Map, Raw, Seq, entries
from stackctl.orchestrator.stackfile.text import go_text

RESOURCES = ("networks", "volumes", "configs", "secrets")
_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def normalise(tree: Map, environment: Mapping[str, str]) -> None:
    """Normalise a merged tree in place."""
    _default_network(tree)
    for service in tree.get("services", {}).values():
        if isinstance(service, dict):
            _service(service, environment)
    _names(tree)


def _default_network(tree: Map) -> None:
    used = False
    for service in tree.get("services", {}).values():
        if not isinstance(service, dict) or "provider" in service or "network_mode" in service:
            continue
        networks = service.get("networks")
        if not networks:
            service["networks"] = {"default": None}
        used = used or "default" in service["networks"]
    if used:
        networks = tree.get("networks")
        if networks is None:
            networks = tree["networks"] = Map()
        networks.setdefault("default", None)


def _service(service: Raw, environment: Mapping[str, str]) -> None:
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    build = service.get("build")
    if isinstance(build, dict):
        if build.get("context") is None:
            build["context"] = "."
        if build.get("dockerfile") is None and build.get("dockerfile_inline") is None:
            build["dockerfile"] = "Dockerfile"
        if build.get("args") is not None:
            build["args"] = _resolved(build["args"], environment, keep=False)
    if service.get("environment") is not None:
        service["environment"] = _resolved(service["environment"], environment, keep=True)
    for mount in service.get("volumes") or ():
        if isinstance(mount, dict) and isinstance(mount.get("target"), str):
            mount["target"] = _clean(mount["target"])
    _implied_dependencies(service)


def _clean(path: str) -> str:
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def _implied_dependencies(service: Raw) -> None:
    implied: dict[str, bool] = {}
    for link in service.get("links") or ():
        parts = str(link).split(":")
        implied.setdefault(parts[0] if len(parts) == 2 else str(link), True)
    for namespace in _NAMESPACES:
        reference = service.get(namespace)
        if isinstance(reference, str) and reference.startswith("service:"):
            implied.setdefault(reference.removeprefix("service:"), True)
    for reference in service.get("volumes_from") or ():
        if isinstance(reference, str) and not reference.startswith("container:"):
            implied.setdefault(reference.split(":")[0], False)
    if not implied:
        return
    depends_on = service.get("depends_on")
    if depends_on is None:
        depends_on = service["depends_on"] = Map()
    for name, restart in implied.items():
        depends_on.setdefault(
            name, {"condition": "service_started", "restart": restart, "required": True}
        )


def _resolved(value: Raw, environment: Mapping[str, str], *, keep: bool) -> Raw:
    """Give variables without a value that of the environment; without ``keep``, drop those it lacks."""
    if isinstance(value, dict):
        made = Map()
        for name, item in value.items():
            if item is None and name in environment:
                made.take(name, value, environment[name])
            elif item is not None or keep:
                made.take(name, value)
        return made
    result = Seq()
    for item, mark in entries(value):
        text = item
        if isinstance(item, str) and "=" not in item:
            if item in environment:
                text = f"{item}={environment[item]}"
            elif not keep:
                continue
        result.put(text, mark)
    return result


def _names(tree: Map) -> None:
    """A resource without a name is called after stack and key; an external one after its key."""
    for kind in RESOURCES:
        resources = tree.get(kind)
        if not isinstance(resources, dict):
            continue
        for key, resource in resources.items():
            if resource is None:
                resource = resources[key] = {}
            if resource.get("name") is None:
                external = go_text(resource.get("external")).lower() in ("true", "1", "t")
                resource["name"] = key if external else f"{tree.get('name', '')}_{key}"
