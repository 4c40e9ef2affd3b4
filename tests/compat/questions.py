"""Questions to an engine's API whose whole answer is written down: filters of lists and prunes, in every form.

Record what Docker says anew (root; an engine of Docker's at the socket, which gets and loses things named asked-…):

    python -m tests.compat.questions /var/run/docker.sock
"""

import json
import os
import random
import re
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.compat import raw
from tests.conftest import busybox_rootfs

RECORDED = Path(__file__).parent / "transcripts" / "questions-28.5.json"
PREFIX = "asked-"
PORT = 18479
_HEALTHY = {"Test": ["CMD", "true"], "Interval": 10**8, "Timeout": 10**10, "Retries": 2}
_SLEEP = {"Image": "asked-box", "Cmd": ["sleep", "1000"], "StopTimeout": 0}
# Name, whether it is started (and then: its end is waited for, it is paused), and the body.
_CONTAINERS = (
    ("asked-one", "", {
        **_SLEEP, "Labels": {"asked": "", "a": "1", "b": "2"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
    }),
    ("asked-two", "start", {
        **_SLEEP, "Labels": {"asked": "", "a": "1", "b": "3"}, "ExposedPorts": {"80/tcp": {}, "81/tcp": {}}, "Healthcheck": _HEALTHY,
        "HostConfig": {
            "NetworkMode": "asked-net", "Binds": ["asked-vol:/data", "/etc:/conf:ro"],
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(PORT)}]},
        },
    }),
    ("asked-three", "wait", {**_SLEEP, "Cmd": ["sh", "-c", "exit 3"], "Labels": {"asked": "", "a": "=x=y"}}),
    ("asked-four", "wait", {**_SLEEP, "Image": "asked-child", "Cmd": ["true"], "Labels": {"asked": ""}}),
    ("asked-five", "pause", {**_SLEEP, "Labels": {"asked": "", "a.b/c": "d"}}),
)  # fmt: skip
_NETWORKS = (
    {"Name": "asked-net", "Labels": {"asked": "", "a": "1"}},
    {"Name": "asked-net2", "Labels": {"asked": "", "a": "2"}, "Internal": True},
)
_VOLUMES = (
    {"Name": "asked-vol", "Labels": {"asked": "", "a": "1"}},
    {"Name": "asked-vol2", "Labels": {"asked": "", "a": "2"}},
)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Asked:
    """An engine, asked over its socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.ids: dict[str, str] = {}
        # Below what clients take for themselves.
        offsets = range(0, 12_000, 200)
        self.offset = next(
            offset
            for offset in random.sample(offsets, len(offsets))
            if all(is_free(port + offset) for port in (18475, 18479, 18500))
        )

    def ask(self, method: str, target: str, body: object = None, timeout: float = 30) -> raw.Answer:
        target = target if target.startswith("/v1.") else f"/v1.51{target}"
        return raw.request(self.socket, method, target, body, timeout=timeout)  # type: ignore[arg-type]

    def made(self, target: str, body: object = None) -> dict[str, str]:
        answer = self.ask("POST", target, body)
        assert answer.status < 400, (target, answer)
        return answer.json if answer.body and answer.body[:1] == b"{" else {}

    def furnish(self) -> None:
        """Make one of everything that the questions are about."""
        self.ask("POST", "/images/create?fromSrc=-&repo=asked-box", busybox_rootfs())
        self.made("/containers/create?name=asked-parent", {"Image": "asked-box", "Cmd": ["true"]})
        self.made(
            "/commit?container=asked-parent&repo=asked-child&tag=v1",
            {"Labels": {"asked": "", "of": "child"}},
        )
        self.ask("DELETE", "/containers/asked-parent")
        for network in _NETWORKS:
            self.ids[network["Name"]] = self.made("/networks/create", network)["Id"]
        for volume in _VOLUMES:
            self.made("/volumes/create", volume)
        for name, then, body in _CONTAINERS:
            body = json.loads(self.there(json.dumps(body)))
            body = {**body, "Image": body["Image"] + (":v1" if "child" in body["Image"] else "")}
            self.ids[name] = self.made(f"/containers/create?name={name}", body)["Id"]
            if then:
                self.made(f"/containers/{name}/start")
            if then == "wait":
                self.made(f"/containers/{name}/wait")
            if then == "pause":
                self.made(f"/containers/{name}/pause")
        deadline = time.monotonic() + 30
        while (
            self.ask("GET", "/containers/asked-two/json").json["State"]["Health"]["Status"]
            != "healthy"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def there(self, line: str) -> str:
        """Return a question with ports that are free on this machine."""
        return re.sub(r"\b18[45]\d\d\b", lambda port: str(int(port[0]) + self.offset), line)

    def normal(self, text: str, more: Mapping[str, str] | None = None) -> str:
        """Return an answer as every engine and machine gives it."""
        text = re.sub(r"\b\d{5}\b", self._port, text)
        for name, value in {**self.ids, **(more or {})}.items():
            text = text.replace(value, f"<{name}>")
        text = re.sub(r"/\S+(?=/volumes/asked-)", "/var/lib/docker", text)
        # How many processors there are.
        text = re.sub(
            r"to \d+\.\d\d, as there are only \d+ CPUs", "to N, as there are only N CPUs", text
        )
        text = re.sub(r"available: [\d,-]+", "available: N", text)
        # Docker shows several values in any order.
        text = re.sub(
            r"=\[(\S+) (\S+)\]", lambda match: f"=[{' '.join(sorted(match.groups()))}]", text
        )
        return _HEX.sub("<ID>", text)

    def _port(self, match: "re.Match[str]") -> str:
        number = int(match[0]) - self.offset
        return str(number) if 18400 <= number < 18600 else match[0]

    def clear(self) -> None:
        """Remove what was made."""
        for name, _, _ in (*_CONTAINERS, ("asked-parent", "", {}), ("asked-tried", "", {})):
            self.ask("DELETE", f"/containers/{name}?force=1&v=1")
        for network in (*_NETWORKS, {"Name": "asked-made"}, {"Name": "asked-conf"}):
            self.ask("DELETE", f"/networks/{network['Name']}")
        for volume in _VOLUMES:
            self.ask("DELETE", f"/volumes/{volume['Name']}")
        for image in ("asked-child:v1", "asked-box"):
            self.ask("DELETE", f"/images/{image}?force=1")


def listed(path: str, body: object) -> object:
    """Return the names of ours in a list; of a prune's answer, all of it."""
    if path == "/volumes":
        body = body["Volumes"]  # type: ignore[index]
    if not isinstance(body, list):
        return body
    names = [name.lstrip("/") for entry in body for name in _names(entry)]
    ours = [name for name in names if name.startswith(PREFIX)]
    # Containers have an order; images of the same second and the others have none.
    return ours if path == "/containers/json" else sorted(ours)


