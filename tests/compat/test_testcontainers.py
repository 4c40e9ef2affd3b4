"""testcontainers-python on our socket, with a reaper of ours in Ryuk's place (tests/compat/reaper.py)."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.compat.conftest import ROOT
from tests.compat.test_docker_compose import plugin
from tests.conftest import busybox_rootfs

pytestmark = pytest.mark.root
HERE = Path(__file__).parent
REAPER_IMAGE = "reaper-of-ours:latest"
COMPOSE = """
services:
  web:
    image: busybox
    init: true
    command: sh -c 'mkdir -p /www; echo page > /www/index.html; echo serving; exec httpd -f -p 80 -h /www'
    ports: ["127.0.0.1::80"]
    healthcheck: {test: ["CMD", "test", "-e", "/www/index.html"], interval: 200ms, retries: 1000}
"""


def python_files():
    """Return the interpreter and every file that it opens to run the reaper."""
    words = "import sys, json; sys.path.insert(0, sys.argv[1]); import reaper, os, encodings.idna, encodings.ascii;"
    words += "print(json.dumps([sys.executable, [getattr(m, '__file__', None) for m in list(sys.modules.values())]]))"
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    done = subprocess.run(
        [base, "-S", "-B", "-c", words, str(HERE)], capture_output=True, check=True
    )
    program, modules = json.loads(done.stdout)
    found = {
        os.path.realpath(program),
        *(name for name in modules if name and name != str(HERE / "reaper.py")),
    }
    for name in sorted(found):
        if name.endswith(".so") or os.access(name, os.X_OK):
            listed = subprocess.run(
                ["ldd", name], capture_output=True, text=True, check=False
            ).stdout
            found.update(re.findall(r"(/\S+) \(0x", listed))
    return os.path.realpath(program), sorted(found)


def reaper_rootfs():
    program, files = python_files()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in files:
            tar.add(os.path.realpath(name), name.lstrip("/"))
        tar.add(HERE / "reaper.py", "reaper.py")
    return program, out.getvalue()


@pytest.fixture
def session(dock, tmp_path):
    """Start a program that uses testcontainers against the engine."""
    program, rootfs = reaper_rootfs()
    command = json.dumps([program, "-S", "-B", "-u", "/reaper.py"])
    dock.run("import", "--change", f"ENTRYPOINT {command}", "-", REAPER_IMAGE, stdin=rootfs)
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT),
        "DOCKER_HOST": dock.host, "STACKCTL_SOCKET": str(dock.paths.socket), "DOCKER_BUILDKIT": "0",
        "RYUK_CONTAINER_IMAGE": REAPER_IMAGE, "RYUK_RECONNECTION_TIMEOUT": "1s", "TC_POOLING_INTERVAL": "0.1",
    }  # fmt: skip

    def start(*words):
        return subprocess.Popen(
            [sys.executable, HERE / "testcontainers_session.py", *words], env=environ, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    yield start
    # The pruning of images by the reaper is by labels; what it ran from is ours.
    dock.clear()
    dock.run("image", "rm", "-f", REAPER_IMAGE, code=None)
    dock.run("import", "-", "busybox:latest", stdin=busybox_rootfs())


def finished(process):
    said, _ = process.communicate(timeout=150)
    assert process.returncode == 0, said
    return said


def gone(dock, *names):
    deadline = time.monotonic() + 30
    while (
        left := dock.out("ps", "-aq") + dock.out("network", "ls", "-q", "-f", "type=custom")
    ) and (time.monotonic() < deadline):
        time.sleep(0.2)
    return not left


def stackctl_as_docker(folder):
    """Return a ``docker`` whose compose is stackctl."""
    script = folder / "docker"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = compose ] && shift\nexec "{sys.executable}" -m stackctl "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_containers_networks_wait_strategies_and_stacks_work(session, dock, tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    said = finished(session("all", folder, stackctl_as_docker(tmp_path)))
    assert [line for line in said.splitlines() if line.endswith(("work", "works"))] == [
        "containers work",
        "wait strategies work",
        "networks work",
        "compose works",
    ]
    assert gone(dock), dock.out("ps", "-a")


def test_the_reaper_removes_what_a_killed_run_left(session, dock):
    process = session("abandon")
    try:
        for line in process.stdout:
            if line.strip() == "abandoned":
                break
        assert dock.out("ps", "-q", "--filter", "name=abandoned")
        assert dock.out("network", "ls", "-q", "-f", "type=custom")
    finally:
        process.kill()
        process.communicate()
    assert gone(dock), dock.out("ps", "-a")


@pytest.mark.long
def test_stacks_work_through_docker_compose_itself(session, dock, tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    plugins = tmp_path / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(plugin())
    assert "compose works" in finished(session("compose", folder, "docker"))
