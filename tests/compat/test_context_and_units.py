"""The docker context we register, and what systemd would do with our units."""

import configparser
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stackctl.cli import dockercontext
from stackctl.errors import InvalidInputError
from tests.compat.conftest import ROOT
from tests.compat.dockercli import docker_cli

UNITS = ROOT / "stackctl" / "daemon" / "systemd"


def test_docker_reads_the_context_and_forgets_it(tmp_path):
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    home = dockercontext.docker_home(environ)

    def docker(*argv):
        return subprocess.run(
            [docker_cli(), *argv], env=environ, capture_output=True, text=True, check=True
        ).stdout

    dockercontext.register(home, "stackctl", "unix:///run/x/engine.sock")
    shown = json.loads(docker("context", "inspect", "stackctl"))[0]
    assert shown["Endpoints"]["docker"]["Host"] == "unix:///run/x/engine.sock"
    dockercontext.use(home, "stackctl")
    assert docker("context", "show") == "stackctl\n"
    assert dockercontext.remove(home, "stackctl")
    assert docker("context", "show") == "default\n"
    assert not dockercontext.remove(home, "stackctl")
    with pytest.raises(InvalidInputError):
        dockercontext.register(home, "../x", "unix:///x")


def test_the_units_leave_containers_alone():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNITS / "stackctl.service")
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["Delegate"] == "yes"
    assert unit["Service"]["ExecStart"].endswith("/stackctld")
    assert unit["Unit"]["Requires"] == "stackctl.socket"


@pytest.mark.root
def test_a_socket_that_systemd_passes_is_served(tmp_path):
    path = tmp_path / "run" / "engine.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, (tmp_path / "log").open("w") as log:
        listener.bind(str(path))
        listener.listen(5)
        # A request that comes before the daemon waits in the socket.
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.sendall(b"GET /_ping HTTP/1.0\r\nHost: x\r\n\r\n")
        script = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        daemon = subprocess.Popen(
            ["bash", "-c", script, "bash", sys.executable, "-m", "stackctl.daemon.main"],
            pass_fds=(listener.fileno(),),
            env={
                "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT),
                "STACKCTL_RUN_ROOT": str(path.parent), "STACKCTL_DATA_ROOT": str(tmp_path / "data"),
            },
            stderr=log,
        )  # fmt: skip
    try:
        client.settimeout(20)
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert answer.startswith(b"HTTP/1.0 200") or b" 200 OK" in answer
    finally:
        client.close()
        daemon.terminate()
        assert daemon.wait(20) == 0, (tmp_path / "log").read_text()
    # The socket is systemd's: it stays.
    assert Path(path).exists()
