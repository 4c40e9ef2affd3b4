"""Scenes: docker commands, and the events an engine tells while they run.

Record what Docker says anew (root; an engine of Docker's at the socket, which gets and loses things named scene-…):

    python -m tests.compat.scenes /var/run/docker.sock
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from tests.compat import raw
from tests.compat.dockercli import docker_cli
from tests.conftest import busybox_rootfs, free_port

RECORDED = Path(__file__).parent / "transcripts" / "events-28.5.json"
_HEX = re.compile(r"\b(?:sha256:)?[0-9a-f]{64}\b")


def scenes() -> dict[str, list[str]]:
    """Return the commands by scene: in scenes.txt a name ends in a colon, its commands are below it."""
    found: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "scenes.txt").read_text().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            found[line[:-1]] = []
        elif line.strip() and not line.startswith("#"):
            found[list(found)[-1]].append(line.strip())
    return found


class Stage:
    """An engine on which scenes are played."""

    def __init__(self, socket: Path, home: Path) -> None:
        self.socket = socket
        work = home / "work"
        (work / "bin").mkdir(parents=True)
        (work / "bin" / "docker").symlink_to(docker_cli())
        (work / "file").write_text("x\n")
        self.work = work
        self.port = free_port()
        self.environ = {
            "PATH": f"{work}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home), "LANG": "C.UTF-8", "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0",
            "DOCKER_CLI_HINTS": "false",
        }  # fmt: skip
        (work / "Dockerfile").write_text("FROM scene-box\nLABEL scene=1\n")
        self.docker("import", "-c", 'CMD ["sh"]', "-", "scene-box", data=busybox_rootfs())

    def docker(self, *argv: str, data: bytes = b"") -> None:
        subprocess.run(
            ["docker", *argv], env=self.environ, input=data, check=True, capture_output=True
        )

    def shell(self, line: str) -> int:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env=self.environ, cwd=self.work, capture_output=True, check=False, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode

    def clear(self) -> None:
        self.shell(
            "docker ps -aq --filter name=scene- | xargs -r docker rm -fv;"
            "docker network ls -q --filter name=scene- | xargs -r docker network rm;"
            "docker volume ls -q --filter name=scene- | xargs -r docker volume rm;"
            "docker images -q --filter reference='scene-*' | xargs -r docker rmi -f"
        )

    def play(self, lines: list[str]) -> list[str]:
        """Run the commands; return the events of the things named scene-…, a line each."""
        begun = time.time()
        asked: list[str] = []
        for line in lines:
            if line.startswith("filter "):
                asked += [line, *self.events(begun, line.removeprefix("filter "))]
                continue
            if line.startswith("await "):
                self.wait_for(line.removeprefix("await "), begun)
                continue
            code = self.shell(f"docker {line}".replace("PORT", str(self.port)))
            assert code in (0, 1, 3, 125, 126, 127, 137), (line, code)
        return asked or self.events(begun)

    def wait_for(self, wanted: str, begun: float) -> None:
        deadline = time.monotonic() + 20
        count, _, wanted = wanted.partition(" ")
        while sum(line.startswith(wanted) for line in self.events(begun)) < int(count):
            assert time.monotonic() < deadline, (wanted, self.events(begun))
            time.sleep(0.05)

    def events(self, begun: float, filters: str = "") -> list[str]:
        """Return what there is since then, of that what the filters show."""
        everything = self._told(begun, "")
        mine: dict[str, str] = {}
        for event in everything:
            name = event["Actor"]["Attributes"].get("name", "")
            if name.startswith("scene-"):
                mine.setdefault(event["Actor"]["ID"], name)
        for identifier, name in mine.items():
            filters = filters.replace(f"<{name}:12>", identifier[:12]).replace(
                f"<{name}>", identifier
            )
        told = self._told(begun, filters) if filters else everything
        if isinstance(told, str):
            return [told]
        return _ordered([_line(event, mine) for event in told if _is_ours(event, mine)])

    def _told(self, begun: float, filters: str) -> Any:
        query = {"since": f"{begun:.9f}", "until": f"{time.time():.9f}", "filters": filters}
        answer = raw.request(self.socket, "GET", f"/v1.51/events?{urllib.parse.urlencode(query)}")
        if answer.status != 200:
            return f"{answer.status} {answer.json['message']}"
        return [json.loads(line) for line in answer.body.splitlines()]


def _is_ours(event: dict[str, Any], mine: dict[str, str]) -> bool:
    """Tell whether a thing named scene-… is told of, or a prune; Docker builds by containers, which do not count."""
    actor = event["Actor"]
    attributes = actor["Attributes"]
    names = (attributes.get("name", ""), actor["ID"])
    if event["Type"] == "container" and event["Action"] != "prune":
        return str(names[0]).startswith("scene-")
    known = any(item.startswith("scene-") or item in mine for item in names)
    return known or attributes.get("container") in mine or event["Action"] == "prune"


def _ordered(lines: list[str]) -> list[str]:
    """Return the lines with those in order that Docker tells of in any, and one of several of the out-of-memory killer."""
    out: list[str] = []
    for _, run in itertools.groupby(lines, _kind):
        group = list(run)
        out += group if _kind(group[0]) == group[0] else sorted(group)
    return [
        line
        for line, before in zip(out, ["", *out], strict=False)
        if line != before or " oom " not in line
    ]


def _kind(line: str) -> str:
    """Return what lines in no order have in common: several networks or volumes, and a stop beside the end."""
    first = " ".join(line.split(" ")[:2])
    if first in ("container stop", "container die"):
        return "container end"
    return first if first.split(" ")[0] in ("network", "volume") else line


def _line(event: dict[str, Any], mine: dict[str, str]) -> str:
    """Return an event as one line: type, action, who, attributes; IDs by the first name they had."""
    actor = event["Actor"]
    attributes = " ".join(f"{key}={value}" for key, value in sorted(actor["Attributes"].items()))
    old = " ".join(f"{key}:{event[key]}" for key in ("status", "id", "from") if key in event)
    text = f"{event['Type']} {event['Action']} {actor['ID']} {attributes} | {old}"
    for identifier, name in mine.items():
        text = text.replace(identifier, f"<{name}>")
    text = re.sub(
        r"reclaimed=\d+", "reclaimed=N", re.sub(r"execDuration=\d+", "execDuration=N", text)
    )
    text = re.sub(r"execID=[0-9a-f]{64}", "execID=ID", text)
    return _HEX.sub("<ID>", text)


def take(socket: Path, home: Path) -> dict[str, list[str]]:
    stage = Stage(socket, home)
    try:
        return {name: stage.play(lines) for name, lines in scenes().items()}
    finally:
        stage.clear()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="scene", dir="/tmp") as home:
        found = take(Path(sys.argv[1]), Path(home))
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else RECORDED
    out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(f"{sum(map(len, found.values()))} events recorded in {out}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
