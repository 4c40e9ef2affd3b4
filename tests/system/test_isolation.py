"""Copies of one stack beside one another, and ``stackctl test`` in such a copy."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import free_port

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
PORT = free_port()
# Everything here is fixed that one machine has once.
STACK = f"""
name: shop
services:
  web:
    build:
      dockerfile_inline: |
        FROM busybox
        RUN echo built > /page
    container_name: shopfront
    command: [httpd, -f, -p, "8000", -h, /]
    ports: ["127.0.0.1:{PORT}:8000"]
    stop_signal: SIGKILL
    volumes: [data:/data]
    networks: {{back: {{ipv4_address: 10.77.33.7}}}}
    depends_on: [db]
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, "http://shopfront:8000/page"]
      interval: 1s
      start_interval: 100ms
      start_period: 20s
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [back]
  test:
    image: busybox
    command: [sh, -c, 'wget -q -O - http://web:8000/page; echo said >&2; echo $$WHO > /data/x; exit $${{CODE:-0}}']
    volumes: [data:/data]
    networks: [back]
    depends_on: {{web: {{condition: service_healthy}}}}
    profiles: [test]
volumes:
  data: {{name: the-data}}
networks:
  back: {{name: backbone, ipam: {{config: [{{subnet: 10.77.33.0/24}}]}}}}