def _names(entry: dict[str, object]) -> list[str]:
    found = entry.get("Names", entry.get("RepoTags", [entry.get("Name")]))
    return [str(name) for name in found]  # type: ignore[union-attr]


_HEX = re.compile(r"\b(sha256:)?[0-9a-f]{64}\b")


def answers(engine: Asked, only: str = "") -> Iterator[dict[str, object]]:
    """Put every question and yield what came back; IDs are those of this engine."""
    for line in questions():
        if not line.startswith(only):
            continue
        if special := _SPECIAL.get(line[:4]):
            yield special(engine, line)
            continue
        method, target, *filters = engine.there(line).split(" ", 2)
        path = target
        if filters:
            text = filters[0]
            for name, value in engine.ids.items():
                text = (
                    text.replace(f"<{name}>", value)
                    .replace(f"<{name}:12>", value[:12])
                    .replace(f"<{name}:3>", value[:3])
                )
            target += ("&" if "?" in target else "?") + "filters=" + urllib.parse.quote(text)
        answer = engine.ask(method, target)
        path = path.partition("?")[0].removeprefix("/v1.24")
        told: object
        if answer.status >= 400:
            told = engine.normal(answer.json["message"])
        elif path.startswith("/networks/") and method == "GET":
            told = predefined(answer.json)
        elif path == "/events":
            told = len(answer.body.splitlines())
        else:
            told = json.loads(engine.normal(json.dumps(listed(path, answer.json))))
        yield {"asked": line, "status": answer.status, "told": told}


