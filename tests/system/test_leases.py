"""Stacks tied to a process, a connection or a time: the owner is killed, the engine removes what was made."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
STACK = """
name: tied
services:
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: [db]
    volumes: [data:/data]
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: [kept:/kept, /anonymous]
volumes:
  data:
  kept: {name: kept, external: true}
"""


class Tied:
    def __init__(self, engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.processes: list[subprocess.Popen] = []

    def begin(self, *argv: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
        """Start a command and go on."""
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "stackctl", *argv],
            cwd=self.folder,
            env={**self.engine.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def sleeper(self) -> subprocess.Popen:
        """Start a process that does nothing but live."""
        process = subprocess.Popen(["sleep", "1000"])
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen) -> None:
        process.kill()
        process.wait(timeout=20)

    def ask(self, path: str):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.engine.paths.socket))
            link.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            data = b"".join(iter(lambda: link.recv(65536), b""))
        return json.loads(data.partition(b"\r\n\r\n")[2])

    def send(self, method: str, path: str, body: str, headers: str = "") -> tuple[int, dict]:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.engine.paths.socket))
            head = f"{method} {path} HTTP/1.0\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
            link.sendall((head + body).encode())
            data = b"".join(iter(lambda: link.recv(65536), b""))
        answer, _, text = data.partition(b"\r\n\r\n")
        return int(answer.split()[1]), json.loads(text)

    def things(self) -> set[str]:
        return {
            *(item["Names"][0].lstrip("/") for item in self.ask("/containers/json?all=1")),
            *(n["Name"] for n in self.ask("/networks") if n["Name"] not in PREDEFINED),
            *(item["Name"] for item in self.ask("/volumes")["Volumes"]),
        }

    def running(self) -> int:
        return len(self.ask("/containers/json"))

    def until(self, check, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not check():
            assert time.monotonic() < deadline, (self.things(), self.ask("/_stackctl/v1/leases"))
            time.sleep(0.05)

    def gone(self) -> bool:
        return self.things() == {"kept"} and self.ask("/_stackctl/v1/leases") == []


PREDEFINED = ("bridge", "host", "none")


@pytest.fixture
def tied(engine, tmp_path):
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(STACK)
    made = Tied(engine, tmp_path)
    engine.docker("volume", "create", "kept")
    yield made
    for process in made.processes:
        if process.poll() is None:
            made.kill(process)
    engine.stackctl("down", "-v", "-t", "0", cwd=tmp_path)
    engine.docker("volume", "rm", "kept")


def test_an_up_that_is_killed_takes_its_stack_with_it(tied):
    up = tied.begin("up", "--lease")
    tied.until(lambda: tied.running() == 2)
    tied.kill(up)
    tied.until(tied.gone)


@pytest.mark.parametrize("at", ["network", "container", "start"])
def test_an_up_killed_in_the_middle_leaks_nothing(tied, at):
    up = tied.begin("up", "--lease")
    check = {
        "network": lambda: len(tied.things()) >= 2,
        "container": lambda: bool(tied.ask("/containers/json?all=1")),
        "start": lambda: tied.running() >= 1,
    }[at]
    deadline = time.monotonic() + 60
    while not check():
        assert time.monotonic() < deadline
    tied.kill(up)
    tied.until(tied.gone)


def test_a_stack_lives_as_long_as_the_process_it_is_tied_to_whatever_daemon_serves(tied):
    owner = tied.sleeper()
    tied.engine.stackctl("up", "-d", "--lease-pid", str(owner.pid), cwd=tied.folder)
    pid = tied.ask("/_stackctl/v1/info")["Pid"]
    os.kill(pid, signal.SIGKILL)
    tied.until(lambda: not Path(f"/proc/{pid}").exists())
    tied.engine.start()
    time.sleep(0.5)
    assert tied.running() == 2
    assert len(tied.ask("/_stackctl/v1/leases")[0]["Items"]) == 4
    tied.kill(owner)
    tied.until(tied.gone)


def test_an_owner_that_ends_while_there_is_no_daemon_is_noticed_by_the_next(tied):
    owner = tied.sleeper()
    tied.engine.stackctl("up", "-d", "--lease-pid", str(owner.pid), cwd=tied.folder)
    pid = tied.ask("/_stackctl/v1/info")["Pid"]
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    tied.kill(owner)
    tied.engine.start()
    tied.until(tied.gone)


def test_a_detached_up_is_tied_to_its_caller(tied):
    script = f"{sys.executable} -m stackctl up -d --lease; echo up; read line"
    shell = subprocess.Popen(
        ["sh", "-c", script],
        cwd=tied.folder,
        env={**tied.engine.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with shell:
        assert shell.stdout.readline() == "up\n"
        assert tied.running() == 2
        shell.kill()
    tied.until(tied.gone)


def test_a_process_that_the_engine_cannot_see_owns_by_its_connection(tied):
    up = tied.begin("up", "--lease", before=("unshare", "--pid", "--fork", "--kill-child"))
    tied.until(lambda: tied.running() == 2)
    assert tied.ask("/_stackctl/v1/leases")[0]["Connection"] is True
    # A daemon that is replaced in between is found again.
    tied.engine.stackctl("engine", "restart")
    time.sleep(3)
    assert tied.running() == 2
    tied.kill(up)
    tied.until(tied.gone)


def test_a_caller_that_the_engine_cannot_see_is_refused_before_anything_is_made(tied):
    before = tied.things()
    done = subprocess.run(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            sys.executable,
            "-m",
            "stackctl",
            "up",
            "-d",
            "--lease-pid",
            "1",
        ],
        cwd=tied.folder,
        env={**tied.engine.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "another pid namespace" in done.stderr
    assert tied.things() == before


def test_a_time_to_live_ends_a_stack_and_a_later_up_gives_it_another(tied):
    tied.engine.stackctl("up", "-d", "--ttl", "30m", cwd=tied.folder)
    (lease,) = tied.ask("/_stackctl/v1/leases")
    assert 1700 < lease["Expires"] - time.time() <= 1800
    tied.engine.stackctl("up", "-d", "--ttl", "1s", cwd=tied.folder)
    tied.until(tied.gone)


def test_data_that_was_there_before_the_first_lease_stays(tied):
    tied.engine.stackctl("up", "-d", cwd=tied.folder)
    tied.engine.stackctl("up", "-d", "--ttl", "1s", cwd=tied.folder)
    tied.until(lambda: tied.things() == {"kept", "tied_data"})


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--ttl", "soon"), "--ttl: 'soon' is not a duration"),
        (("--ttl", "0"), '--ttl: "0" is not between 1s and a year'),
        (("--ttl", "-5m"), "not between 1s and a year"),
        (("--lease-pid", "-4"), "--lease-pid: -4 is not a process"),
        (("--lease-pid", "4194304"), "there is no process 4194304"),
    ],
)
def test_what_cannot_own_a_lease_is_named_and_nothing_is_made(tied, argv, words):
    done = tied.engine.stackctl("up", "-d", *argv, cwd=tied.folder, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert tied.things() == {"kept"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{}", "needs an owner"),
        ('{"Seconds": "30m"}', "invalid Seconds: expected a number"),
        ('{"Seconds": -1}', "invalid Seconds"),
        ('{"Seconds": 1e99}', "invalid Seconds"),
        ('{"Owner": {"Pid": "1"}}', "invalid Owner.Pid: expected an integer"),
        ('{"Owner": {"Pid": 1}}', "another machine or in another pid namespace"),
        ('{"Seconds": 1, "Labels": 5}', "invalid Labels: expected an object"),
        ("[]", "must be an object"),
    ],
)
def test_a_wrong_lease_names_the_field(tied, body, words):
    status, answer = tied.send("POST", "/_stackctl/v1/leases", body)
    assert (status, words in answer["message"]) == (400, True), answer


def test_a_lease_that_is_not_there_is_named(tied):
    for method, path in (
        ("GET", "/none"),
        ("DELETE", "/none"),
        ("POST", "/none/items"),
        ("POST", "/none/hold"),
    ):
        status, answer = tied.send(method, f"/_stackctl/v1/leases{path}", '{"Items": []}')
        assert (status, answer["message"]) == (404, "No such lease: none")
    headers = "X-Stackctl-Lease: none\r\n"
    status, answer = tied.send("POST", "/volumes/create", '{"Name": "late"}', headers)
    assert (status, answer["message"]) == (400, "there is no lease none; nothing was made")
    status, answer = tied.send(
        "POST", "/volumes/create", '{"Name": "late"}', f"{headers}X-Stackctl-Lease-Order: first\r\n"
    )
    assert "invalid X-Stackctl-Lease-Order" in answer["message"]
    assert tied.things() == {"kept"}


def test_an_engine_without_leases_is_told_before_anything_is_made(tied, tmp_path):
    """Another engine, as far as it gets to be asked: it answers pings and knows no leases."""
    asked: list[str] = []
    path = tmp_path / "other.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            with link:
                line = link.recv(65536).split(b"\r\n")[0].decode()
                asked.append(line)
                found = "_ping" in line
                status = "200 OK" if found else "404 Not Found"
                body = b"OK" if found else b'{"message":"page not found"}'
                link.sendall(
                    f"HTTP/1.1 {status}\r\nApi-Version: 1.51\r\nConnection: close\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        done = tied.engine.stackctl(
            "--engine", f"unix://{path}", "up", "-d", "--lease", cwd=tied.folder, check=False
        )
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
    assert done.returncode == 1
    assert done.stderr.startswith(
        "stackctl: --lease: this engine keeps no leases; nothing was made"
    )
    assert {line.split()[0] for line in asked} == {"GET"}
