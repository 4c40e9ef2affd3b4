"""Every example comes up as root, the demo's stack as its README says."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import free_port

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PORT = free_port()
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def base_image(engine):
    """debian:bookworm-slim from Debian packages, made once and kept in the checkout's cache."""
    archive = ROOT / ".cache" / "debian-bookworm-slim.tar"
    if not archive.exists():
        subprocess.run([EXAMPLES / "base-image", archive], check=True, timeout=600)
    engine.stackctl("image", "import", str(archive), "debian:bookworm-slim", timeout=300)


def test_webapp_counts_visits_behind_its_proxy(engine, base_image):
    folder = engine.home / "webapp"
    shutil.copytree(EXAMPLES / "webapp", folder)
    environ = {"WEBAPP_PORT": str(PORT)}
    engine.stackctl("up", "-d", "--wait", cwd=folder, timeout=800, environ=environ)
    try:
        page = [_page(PORT) for _ in range(2)]
        assert [re.search(r"visit (\d+) on record", text)[1] for text in page] == ["1", "2"]
        rows = [
            json.loads(line)
            for line in engine.stackctl(
                "ps", "--format", "json", cwd=folder, environ=environ
            ).stdout.splitlines()
        ]
        assert {row["Service"]: row["Health"] for row in rows} == dict.fromkeys(
            ("app", "cache", "db", "web"), "healthy"
        )
        assert "Nothing to do" in engine.stackctl("plan", cwd=folder, environ=environ).stdout
        # A changed env file recreates the application alone; the database remembers.
        env_file = folder / "app.env"
        env_file.write_text(env_file.read_text().replace("Hello from stackctl", "Good day"))
        plan = engine.stackctl("plan", "--format", "json", cwd=folder, environ=environ).stdout
        assert {op["service"] for op in json.loads(plan)["operations"] if op.get("service")} == {
            "app"
        }
        engine.stackctl("up", "-d", "--wait", cwd=folder, environ=environ)
        assert _page(PORT).startswith("Good day: visit 3 on record, 3 since")
        engine.stackctl("down", cwd=folder, environ=environ)
        engine.stackctl("up", "-d", "--wait", cwd=folder, environ=environ)
        assert _page(PORT).startswith("Good day: visit 4 on record, 1 since")
    finally:
        engine.stackctl("down", "-v", cwd=folder, environ=environ, check=False)


def _page(port: int) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            # A proxy looks the recreated application up again after a second.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_every_example_is_valid(engine):
    for stack in EXAMPLES.glob("*/stack.yaml"):
        engine.stackctl("-f", str(stack), "config", "-q")
        assert (stack.parent / "README.md").exists()


def test_hello_needs_no_network_at_all(engine):
    """Up in a network namespace that has nothing but loopback."""
    folder = engine.home / "alone"
    shutil.copytree(EXAMPLES / "hello", folder)
    command = f"{sys.executable} -m stackctl"
    script = f"""
        set -e
        ip link set lo up
        {command} up -d --wait
        {command} run --rm -T greeter
        {command} down
        {command} engine stop
    """
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        cwd=folder,
        env={
            **engine.environ,
            "PYTHONPATH": str(ROOT),
            "STACKCTL_RUN_ROOT": str(engine.home / "alone-run"),
            "STACKCTL_DATA_ROOT": str(engine.home / "alone-data"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hello from a stack.\n"


def test_the_stack_with_tests_is_tested_each_way(engine):
    folder = engine.home / "tests"
    shutil.copytree(EXAMPLES / "tests", folder)
    engine.stackctl("test", "--artifacts", "out", cwd=folder)
    for runner in (
        ("pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"),
        ("unittest", "test_web"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *runner],
            cwd=folder,
            env={**engine.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "out").exists()
    assert engine.docker("ps", "-aq").stdout == ""
    assert engine.docker("volume", "ls", "-q").stdout == ""


def test_rolling_is_updated_under_load(engine):
    folder = engine.home / "rolling"
    shutil.copytree(EXAMPLES / "rolling", folder)
    port = free_port()
    pages: list[str] = []
    failures: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    pages.append(answer.read().decode().strip())
            except OSError as error:
                failures.append(repr(error))

    client = threading.Thread(target=load)
    try:
        for version in ("1", "2"):
            environ = {"ROLLING_PORT": str(port), "VERSION": version}
            engine.stackctl("up", "-d", "--wait", cwd=folder, environ=environ)
            if version == "1":
                client.start()
    finally:
        over.set()
        client.join()
        engine.stackctl("down", "-t", "0", cwd=folder)
    assert failures == []
    assert set(pages) == {"this is version 1", "this is version 2"}