"""


@pytest.fixture
def folder(engine, tmp_path):
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(STACK)
    yield tmp_path
    assert _left(engine) == set()
    engine.stackctl("down", "-v", "--rmi", "local", cwd=tmp_path)


def _left(engine) -> set[str]:
    """Return what there is beside images."""
    names = engine.docker("ps", "-aq").stdout.split()
    names += engine.docker("volume", "ls", "-q").stdout.split()
    nets = engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    return {*names, *nets} - {"bridge", "host", "none"}


def test_the_same_stack_runs_eight_times_at_once(engine, folder):
    def up(number: int) -> dict[str, str]:
        file = folder / f"{number}.env"
        flags = ("-p", "auto", "up", "-d", "--wait", "--ports-env", str(file))
        engine.stackctl(*flags, cwd=folder, timeout=170)
        return dict(line.split("=", 1) for line in file.read_text().splitlines())

    with ThreadPoolExecutor(8) as pool:
        copies = list(pool.map(up, range(8)))
    names = [copy["COMPOSE_PROJECT_NAME"] for copy in copies]
    assert len(set(names)) == 8
    pages = {
        urllib.request.urlopen(
            f"http://{copy['WEB_HOST_8000']}:{copy['WEB_PORT_8000']}/page", timeout=10
        ).read()
        for copy in copies
    }
    assert pages == {b"built\n"}
    assert len(engine.docker("image", "ls", "shop-web", "-q").stdout.split()) == 1
    port = engine.stackctl("-p", names[3], "port", "web", "8000").stdout.strip()
    assert port == f"127.0.0.1:{copies[3]['WEB_PORT_8000']}"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: engine.stackctl("-p", name, "down", "-v"), names))


def test_a_copy_is_found_by_its_name_and_brought_up_again_as_it_is(engine, folder):
    name = engine.stackctl("up", "-d", "--isolate", cwd=folder).stdout.strip()
    assert name.startswith("shop-")
    again = engine.stackctl("-p", name, "up", "-d", "--isolate", cwd=folder)
    assert again.stdout.strip() == name
    assert "nothing to do" in again.stderr
    assert "network back: its subnet is chosen anew" in again.stderr
    (web,) = [
        json.loads(line)
        for line in engine.stackctl("-p", name, "ps", "web", "--format", "json").stdout.splitlines()
    ]
    assert web["Name"] == f"shopfront-{name}"
    assert web["Publishers"][0]["PublishedPort"] not in (0, PORT)
    engine.stackctl("-p", name, "down", "-v")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("-p", "shop", "up", "-d", "--isolate"), "a copy of shop cannot have its name"),
        (("-p", "auto", "ps"), "-p auto makes a new copy of the stack each time"),
        (("-p", "auto", "config"), "-p auto makes a new copy of the stack each time"),
        (("-p", "auto", "down"), "-p auto makes a new copy of the stack each time"),
        (("up", "-d", "--isolate", "--plan", "p.json"), "excludes --isolate"),
        (("up", "--reconcile", "--isolate"), "excludes --isolate, --lease and --ttl"),
        (("up", "--reconcile", "--ttl", "5m"), "excludes --isolate, --lease and --ttl"),
        (("test", "tets"), 'did you mean "test"?'),
        (("test", "test", "sh"), "takes one service, not test sh"),
        (("test", "--wait-timeout", "-1"), "--wait-timeout: -1 is less than 0"),
        (("test", "-e", "=x"), '--env: "=x" has no name'),
    ],
)
def test_what_cannot_be_is_named_in_one_line_and_a_hint(engine, folder, argv, words):
    done = engine.stackctl(*argv, cwd=folder, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_ports_file_that_cannot_be_written_is_named(engine, folder):
    done = engine.stackctl(
        "-p",
        "shop-x",
        "up",
        "-d",
        "--isolate",
        "--ports-env",
        "/no/such/file",
        cwd=folder,
        check=False,
    )
    assert (done.returncode, "--ports-env: cannot write /no/such/file" in done.stderr) == (1, True)
    engine.stackctl("-p", "shop-x", "down", "-v")


def test_tests_pass_in_a_copy_and_nothing_is_left(engine, folder):
    done = engine.stackctl("test", cwd=folder)
    assert done.stdout == "built\n"
    assert "said\n" in done.stderr
    assert _left(engine) == set()


def test_tests_never_run_in_a_copy_that_somebody_works_with(engine, folder):
    engine.stackctl("-p", "mine", "up", "-d", "--isolate", "db", cwd=folder)
    done = engine.stackctl("-p", "mine", "test", cwd=folder, check=False)
    assert (done.returncode, "there is a stack mine already" in done.stderr) == (1, True)
    done = engine.stackctl("test", cwd=folder, environ={"COMPOSE_PROJECT_NAME": "mine"})
    assert "testing in the copy shop-" in done.stderr
    assert engine.stackctl("-p", "mine", "ps", "--services").stdout == "db\n"
    assert "testing in the copy own" in engine.stackctl("-p", "own", "test", cwd=folder).stderr
    engine.stackctl("-p", "mine", "down", "-v", cwd=folder)


def test_a_failing_test_gives_its_code_and_what_explains_it(engine, folder):
    done = engine.stackctl(
        "test",
        "-e",
        "CODE=7",
        "--artifacts",
        "out",
        "--junit",
        "out/stack.xml",
        cwd=folder,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "built\n")
    assert {path.name for path in (folder / "out").iterdir()} == {
        "db-1.inspect.json", "db-1.log", "stack.xml", "test-run.inspect.json", "test-run.log",
        "web-1.health.json", "web-1.inspect.json", "web-1.log",
    }  # fmt: skip
    assert "built" in (folder / "out/test-run.log").read_text()
    assert json.loads((folder / "out/web-1.health.json").read_text())["Status"] == "healthy"
    suite = ElementTree.parse(folder / "out/stack.xml").getroot().find("testsuite")
    cases = {case.get("name"): case for case in suite}
    assert {name: len(case) for name, case in cases.items()} == {
        "db is ready": 0, "web is ready": 0, "test": 1,
    }  # fmt: skip
    assert float(cases["web is ready"].get("time")) > 0
    assert cases["test"].find("failure").get("message") == "exited with code 7"


def test_a_command_comes_after_two_dashes(engine, folder):
    done = engine.stackctl("test", "--", "sh", "-c", "exit 3", cwd=folder, check=False)
    assert done.returncode == 3
    done = engine.stackctl("test", "db", "--", "sh", "-c", "exit 4", cwd=folder, check=False)
    assert done.returncode == 4


def test_a_service_that_never_gets_ready_is_explained(engine, folder):
    broken = STACK.replace("http://shopfront:8000/page", "http://shopfront:8000/none").replace(
        "command: [httpd, -f, -p,", "command: [httpd, -v, -f, -p,"
    )
    (folder / "stack.yaml").write_text(broken.replace("start_period: 20s", "start_period: 0s"))
    done = engine.stackctl(
        "test",
        "--wait-timeout",
        "60",
        "--artifacts",
        "out",
        "--junit",
        "j.xml",
        cwd=folder,
        check=False,
    )
    assert done.returncode == 1
    assert "web" in done.stderr
    suite = ElementTree.parse(folder / "j.xml").getroot().find("testsuite")
    cases = {case.get("name"): case for case in suite}
    assert cases["web is ready"].find("failure") is not None
    assert cases["test"].find("skipped") is not None
    assert "404" in (folder / "out/web-1.health.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_tests_that_are_cut_short_leave_nothing(engine, folder, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "stackctl", "test", "--", "sleep", "1000"],
        cwd=folder,
        env={**engine.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while (
        "sleep 1000"
        not in engine.docker("ps", "--filter", "label=com.docker.compose.oneoff=True").stdout
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.send_signal(number)
    code = process.wait(timeout=60)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    while _left(engine):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_web_application_runs_twenty_times_at_once(engine):
    examples = ROOT / "examples"
    archive = ROOT / ".cache" / "debian-bookworm-slim.tar"
    if not archive.exists():
        subprocess.run([examples / "base-image", archive], check=True, timeout=600)
    engine.stackctl("image", "import", str(archive), "debian:bookworm-slim", timeout=300)
    folder = engine.home / "webapp"
    shutil.copytree(examples / "webapp", folder)
    engine.stackctl("build", cwd=folder, timeout=900)

    def up(number: int) -> dict[str, str]:
        file = folder / f"{number}.env"
        flags = ("up", "-d", "--isolate", "--wait", "--ports-env", str(file))
        engine.stackctl(*flags, cwd=folder, timeout=1200)
        return dict(line.split("=", 1) for line in file.read_text().splitlines())

    with ThreadPoolExecutor(20) as pool:
        copies = list(pool.map(up, range(20)))
    for copy in copies:
        url = f"http://{copy['WEB_HOST_80']}:{copy['WEB_PORT_80']}/"
        assert b"visit 1 on record" in urllib.request.urlopen(url, timeout=30).read()
    with ThreadPoolExecutor(20) as pool:
        names = [copy["COMPOSE_PROJECT_NAME"] for copy in copies]
        list(pool.map(lambda name: engine.stackctl("-p", name, "down", "-v", timeout=600), names))
    assert _left(engine) == set()
