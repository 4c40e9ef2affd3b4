"""An engine in memory: the calls that plans need, with Docker's words for states and errors.

A container whose command is ``("true",)`` ends at once with code 0, ``("false",)`` with code 1; one with a
healthcheck is healthy once ``heal`` names it (``"*"``: all are, at once).
"""

import itertools
import queue
import threading
from collections.abc import Iterator, Mapping

from stackctl.errors import ConflictError, ForbiddenError, NotFoundError


class Events:
    def __init__(self, engine: "FakeEngine") -> None:
        self._engine = engine
        self.queue: queue.SimpleQueue = queue.SimpleQueue()

    def __iter__(self) -> Iterator[dict]:
        while (event := self.queue.get()) is not None:
            yield event

    def close(self) -> None:
        self.queue.put(None)


class FakeEngine:
    api_version = (1, 47)
    machine = ""
    features: frozenset[str] = frozenset()

    def __init__(self, *, images: Mapping[str, str] | None = None, heal: str = "*") -> None:
        self.containers: dict[str, dict] = {}
        self.networks: dict[str, dict] = {}
        self.volumes: dict[str, dict] = {}
        self.images: dict[str, str] = dict(images or {})
        self.registry: dict[str, str] = {}
        self.calls: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.heal = heal
        self.listeners: list[Events] = []
        self._ids = itertools.count(1)
        self._lock = threading.RLock()

    def _called(self, name: str, *what: str) -> None:
        text = " ".join((name, *what))
        with self._lock:
            self.calls.append(text)
        if text in self.fail:
            raise self.fail[text]

    def _id(self) -> str:
        with self._lock:
            return f"{next(self._ids):064x}"[::-1]

    def _tell(self, action: str, container: dict) -> None:
        attributes = {"name": container["Name"], **container["Labels"]}
        for events in self.listeners:
            events.queue.put(
                {
                    "Type": "container",
                    "Action": action,
                    "Actor": {"ID": container["Id"], "Attributes": attributes},
                }
            )

    def events(self, *, filters, since="", until="") -> Events:
        events = Events(self)
        self.listeners.append(events)
        return events

    # containers
    def _find(self, name: str) -> dict:
        for item in self.containers.values():
            if name in (item["Id"], item["Name"]):
                return item
        raise NotFoundError(f"No such container: {name}")

    def list_containers(self, *, everything=True, filters=None) -> list[dict]:
        wanted = dict(label.split("=", 1) for label in (filters or {}).get("label", ()))
        return [
            {
                "Id": item["Id"],
                "Names": [f"/{item['Name']}"],
                "State": item["State"],
                "Status": self._status(item),
                "Image": item["Image"],
                "ImageID": item["ImageID"],
                "Labels": item["Labels"],
                "Mounts": item["Mounts"],
                "NetworkSettings": {
                    "Networks": {n: {"NetworkID": i} for n, i in item["Networks"].items()}
                },
            }
            for item in self.containers.values()
            if all(item["Labels"].get(k) == v for k, v in wanted.items())
        ]

    def _status(self, item: dict) -> str:
        if item["State"] == "exited":
            return f"Exited ({item['ExitCode']}) 2 seconds ago"
        return "Up 2 seconds" + (f" ({item['Health']})" if item["Health"] else "")

    def inspect_container(self, container: str) -> dict:
        item = self._find(container)
        state = {"Status": item["State"], "ExitCode": item["ExitCode"], "OOMKilled": False}
        if item["Health"]:
            state["Health"] = {
                "Status": item["Health"],
                "Log": [{"ExitCode": 1, "Output": "refused"}],
            }
        return {"Id": item["Id"], "State": state, "Config": {"Tty": False}, "RestartCount": 0}

    def create_container(self, name: str, body: dict, *, platform="") -> dict:
        self._called("create", name)
        name = name or f"generated-{self._id()[:12]}"
        with self._lock:
            if any(item["Name"] == name for item in self.containers.values()):
                raise ConflictError(f"The container name {name} is already in use")
            if body["Image"] not in self.images:
                raise NotFoundError(f"No such image: {body['Image']}")
            networks = {}
            for network in body["NetworkingConfig"]["EndpointsConfig"]:
                networks[network] = self._network(network)["Id"]
            identity = self._id()
            self.containers[identity] = {
                "Id": identity,
                "Name": name,
                "State": "created",
                "ExitCode": 0,
                "Health": "",
                "Image": body["Image"],
                "ImageID": self.images[body["Image"]],
                "Labels": body["Labels"],
                "Networks": networks,
                "Mounts": self._mounts(body),
                "Body": body,
            }
        return {"Id": identity, "Warnings": []}

    def _mounts(self, body: dict) -> list[dict]:
        found = []
        for mount in body["HostConfig"].get("Mounts", []):
            if mount["Type"] == "volume":
                assert mount["Source"] in self.volumes
                found.append(
                    {
                        "Type": "volume",
                        "Name": mount["Source"],
                        "Destination": mount["Target"],
                        "RW": True,
                    }
                )
            else:
                found.append(
                    {
                        "Type": mount["Type"],
                        "Source": mount.get("Source", ""),
                        "Destination": mount["Target"],
                        "RW": True,
                    }
                )
        for target in body.get("Volumes") or {}:
            name = self._id()
            self.volumes[name] = {"Name": name, "Driver": "local", "Labels": {}}
            found.append({"Type": "volume", "Name": name, "Destination": target, "RW": True})
        return found

    def start_container(self, container: str) -> None:
        item = self._find(container)
        self._called("start", item["Name"])
        item["State"] = "running"
        if "Healthcheck" in item["Body"]:
            healthy = self.heal in ("*", item["Labels"].get("com.docker.compose.service"))
            item["Health"] = "healthy" if healthy else "health: starting"
        self._tell("start", item)
        command = item["Body"].get("Cmd")
        if command in (["true"], ["false"]):
            self.end(item["Id"], 0 if command == ["true"] else 1)

    def wait_container(self, container: str, *, condition="not-running") -> int:
        item = self._find(container)
        assert item["State"] == "exited"
        return item["ExitCode"]

    def end(self, container: str, code: int) -> None:
        item = self._find(container)
        item.update(State="exited", ExitCode=code, Health="")
        self._tell("die", item)

    def set_health(self, container: str, health: str) -> None:
        item = self._find(container)
        item["Health"] = health
        self._tell(f"health_status: {health}", item)

    def start_aside(self, container: str) -> None:
        self.start_container(container)
        self._find(container)["Aside"] = True

    def relieve_container(self, container: str, donor: str) -> None:
        item, other = self._find(container), self._find(donor)
        self._called("relieve", other["Name"])
        assert item["State"] == "running"
        item["Aside"], other["Aside"] = False, True

    def drain_container(self, container: str, *, timeout: float) -> int:
        self._called("drain", self._find(container)["Name"])
        return 0

    def stop_container(self, container: str, *, timeout=None, signal="") -> None:
        item = self._find(container)
        self._called("stop", item["Name"])
        if item["State"] == "running":
            self.end(container, 143)

    def restart_container(self, container: str, *, timeout=None) -> None:
        self.stop_container(container)
        self.start_container(container)

    def kill_container(self, container: str, *, signal="SIGKILL") -> None:
        self._called("kill", self._find(container)["Name"])
        self.end(container, 137)

    def pause_container(self, container: str) -> None:
        item = self._find(container)
        if item["State"] != "running":
            raise ConflictError(f"Container {item['Name']} is not running")
        item["State"] = "paused"

    def unpause_container(self, container: str) -> None:
        self._find(container)["State"] = "running"

    def rename_container(self, container: str, name: str) -> None:
        self._called("rename", name)
        with self._lock:
            if any(item["Name"] == name for item in self.containers.values()):
                raise ConflictError(f"The container name {name} is already in use")
            self._find(container)["Name"] = name

    def remove_container(self, container: str, *, force=False, volumes=False) -> None:
        item = self._find(container)
        self._called("remove", item["Name"])
        with self._lock:
            del self.containers[item["Id"]]
        if volumes:
            for mount in item["Mounts"]:
                if mount["Type"] == "volume" and len(mount["Name"]) == 64:
                    self.volumes.pop(mount["Name"], None)

    def put_archive(self, container: str, path: str, archive) -> None:
        self._find(container)["Archive"] = archive

    def logs(self, container: str, **options):
        return iter([(1, b"starting\n"), (2, b"cannot open database\n")])

    # networks
    def _network(self, name: str) -> dict:
        for item in self.networks.values():
            if name in (item["Id"], item["Name"]):
                return item
        raise NotFoundError(f"network {name} not found")

    def list_networks(self, *, filters=None) -> list[dict]:
        return list(self.networks.values())

    def create_network(self, body: dict) -> str:
        self._called("create network", body["Name"])
        identity = self._id()
        self.networks[identity] = {
            "Id": identity,
            "Name": body["Name"],
            "Driver": body["Driver"],
            "Labels": body["Labels"],
        }
        return identity

    def remove_network(self, network: str) -> None:
        item = self._network(network)
        self._called("remove network", item["Name"])
        if any(item["Name"] in one["Networks"] for one in self.containers.values()):
            raise ForbiddenError(f"network {network} has active endpoints")
        del self.networks[item["Id"]]

    def connect_network(self, network: str, body: dict) -> None:
        item = self._network(network)
        self._find(body["Container"])["Networks"][item["Name"]] = item["Id"]

    def disconnect_network(self, network: str, container: str, *, force=False) -> None:
        self._find(container)["Networks"].pop(network)

    # volumes
    def list_volumes(self, *, filters=None) -> list[dict]:
        return list(self.volumes.values())

    def create_volume(self, body: dict) -> dict:
        self._called("create volume", body["Name"])
        self.volumes[body["Name"]] = {
            "Name": body["Name"],
            "Driver": "local",
            "Labels": body["Labels"],
        }
        return {}

    def remove_volume(self, volume: str, *, force=False) -> None:
        self._called("remove volume", volume)
        for item in self.containers.values():
            if any(m["Type"] == "volume" and m["Name"] == volume for m in item["Mounts"]):
                raise ConflictError(f"volume {volume} is in use")
        if self.volumes.pop(volume, None) is None:
            raise NotFoundError(f"no such volume: {volume}")

    # images
    def list_images(self, *, filters=None) -> list[dict]:
        return [
            {"Id": i, "RepoTags": [n if ":" in n else f"{n}:latest"], "Labels": None}
            for n, i in self.images.items()
        ]

    def inspect_image(self, reference: str) -> dict:
        if reference not in self.images:
            raise NotFoundError(f"No such image: {reference}")
        return {"Id": self.images[reference]}

    def pull_image(self, reference: str, *, platform="", on_progress=None) -> None:
        self._called("pull", reference)
        if reference not in self.registry:
            raise NotFoundError(f"manifest for {reference} not found")
        self.images[reference] = self.registry[reference]

    def remove_image(self, reference: str, *, force=False) -> None:
        self._called("remove image", reference)
        del self.images[reference]

    def offers(self, feature: str) -> bool:
        return feature in self.features

    def build_image(
        self, context, query: Mapping[str, str], *, on_progress=None, on_open=None
    ) -> str:
        self._called("build", query["t"])
        self.images[query["t"]] = self.registry.get(query["t"], "sha256:built")
        return self.images[query["t"]]
