"""Containers outlive the daemon: kill -9 at rest and in the middle of an up, and two engines side by side."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import RealEngine, free_port
from tests.leaks import leftovers

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]

PORT = free_port()

STACK = """
name: s
services:
  web:
    image: busybox
    command: [sh, -c, "echo begin; httpd -f -p 80 -h /etc"]
    stop_signal: SIGKILL
    ports: ["PORT:80"]
    healthcheck: {test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/passwd"], interval: 1s, start_interval: 100ms, start_period: 5s}
  client:
    image: busybox
    command: [sh, -c, "while :; do wget -q -O /dev/null http://web/passwd && echo fetched || echo failed; sleep 0.2; done"]
    stop_signal: SIGKILL
    depends_on: {web: {condition: service_healthy}}
  short:
    image: busybox
    command: [sh, -c, "sleep 2; exit 5"]
""".replace("PORT", str(PORT))


def daemon_pid(engine: RealEngine) -> int:
    status = json.loads(engine.stackctl("engine", "status", "--format", "json").stdout)
    return int(status["pid"])


def kill_daemon(engine: RealEngine) -> None:
    pid = daemon_pid(engine)
    os.kill(pid, signal.SIGKILL)
    while (
        Path(f"/proc/{pid}").exists()
        and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    ):
        time.sleep(0.01)


def fetch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/passwd", timeout=5) as answer:
        return answer.read()


def fetch_once_it_listens(port: int) -> bytes:
    """A container that has started may need a moment until its server listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return fetch(port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_kill_9_of_the_daemon_leaves_everything_running_and_the_next_command_adopts_it(
    engine, tmp_path
):
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(STACK)
    engine.stackctl("up", "-d", cwd=tmp_path)
    before = {
        row["Names"]: row
        for row in map(json.loads, engine.docker("ps", "--format", "json").stdout.splitlines())
    }
    kill_daemon(engine)
    # The daemon is gone: the port answers and stays reserved, names resolve.
    assert b"root" in fetch(PORT)
    taken = subprocess.run(
        [sys.executable, "-c", f"import socket; socket.create_server(('0.0.0.0', {PORT}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "in use" in taken.stderr
    time.sleep(2.5)  # meanwhile "short" ends, and the client goes on fetching by name
    rows = {
        row["Service"]: row
        for row in map(
            json.loads,
            engine.stackctl("ps", "-a", "--format", "json", cwd=tmp_path).stdout.splitlines(),
        )
    }
    assert rows["web"]["State"] == rows["client"]["State"] == "running"
    assert rows["web"]["ID"][:12] == before["s-web-1"]["ID"][:12]
    assert (rows["short"]["State"], rows["short"]["ExitCode"]) == ("exited", 5)
    fetched = engine.stackctl("logs", "--no-log-prefix", "client", cwd=tmp_path).stdout.split()
    assert set(fetched) == {"fetched"}
    assert len(fetched) > 8
    assert engine.stackctl("logs", "--no-log-prefix", "web", cwd=tmp_path).stdout.startswith(
        "begin"
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        health = json.loads(engine.docker("inspect", "s-web-1").stdout)[0]["State"]["Health"]
        if health["Status"] == "healthy" and health["Log"]:
            break
        time.sleep(0.1)
    assert health["Status"] == "healthy"
    assert engine.stackctl("exec", "-T", "web", "echo", "hi", cwd=tmp_path).stdout == "hi\n"
    plan = engine.stackctl("plan", cwd=tmp_path).stdout
    assert "web" not in plan
    engine.stackctl("down", cwd=tmp_path)
    assert engine.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize("delay", [0.15, 0.35, 0.6, 0.9])
def test_kill_9_in_the_middle_of_up_leaves_what_the_next_up_and_down_can_finish(
    engine, tmp_path, delay
):
    engine.import_busybox()
    ports = [free_port() for _ in range(6)]
    services = "".join(
        f'  s{n}: {{image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, ports: ["{ports[n]}:80"]}}\n'
        for n in range(6)
    )
    (tmp_path / "stack.yaml").write_text(f"name: m\nservices:\n{services}")
    pid = daemon_pid(engine)
    killer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
    killer.start()
    first = engine.stackctl("up", "-d", cwd=tmp_path, check=False)
    killer.join()
    assert "Traceback" not in first.stderr
    engine.stackctl("up", "-d", cwd=tmp_path)
    rows = [
        json.loads(line)
        for line in engine.stackctl("ps", "--format", "json", cwd=tmp_path).stdout.splitlines()
    ]
    assert sorted(row["Service"] for row in rows) == [f"s{n}" for n in range(6)]
    assert "Nothing to do" in engine.stackctl("plan", cwd=tmp_path).stdout
    engine.stackctl("down", cwd=tmp_path)
    assert engine.docker("ps", "-aq").stdout == ""


def test_down_of_everything_leaves_nothing_but_images_and_volumes(engine, tmp_path):
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(STACK)
    engine.stackctl("up", "-d", cwd=tmp_path)
    assert leftovers(engine.paths), "the check sees what runs"
    engine.stackctl("down", cwd=tmp_path)
    engine.stackctl("engine", "stop")
    assert leftovers(engine.paths) == []


def test_two_engines_publish_and_tear_down_at_once_without_meeting(engine):
    other = RealEngine(Path(tempfile.mkdtemp(prefix="sk", dir="/tmp")))
    try:
        failures = []

        def round_trip(real: RealEngine, port: int) -> None:
            try:
                real.import_busybox()
                folder = real.home / "two"
                folder.mkdir(exist_ok=True)
                (folder / "stack.yaml").write_text(
                    f"name: two\nservices:\n  web:\n    image: busybox\n    command: [httpd, -f, -p, '80', -h, /etc]\n"
                    f"    stop_signal: SIGKILL\n    ports: ['{port}:80']\n"
                )
                for _ in range(3):
                    real.stackctl("up", "-d", cwd=folder)
                    assert b"root" in fetch_once_it_listens(port)
                    real.stackctl("down", cwd=folder)
            except BaseException as error:  # noqa: BLE001 - reported by the test below
                failures.append(error)

        threads = [
            threading.Thread(target=round_trip, args=pair)
            for pair in ((engine, free_port()), (other, free_port()))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert engine.paths.nft_table != other.paths.nft_table
        assert other.cleanup() == []
    finally:
        shutil.rmtree(other.home, ignore_errors=True)


def test_a_container_that_forges_packets_to_loopback_gets_no_answer_from_the_host(engine, tmp_path):
    """A raw Ethernet frame to 127.0.0.1, sent to the bridge's own MAC from the container's namespace."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(
        "name: f\nservices:\n  a: {image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL}\n"
    )
    engine.stackctl("up", "-d", cwd=tmp_path)
    seen: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", 0))
        host.settimeout(1.0)
        port = host.getsockname()[1]
        container = json.loads(engine.docker("inspect", "f-a-1").stdout)[0]
        network = container["NetworkSettings"]["Networks"]["f_default"]
        script = f"""
import socket, struct
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
def mac(text): return bytes.fromhex(text.replace(":", ""))
gateway = {network["Gateway"]!r}
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0x0800))
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.sendto(b"x", (gateway, 9))
import time; time.sleep(0.2)
arp = [line.split() for line in open("/proc/net/arp")][1:]
router = next(row[3] for row in arp if row[0] == gateway)
own = link.getsockname()[4]
source = socket.inet_aton({network["IPAddress"]!r})
def send(destination, port, payload):
    udp = struct.pack("!HHHH", 5555, port, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, source, socket.inet_aton(destination))
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    link.send(mac(router) + own + b"\\x08\\x00" + header + udp)
send("127.0.0.1", {port}, b"forged")
"""
        subprocess.run(
            [
                "nsenter",
                f"--net=/proc/{container['State']['Pid']}/ns/net",
                sys.executable,
                "-c",
                script,
            ],
            check=True,
        )
        try:
            seen.append(host.recv(100))
        except TimeoutError:
            pass
        # The same frame reaches a service of the host that may be reached: the forging itself works.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as open_host:
            open_host.bind((network["Gateway"], port))
            open_host.settimeout(2.0)
            subprocess.run(
                [
                    "nsenter",
                    f"--net=/proc/{container['State']['Pid']}/ns/net",
                    sys.executable,
                    "-c",
                    script.replace('send("127.0.0.1"', f'send("{network["Gateway"]}"'),
                ],
                check=True,
            )
            assert open_host.recv(100) == b"forged"
    assert seen == []
    engine.stackctl("down", cwd=tmp_path)
