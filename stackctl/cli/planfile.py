"""A plan kept in a file: what ``plan -o`` writes and ``up --plan`` applies, or refuses.

The file holds the request, the plan as ``plan --format json`` shows it, and *seals*: digests of all that the plan was
made from. Applying makes the plan anew from the same request and carries it out only when plan and seals are the
same; so a file never does something that was not in it when it was reviewed. Definitions and the content of configs
and secrets go in as digests keyed with the user's own key, never as values.

Form, ``format`` 1: {"format": 1, "stackctl": "…", "request": {flags of up}, "plan": {…}, "seals": {"service web": "…"}}
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from stackctl import __version__
from stackctl.cli.planned import UpRequest
from stackctl.errors import ConflictError, InvalidInputError
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.fingerprint import (
    Inputs,
    keyed_digest,
    network_fingerprint,
    service_fingerprint,
    volume_fingerprint,
)
from stackctl.orchestrator.planning.observed import Observed
from stackctl.orchestrator.planning.plan import Plan
from stackctl.values import Json, JsonObject

FORMAT = 1


def seals(stack: Stack, observed: Observed, inputs: Inputs) -> dict[str, str]:
    """Return what the plan rests on: a digest or an ID for each thing, by what it is."""
    wanted = {
        **{
            f"service {name}": f"{service_fingerprint(stack, service, inputs).definition}{service!r}"
            for name, service in stack.services.items()
        },
        **{
            f"network {item.name}": network_fingerprint(item).digest
            for item in stack.networks.values()
        },
        **{
            f"volume {item.name}": volume_fingerprint(item).digest
            for item in stack.volumes.values()
        },
        **{f"content of {name}": digest for name, digest in inputs.files.items()},
    }
    found = {key: keyed_digest(inputs.key, text.encode()) for key, text in wanted.items()}
    for container in observed.containers:
        state = "running" if container.running else container.state
        found[f"container {container.name}"] = f"{container.id} {state}"
    for name in {item.name for item in stack.networks.values()} & set(observed.networks):
        found[f"existing network {name}"] = observed.networks[name].id
    for name in {item.name for item in stack.volumes.values()} & set(observed.volumes):
        found[f"existing volume {name}"] = observed.volumes[name].labels.get(
            "io.stackctl.fingerprint", "-"
        )
    for service in stack.services.values():
        image = observed.image(service.image or stack.named(service.name))
        if image is not None:
            found[f"image {service.image or service.name}"] = image.id
    return found


def write(path: str, plan: Plan, request: UpRequest, sealed: Mapping[str, str]) -> None:
    """Write a plan for its owner's eyes only (0600); raises InvalidInputError when it cannot be written."""
    content: JsonObject = {
        "format": FORMAT,
        "stackctl": __version__,
        "request": _request(request),
        "plan": plan.to_json(),
        "seals": dict(sealed),
    }
    draft = Path(f"{path}.{os.getpid()}.part")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(content, indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        raise InvalidInputError(f"cannot write the plan to {path}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _request(request: UpRequest) -> JsonObject:
    return cast(JsonObject, json.loads(json.dumps(dataclasses.asdict(request))))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A plan as it was kept."""

    path: str
    request: UpRequest
    plan: JsonObject
    seals: Mapping[str, str]


def read(path: str) -> Kept:
    """Read a plan file; raises InvalidInputError for what is none."""
    hint = "stackctl plan -o FILE writes one"
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise InvalidInputError(f"cannot read the plan {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInputError(f"{path} is no plan: {error}", hint=hint) from error
    match content:
        case {"format": 1, "request": dict(flags), "plan": dict(plan), "seals": dict(sealed)}:
            pass
        case {"format": other} if other != FORMAT:
            raise InvalidInputError(f"{path} is a plan of format {other}; this stackctl reads 1")
        case _:
            raise InvalidInputError(f"{path} is no plan", hint=hint)
    try:
        services = tuple(str(name) for name in flags.pop("services", ()))
        request = UpRequest(services=services, **flags)
    except TypeError as error:
        raise InvalidInputError(f"{path} was made by another version of stackctl") from error
    return Kept(path=path, request=request, plan=plan, seals=sealed)


def check(kept: Kept, plan: Plan, sealed: Mapping[str, str]) -> None:
    """Raise ConflictError naming what moved on since the plan was kept."""
    moved = differences(kept.seals, sealed)
    now: Json = json.loads(json.dumps(plan.to_json()))
    if not moved and now == kept.plan:
        return
    lines = moved or ["what has to be done is another now"]
    raise ConflictError(
        f"the plan in {kept.path} no longer fits, nothing was changed:\n"
        + "\n".join(f"  {line}" for line in lines),
        hint="stackctl plan -o makes a new one",
    )


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return a line for each thing that differs."""
    lines = []
    for key in sorted({*before, *after}):
        if before.get(key) == after.get(key):
            continue
        if key not in after:
            lines.append(f"{key}: gone")
        else:
            lines.append(f"{key}: {'new' if key not in before else 'changed'}")
    return lines
