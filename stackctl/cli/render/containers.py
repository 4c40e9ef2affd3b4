"""Containers as ``ps`` shows them: a value read from the engine's list, a table, JSON in docker compose's words."""

import time
from collections.abc import Sequence
from typing import cast

from stackctl.cli.render import tables
from stackctl.frozen import frozen
from stackctl.values import Json, JsonObject


@frozen
class Listed:
    """One entry of GET /containers/json, as far as the command line needs it."""

    id: str
    name: str
    image: str
    command: str
    created: float
    state: str
    status: str
    labels: dict[str, str]
    ports: tuple[JsonObject, ...]
    networks: tuple[str, ...]
    image_id: str = ""
    volumes: tuple[str, ...] = ()

    @property
    def project(self) -> str:
        return self.labels.get("com.docker.compose.project", "")

    @property
    def service(self) -> str:
        return self.labels.get("com.docker.compose.service", "")

    @property
    def number(self) -> int:
        text = self.labels.get("com.docker.compose.container-number", "0")
        return int(text) if text.isdigit() else 0

    @property
    def health(self) -> str:
        """Say "healthy", "unhealthy", "starting" or "" as the status sentence does."""
        for word in ("unhealthy", "healthy"):
            if f"({word})" in self.status:
                return word
        return "starting" if "(health: starting)" in self.status else ""

    @property
    def exit_code(self) -> int:
        _, paren, rest = self.status.partition("(")
        code = rest.partition(")")[0]
        return int(code) if paren and code.lstrip("-").isdigit() else 0


def listed(entry: JsonObject) -> Listed:
    """Read one entry of the engine's list."""
    names = cast(list[str], entry.get("Names") or ["/"])
    settings = cast(JsonObject, entry.get("NetworkSettings") or {})
    return Listed(
        id=str(entry.get("Id", "")),
        name=names[0].lstrip("/"),
        image=str(entry.get("Image", "")),
        command=str(entry.get("Command", "")),
        created=float(cast(float, entry.get("Created") or 0)),
        state=str(entry.get("State", "")),
        status=str(entry.get("Status", "")),
        labels=cast(dict[str, str], entry.get("Labels") or {}),
        ports=tuple(cast(list[JsonObject], entry.get("Ports") or [])),
        networks=tuple(cast(JsonObject, settings.get("Networks") or {})),
        image_id=str(entry.get("ImageID", "")),
        volumes=tuple(
            str(mount.get("Name"))
            for mount in cast(list[JsonObject], entry.get("Mounts") or [])
            if mount.get("Type") == "volume"
        ),
    )


def from_event(event: Json) -> Listed | None:
    """Return the container that an event of the engine is about, as far as the event tells."""
    match event:
        case {"Actor": {"ID": str(identity), "Attributes": dict(attributes)}}:
            labels = {key: str(value) for key, value in attributes.items()}
            return Listed(
                id=identity,
                name=labels.get("name", ""),
                image="",
                command="",
                created=0.0,
                state="running",
                status="",
                labels=labels,
                ports=(),
                networks=(),
            )
    return None


def as_table(found: Sequence[Listed], *, whole: bool = False) -> str:
    """Return the table of ``ps``."""
    now = time.time()
    rows = [
        (
            one.name,
            one.image,
            _cut(f'"{one.command}"', 22 if not whole else 10**6),
            one.service,
            f"{tables.ago(now - one.created)} ago",
            one.status,
            ports(one.ports),
        )
        for one in found
    ]
    return tables.table(("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"), rows)


def as_json(one: Listed) -> Json:
    """Return the object that ``docker compose ps --format json`` prints for a container."""
    publishers: list[Json] = [
        {
            "URL": str(port.get("IP") or ""),
            "TargetPort": port.get("PrivatePort", 0),
            "PublishedPort": port.get("PublicPort", 0),
            "Protocol": port.get("Type", "tcp"),
        }
        for port in sorted(
            one.ports, key=lambda port: (str(port.get("PrivatePort")), str(port.get("IP")))
        )
    ]
    return {
        "Command": f'"{one.command}"',
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(one.created)),
        "ExitCode": one.exit_code,
        "Health": one.health,
        "ID": one.id[:12],
        "Image": one.image,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
        "Name": one.name,
        "Names": one.name,
        "Networks": ",".join(one.networks),
        "Ports": ports(one.ports),
        "Project": one.project,
        "Publishers": publishers,
        "Service": one.service,
        "State": one.state,
        "Status": one.status,
    }


def ports(entries: Sequence[JsonObject]) -> str:
    """Return ports as Docker's list does: "0.0.0.0:80->80/tcp, 443/tcp"."""
    texts = []
    for port in entries:
        inside = f"{port.get('PrivatePort')}/{port.get('Type', 'tcp')}"
        address = str(port.get("IP") or "")
        host = f"[{address}]" if ":" in address else address
        texts.append(f"{host}:{port['PublicPort']}->{inside}" if port.get("PublicPort") else inside)
    return ", ".join(sorted(set(texts), key=texts.index))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f'{text[: width - 2]}…"'