def tried(engine: Asked, line: str) -> dict[str, object]:
    """Create a container with a body and start it; return both answers and how it is then."""
    body = {
        "Image": "asked-box",
        "Cmd": ["sleep", "1000"],
        **json.loads(engine.there(line).removeprefix("TRY ")),
    }
    made = engine.ask("POST", "/containers/create?name=asked-tried", body)
    told = [engine.normal(made.json.get("message", "created"))]
    statuses = [made.status]
    if made.status == 201:
        started = engine.ask("POST", "/containers/asked-tried/start")
        state = engine.ask("GET", "/containers/asked-tried/json").json["State"]
        words = started.json["message"] if started.body else "started"
        told += [engine.normal(words, {"asked-tried": made.json["Id"]})]
        told += [f"{state['Status']} {state['ExitCode']}"]
        statuses.append(started.status)
        engine.ask("DELETE", "/containers/asked-tried?force=1&v=1")
    return {"asked": line, "status": statuses, "told": told}


def networked(engine: Asked, line: str) -> dict[str, object]:
    """Make a network and return what inspecting and listing it show; NN in a body is a number of this question's own."""
    number = questions().index(line) % 250
    text = line.removeprefix("NET ").replace("NN", str(number))
    body = {"Name": "asked-made", **json.loads(text)}
    made = engine.ask("POST", "/networks/create", body)
    if made.status != 201:
        told = engine.normal(made.json["message"])
        return {
            "asked": line,
            "status": made.status,
            "told": told.replace(f".{number}.", ".NN.").replace(f"88:{number}:", "88:NN:"),
        }
    warning, identifier = made.json["Warning"], made.json["Id"]
    shown = engine.ask("GET", f"/networks/{identifier}").json
    listed_ones = engine.ask("GET", "/networks").json
    (entry,) = (item for item in listed_ones if item["Id"] == identifier)
    engine.ask("DELETE", f"/networks/{identifier}")
    assert shown.pop("Id") == entry.pop("Id")
    assert shown.pop("Created") == entry.pop("Created")
    for item in (shown, entry):
        subnets = item["IPAM"]["Config"]
        item["IPAM"]["Config"] = subnets and [_subnet(config, text) for config in subnets]
    told = json.loads(
        json.dumps([warning, shown, *([entry] * (entry != shown))])
        .replace(f".{number}.", ".NN.")
        .replace(f"88:{number}:", "88:NN:")
    )
    return {"asked": line, "status": made.status, "told": told}


def asked(engine: Asked, line: str) -> dict[str, object]:
    """Ask with a body and return what is said, nothing where it is a success."""
    method, target, *body = line.removeprefix("ASK ").split(" ", 2)
    answer = engine.ask(method, target, json.loads(body[0]) if body else None)
    told = answer.json["message"] if answer.status >= 400 else ""
    told = re.sub(r'id:"[0-9a-f]{12}"|(?:container|image) [0-9a-f]{12}\b', "ID", told)
    return {"asked": line, "status": answer.status, "told": engine.normal(told)}


_SPECIAL: dict[str, Callable[[Asked, str], dict[str, object]]] = {
    "TRY ": tried,
    "NET ": networked,
    "ASK ": asked,
}


def predefined(body: dict[str, Any]) -> dict[str, object]:
    """Return what of a predefined network is the same on every engine."""
    for name in ("Id", "Created", "Containers"):
        body.pop(name)
    subnets = body["IPAM"]["Config"]
    body["IPAM"]["Config"] = subnets and [_subnet(config, "") for config in subnets]
    if "com.docker.network.bridge.name" in body["Options"]:
        body["Options"]["com.docker.network.bridge.name"] = "chosen"
    return body


def _subnet(config: dict[str, str], asked: str) -> dict[str, str]:
    """Return a subnet; one that was not asked for is the engine's own choice."""
    chosen = config["Subnet"] not in asked
    return (
        {"Subnet": "chosen", **dict.fromkeys(config.keys() - {"Subnet"}, "chosen")}
        if chosen
        else config
    )


def questions() -> list[str]:
    lines = (Path(__file__).parent / "questions.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    engine = Asked(Path(sys.argv[1]))
    engine.clear()
    try:
        engine.furnish()
        # ONLY="NET " asks these alone and keeps the other answers.
        only = os.environ.get("ONLY", "")
        kept = {item["asked"]: item for item in json.loads(RECORDED.read_text())} if only else {}
        kept |= {str(item["asked"]): item for item in answers(engine, only)}
        found = [kept[line] for line in questions()]
    finally:
        engine.clear()
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else RECORDED
    out.write_text(f"[\n{lines}\n]\n")
    print(f"{len(found)} answers recorded in {out}")


if __name__ == "__main__":
    main()
