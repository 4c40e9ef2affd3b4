"""testcontainers-python without its reaper: a lease removes what a session made."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.root

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
