"""testcontainers-python against the engine's socket: its own reaper off, a lease in its place."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.root

USE = """
import urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

with Network() as network:
    web = (
        DockerContainer("busybox")
        .with_command(["sh", "-c", "echo serving; exec httpd -f -p 8000 -h /etc"])
        .with_exposed_ports(8000)
        .with_network(network)
        .with_network_aliases("web")
        .with_kwargs(stop_signal="SIGKILL")
        .with_env("A", "b")
        .waiting_for(LogMessageWaitStrategy("serving"))
    )
    with web:
        address = f"{web.get_container_host_ip()}:{web.get_exposed_port(8000)}"
        page = urllib.request.urlopen(f"http://{address}/passwd", timeout=10).read()
        assert page.startswith(b"root:"), page
        assert tuple(web.exec(["sh", "-c", "echo $A"])) == (0, b"b\\n")
        command = "wget -q -O - http://web:8000/group"
        with DockerContainer("busybox").with_command(command).with_network(network) as client:
            assert client.get_wrapped_container().wait()["StatusCode"] == 0
            assert b"root:x:0" in client.get_logs()[0]
"""
LEASED = """
import time
from stackctl import lease
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import SESSION_ID
from testcontainers.core.network import Network

lease({"org.testcontainers.session-id": SESSION_ID})
network = Network().create()
DockerContainer("busybox").with_command("sleep 1000").with_network(network).start()
print("up", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def environ(engine):
    engine.start()
    engine.import_busybox()
    return {
        **engine.environ,
        "DOCKER_HOST": engine.docker_host,
        "TESTCONTAINERS_RYUK_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_containers_networks_ports_logs_and_execs_work(environ):
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_lease_removes_what_a_killed_session_made(engine, environ):
    with subprocess.Popen(
        [sys.executable, "-c", LEASED], env=environ, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout.readline() == "up\n"
        session.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (
        engine.docker("ps", "-aq").stdout
        or len(engine.docker("network", "ls", "-q").stdout.split()) > 3
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
