"""Ask the engine what exists: four cheap calls at once."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.images import refresh_seconds
from stackctl.orchestrator.planning.observed import (
    Observed,
    ObservedContainer,
    ObservedImage,
    ObservedMount,
    ObservedNetwork,
    ObservedVolume,
    familiar,
)
from stackctl.values import Json, JsonObject

if TYPE_CHECKING:
    from stackctl.orchestrator.apply.contract import Engine
    from stackctl.orchestrator.model.stack import Stack

_EXITED = re.compile(r"^(?:Exited|Restarting) \((-?\d+)\)")


def observe(engine: "Engine", project: str) -> Observed:
    """Return the containers of the stack and every network, volume and image; raises what the engine raises."""
    answers: dict[str, list[JsonObject]] = {}
    failures: list[BaseException] = []

    def ask(name: str, call: Callable[[], list[JsonObject]]) -> None:
        try:
            answers[name] = call()
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failures.append(error)

    mine = {"label": [f"{labels.PROJECT}={project}"]}
    calls: dict[str, Callable[[], list[JsonObject]]] = {
        "networks": engine.list_networks,
        "volumes": engine.list_volumes,
        "images": engine.list_images,
    }
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in calls.items()]
    for thread in threads:
        thread.start()
    ask("containers", lambda: engine.list_containers(everything=True, filters=mine))
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    images: dict[str, ObservedImage] = {}
    for entry in answers["images"]:
        image = _image(entry)
        images[image.id] = image
        images.update(dict.fromkeys(image.references, image))
    return Observed(
        containers=tuple(
            sorted(map(container, answers["containers"]), key=lambda item: (item.name, item.id))
        ),
        networks={item.name: item for item in map(_network, answers["networks"])},
        volumes={item.name: item for item in map(_volume, answers["volumes"])},
        images=images,
    )


def relieves(engine: "Engine", stack: "Stack") -> bool:
    """Ask the engine whether it hands ports and names over, where a service would make use of that."""
    from stackctl.orchestrator.planning.updates import RELIEF, wants_start_first

    wanted = any(wants_start_first(service) for service in stack.services.values())
    return wanted and engine.offers(RELIEF)


def with_ages(engine: "Engine", stack: "Stack", observed: Observed) -> Observed:
    """Return what exists with the ages of the images whose services have a timed pull policy; asks for those only."""
    ages: dict[str, float] = {}
    for service in stack.services.values():
        timed = refresh_seconds(service.pull_policy, service.pull_refresh_after) is not None
        if timed and service.image and observed.image(service.image) is not None:
            about = engine.inspect_image(service.image).get("Metadata")
            text = str(about.get("LastTagTime", "")) if isinstance(about, dict) else ""
            ages[service.image] = _seconds_since(text)
    return replace(observed, ages=ages) if ages else observed


def _seconds_since(text: str) -> float:
    """Return the age of an instant; where the engine does not know, it is old."""
    import time
    from datetime import datetime

    try:
        # Nine decimals are more than it reads.
        then = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00")))
    except ValueError:
        return float("inf")
    return max(0.0, time.time() - then.timestamp())


def container(entry: JsonObject) -> ObservedContainer:
    """Return the container of one entry of ``GET /containers/json``."""
    carried = _labels(entry)
    status = _text(entry, "Status")
    exited = _EXITED.match(status)
    names = cast(list[str], entry.get("Names") or [""])
    number = carried.get(labels.NUMBER, "1")
    mounts = entry.get("Mounts")
    return ObservedContainer(
        id=_text(entry, "Id"),
        name=next((name for name in names if name.count("/") == 1), names[0]).lstrip("/"),
        service=carried.get(labels.SERVICE, ""),
        number=int(number) if number.isdigit() else 1,
        oneoff=carried.get(labels.ONEOFF, "").lower() == "true",
        state=_text(entry, "State"),
        health=_health(status),
        exit_code=int(exited[1]) if exited else 0,
        image=_text(entry, "Image"),
        image_id=_text(entry, "ImageID"),
        labels=carried,
        networks=_networks(entry.get("NetworkSettings")),
        mounts=tuple(map(_mount, cast(list[JsonObject], mounts)))
        if isinstance(mounts, list)
        else None,
    )


def _health(status: str) -> str:
    if "(unhealthy)" in status:
        return "unhealthy"
    if "(healthy)" in status:
        return "healthy"
    return "starting" if "(health: starting)" in status else ""


def _networks(settings: Json) -> dict[str, str]:
    joined = settings.get("Networks") if isinstance(settings, dict) else None
    if not isinstance(joined, dict):
        return {}
    return {
        name: _text(endpoint, "NetworkID") if isinstance(endpoint, dict) else ""
        for name, endpoint in joined.items()
    }


def _mount(entry: JsonObject) -> ObservedMount:
    kind = _text(entry, "Type")
    return ObservedMount(
        type=kind,
        source=_text(entry, "Name") if kind == "volume" else _text(entry, "Source"),
        target=_text(entry, "Destination"),
        read_only=entry.get("RW") is False,
    )


def _network(entry: JsonObject) -> ObservedNetwork:
    return ObservedNetwork(
        id=_text(entry, "Id"),
        name=_text(entry, "Name"),
        driver=_text(entry, "Driver"),
        labels=_labels(entry),
    )


def _volume(entry: JsonObject) -> ObservedVolume:
    return ObservedVolume(
        name=_text(entry, "Name"), driver=_text(entry, "Driver"), labels=_labels(entry)
    )


def _image(entry: JsonObject) -> ObservedImage:
    tags = cast(list[str], entry.get("RepoTags") or [])
    digests = cast(list[str], entry.get("RepoDigests") or [])
    return ObservedImage(
        id=_text(entry, "Id"),
        references=tuple(familiar(name) for name in (*tags, *digests) if "<none>" not in name),
        labels=_labels(entry),
    )


def _labels(entry: JsonObject) -> dict[str, str]:
    found = entry.get("Labels")
    return cast(dict[str, str], found) if isinstance(found, dict) else {}


def _text(entry: JsonObject, name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
