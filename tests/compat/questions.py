"""Questions to an engine's API whose whole answer is written down: filters of lists and prunes, in every form.

Record what Docker says anew (root; an engine of Docker's at the socket, which gets and loses things named asked-…):

    python -m tests.compat.questions /var/run/docker.sock
"""

import json
import re
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from tests.compat import raw
from tests.conftest import busybox_rootfs

RECORDED = Path(__file__).parent / "transcripts" / "questions-28.5.json"
PREFIX = "asked-"
PORT = 38471
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


class Asked:
    """An engine, asked over its socket."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.ids: dict[str, str] = {}

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

    def clear(self) -> None:
        """Remove what was made."""
        for name, _, _ in (*_CONTAINERS, ("asked-parent", "", {}), ("asked-tried", "", {})):
            self.ask("DELETE", f"/containers/{name}?force=1&v=1")
        for network in _NETWORKS:
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


def normal(text: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    # Docker shows several values in any order.
    text = re.sub(r"=\[(\S+) (\S+)\]", lambda match: f"=[{' '.join(sorted(match.groups()))}]", text)
    return _HEX.sub("<ID>", text)


def answers(engine: Asked) -> Iterator[dict[str, object]]:
    """Put every question and yield what came back; IDs are those of this engine."""
    for line in questions():
        if line.startswith("TRY "):
            yield tried(engine, line)
            continue
        method, target, *filters = line.split(" ", 2)
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
            told = normal(answer.json["message"], engine.ids)
        elif path == "/events":
            told = len(answer.body.splitlines())
        else:
            told = json.loads(normal(json.dumps(listed(path, answer.json)), engine.ids))
        yield {"asked": line, "status": answer.status, "told": told}


def tried(engine: Asked, line: str) -> dict[str, object]:
    """Create a container with a body and start it; return both answers and how it is then."""
    body = {"Image": "asked-box", "Cmd": ["sleep", "1000"], **json.loads(line.removeprefix("TRY "))}
    made = engine.ask("POST", "/containers/create?name=asked-tried", body)
    told = [normal(made.json.get("message", "created"), engine.ids)]
    statuses = [made.status]
    if made.status == 201:
        started = engine.ask("POST", "/containers/asked-tried/start")
        state = engine.ask("GET", "/containers/asked-tried/json").json["State"]
        words = started.json["message"] if started.body else "started"
        told += [normal(words, {**engine.ids, "asked-tried": made.json["Id"]})]
        told += [f"{state['Status']} {state['ExitCode']}"]
        statuses.append(started.status)
        engine.ask("DELETE", "/containers/asked-tried?force=1&v=1")
    return {"asked": line, "status": statuses, "told": told}


def questions() -> list[str]:
    lines = (Path(__file__).parent / "questions.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    engine = Asked(Path(sys.argv[1]))
    engine.clear()
    try:
        engine.furnish()
        found = list(answers(engine))
    finally:
        engine.clear()
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else RECORDED
    out.write_text(f"[\n{lines}\n]\n")
    print(f"{len(found)} answers recorded in {out}")


if __name__ == "__main__":
    main()
