"""docker compose against our socket: a stack comes up, is used in every way, and goes.

The plugin is the one that STACKCTL_TEST_COMPOSE names, or an installed one (docker compose 2.40 is what we measure
with; Debian's package docker-compose has it).
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.long]

_PLACES = (
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
    "/usr/local/lib/docker/cli-plugins/docker-compose",
)
_FILE = """
services:
  web:
    image: busybox
    init: true
    command: sh -c 'echo web up; mkdir -p /www; echo page > /www/index.html; httpd -f -p 80 -h /www'
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["data:/data"]
    networks: [front, back]
    configs: [{{source: words, target: /etc/words}}]
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: busybox
    init: true
    command: sleep 1000
    networks: [back]
    healthcheck: {{test: ["CMD", "true"], interval: 200ms}}
  job:
    image: busybox
    command: sh -c 'sleep 2; exit 3'
    profiles: [extra]
configs: {{words: {{content: "from the file"}}}}
volumes: {{data: {{}}}}
networks: {{front: {{}}, back: {{internal: true}}}}
"""


def plugin() -> Path:
    for place in (os.environ.get("STACKCTL_TEST_COMPOSE", ""), *_PLACES):
        if place and Path(place).exists():
            return Path(place)
    pytest.fail("there is no docker compose plugin: name one in STACKCTL_TEST_COMPOSE")


@pytest.fixture
def compose(dock, tmp_path):
    home = dock.home / ".docker" / "cli-plugins"
    home.mkdir(parents=True, exist_ok=True)
    link = home / "docker-compose"
    link.unlink(missing_ok=True)
    link.symlink_to(plugin())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "compose.yaml").write_text(_FILE.format(port=port))

    def run(*argv, code=0):
        return dock.run("compose", "-p", "tour", *argv, cwd=tmp_path, code=code, timeout=90)

    yield run
    run("--profile", "extra", "down", "-v", "-t", "1")


def test_the_build_plugin_is_told_what_to_do_instead(compose, dock, tmp_path):
    there = plugin().with_name("docker-buildx")
    if not there.exists():
        pytest.fail(f"docker's build plugin is not beside its compose plugin: {there}")
    link = dock.home / ".docker" / "cli-plugins" / "docker-buildx"
    link.unlink(missing_ok=True)
    link.symlink_to(there)
    (tmp_path / "Dockerfile").write_text("FROM busybox\n")
    (tmp_path / "built.yaml").write_text("services: {web: {build: .}}\n")
    for argv in (["build", "."], ["buildx", "ls"], ["compose", "-f", "built.yaml", "build"]):
        words, environ = dock.command(*argv)
        environ = {name: value for name, value in environ.items() if name != "DOCKER_BUILDKIT"}
        done = subprocess.run(
            words,
            env=environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "does not speak BuildKit's protocol" in done.stdout + done.stderr
        assert "set DOCKER_BUILDKIT=0" in done.stdout + done.stderr
    assert dock.out("ps", "-aq") == ""
    compose("-f", "built.yaml", "build")


def states(compose):
    lines = compose("ps", "-a", "--format", "json").stdout.splitlines()
    return {item["Name"]: item["State"] for item in map(json.loads, lines)}


def test_a_stack_comes_up_is_used_and_goes(compose, dock, tmp_path):
    compose("up", "-d")
    assert states(compose) == {"tour-web-1": "running", "tour-db-1": "running"}
    assert compose("logs", "--no-log-prefix", "web").stdout == "web up\n"
    assert compose("exec", "-T", "web", "cat", "/etc/words").stdout == "from the file"
    assert compose("exec", "-T", "web", "wget", "-qO-", "http://localhost/").stdout == "page\n"
    assert compose("exec", "-T", "web", "sh", "-c", "exit 7", code=7)
    assert compose("run", "--rm", "-T", "db", "echo", "once").stdout == "once\n"
    compose("cp", "web:/etc/words", str(tmp_path / "copied"))
    assert (tmp_path / "copied").read_text() == "from the file"
    compose("cp", str(tmp_path / "copied"), "db:/tmp/back")
    assert compose("exec", "-T", "db", "cat", "/tmp/back").stdout == "from the file"
    assert "httpd" in compose("top", "web").stdout
    assert "tour-db-1" in compose("stats", "--no-stream").stdout
    assert compose("port", "web", "80").stdout.startswith("127.0.0.1:")
    assert "busybox" in compose("images").stdout
    assert '"tour"' in dock.out("compose", "ls", "--format", "json")


def test_a_second_up_changes_nothing_and_scale_adds_and_takes_away(compose, dock):
    compose("up", "-d")
    before = dock.out("ps", "-q", "--no-trunc")
    compose("up", "-d")
    assert dock.out("ps", "-q", "--no-trunc") == before
    compose("scale", "db=2")
    assert "tour-db-2" in states(compose)
    compose("up", "-d", "--scale", "db=1")
    assert "tour-db-2" not in states(compose)


def test_stop_start_restart_pause_kill_and_wait(compose):
    compose("up", "-d")
    compose("stop", "-t", "2")
    assert set(states(compose).values()) == {"exited"}
    compose("start")
    compose("restart", "-t", "1", "web")
    assert set(states(compose).values()) == {"running"}
    compose("pause", "db")
    assert states(compose)["tour-db-1"] == "paused"
    compose("unpause", "db")
    compose("kill", "db")
    assert states(compose)["tour-db-1"] == "exited"
    compose("up", "-d", "job")
    compose("wait", "job", code=3)


def test_events_are_told_and_down_leaves_nothing(compose, dock, tmp_path):
    compose("up", "-d")
    words, environ = dock.command("compose", "-p", "tour", "events", "--json")
    watching = subprocess.Popen(words, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    compose("down", "-v", "-t", "1")
    time.sleep(0.5)
    watching.terminate()
    actions = {
        json.loads(line)["action"] for line in watching.communicate(timeout=10)[0].splitlines()
    }
    assert {"kill", "die", "stop", "destroy"} <= actions
    assert dock.out("ps", "-aq") == ""
    assert dock.out("volume", "ls", "-q") == ""
    assert set(dock.out("network", "ls", "--format", "{{.Name}}").split()) == {
        "bridge", "host", "none",
    }  # fmt: skip
