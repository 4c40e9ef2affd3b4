"""Event messages; pure."""

from stackctl.engine.requests import Event
from stackctl.values import JsonObject


def event_body(event: Event) -> JsonObject:
    """Return one message; the fields ``status``, ``id`` and ``from`` are those of API 1.21 and still read."""
    body: JsonObject = {}
    if event.type in ("container", "image"):
        body["status"] = event.action
        if event.id:
            body["id"] = event.id
    if event.type == "container" and "image" in event.attributes:
        body["from"] = event.attributes["image"]
    body.update(
        {
            "Type": event.type,
            "Action": event.action,
            "Actor": {"ID": event.id, "Attributes": {**event.attributes}},
            "scope": "local",
            "time": event.time_ns // 10**9,
            "timeNano": event.time_ns,
        }
    )
    return body
