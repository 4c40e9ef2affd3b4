"""How docker's ``buildx bake`` would build the services: the JSON that ``build --print`` shows; pure.

The form is that of docker compose: a target a service, and a group with all of them.
"""

import os
from collections.abc import Mapping, Sequence

from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.fingerprint import image_name
from stackctl.values import Json, JsonObject


def bake(
    stack: Stack, services: Sequence[str], args: Mapping[str, str | None], *, push: bool = False
) -> JsonObject:
    """Return the bake file of services; ``args`` go before their own."""
    return {
        "group": {"default": {"targets": [*services]}},
        "target": {name: _target(stack, name, args, push=push) for name in sorted(services)},
    }


def _target(stack: Stack, name: str, args: Mapping[str, str | None], *, push: bool) -> JsonObject:
    build = stack.services[name].build or Build()
    known = {key: value for key, value in {**build.args, **args}.items() if value is not None}
    carried = {
        **build.labels,
        labels.PROJECT: stack.name,
        labels.SERVICE: name,
        labels.VERSION: labels.COMPOSE_VERSION,
    }
    several = len(build.platforms) > 1
    fields: dict[str, Json] = {
        "context": build.context,
        "contexts": {
            key: _context(stack, text) for key, text in sorted(build.additional_contexts.items())
        },
        "dockerfile": "" if build.dockerfile_inline else _dockerfile(build),
        "dockerfile-inline": build.dockerfile_inline,
        "args": dict(known),
        "labels": dict(sorted(carried.items())),
        "tags": [*build.tags, image_name(stack, name)],
        "cache-from": [*build.cache_from],
        "cache-to": [*build.cache_to],
        "target": build.target,
        "secret": [_secret(stack, one.source, one.target) for one in build.secrets],
        "ssh": [f"{one.id}={one.path}" for one in build.ssh],
        "platforms": [*build.platforms],
        "pull": build.pull,
        "no-cache": build.no_cache,
        "no-cache-filter": [*build.no_cache_filter],
        "network": build.network,
        "shm-size": str(build.shm_size) if build.shm_size else "",
        "ulimits": [
            f"{key}={limit.soft}" + (f":{limit.hard}" if limit.hard != limit.soft else "")
            for key, limit in sorted(build.ulimits.items())
        ],
        "entitlements": [
            *build.entitlements,
            *(["security.insecure"] if build.privileged else []),
        ],
        "extra-hosts": {
            key: value for key, _, value in (_host(text) for text in build.extra_hosts)
        },
        "output": [f"type=image,push={str(push).lower()}" if several or push else "type=docker"],
        "attest": [
            text
            for kind, value in (("provenance", build.provenance), ("sbom", build.sbom))
            if (text := _attestation(kind, value))
        ],
    }
    # What is not asked for is not said.
    return {key: value for key, value in fields.items() if value}


def asks_for(value: str) -> bool:
    """Tell whether the text of ``provenance`` or ``sbom`` asks for an attestation."""
    return value.lower() not in ("", "false", "0", "disabled=true")


def _attestation(kind: str, value: str) -> str:
    if not asks_for(value):
        return ""
    return f"type={kind}" if value.lower() in ("true", "1") else f"type={kind},{value}"


def _context(stack: Stack, text: str) -> str:
    if text.startswith("service:"):
        return f"docker-image://{image_name(stack, text.removeprefix('service:'))}"
    return text


def _dockerfile(build: Build) -> str:
    name = build.dockerfile
    if not name or "://" in build.context:
        return name
    return os.path.normpath(f"{build.context}/{name}" if not name.startswith("/") else name)


def _secret(stack: Stack, source: str, target: str) -> str:
    item = stack.secrets.get(source)
    if item is not None and item.file:
        return f"id={target or source},type=file,src={item.file}"
    return f"id={target or source},type=env,env={item.environment if item is not None else source}"


def _host(text: str) -> tuple[str, str, str]:
    mark = min((text.find(char) for char in "=:" if char in text), default=len(text))
    return text[:mark], text[mark : mark + 1], text[mark + 1 :]
