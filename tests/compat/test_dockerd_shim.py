"""The dockerd launcher, as a tool that starts a dockerd itself uses it."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.compat.conftest import ROOT, Daemon
from tests.conftest import busybox_rootfs
from tests.leaks import leftovers

pytestmark = pytest.mark.root


class Dockerd(Daemon):
    """An engine that was started as dockerd; its paths are those that the flags name."""

    def __init__(self, home, program, flags):
        super().__init__(home)
        self.program = program
        self.flags = flags
        del self.environ["STACKCTL_RUN_ROOT"], self.environ["STACKCTL_DATA_ROOT"]

    @property
    def host(self):
        return f"unix://{self.home}/docker.sock"

    def start(self):
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *self.flags], env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while self.run("version", code=None).returncode:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline
            time.sleep(0.05)


def stackctl(*argv):
    return subprocess.run(
        [sys.executable, "-m", "stackctl", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_shim_is_put_where_it_is_asked_for_and_taken_away(tmp_path):
    assert stackctl("engine", "install-shim", str(tmp_path)).returncode == 0
    assert os.access(tmp_path / "dockerd", os.X_OK)
    assert stackctl("engine", "install-shim", str(tmp_path), "--remove").returncode == 0
    assert not (tmp_path / "dockerd").exists()
    (tmp_path / "dockerd").write_text("somebody's")
    refused = stackctl("engine", "install-shim", str(tmp_path))
    assert refused.returncode != 0
    assert "was not made by this command" in refused.stderr


def test_a_tool_that_starts_dockerd_gets_this_engine(tmp_path_factory):
    home = tmp_path_factory.mktemp("d")
    stackctl("engine", "install-shim", str(home))
    config = {
        "debug": True, "live-restore": True, "labels": ["tier=shim"], "registry-mirrors": ["http://127.0.0.1:9"],
        "default-address-pools": [{"base": "10.214.0.0/24", "size": 28}], "features": {"buildkit": False},
    }  # fmt: skip
    (home / "daemon.json").write_text(json.dumps(config))
    dockerd = Dockerd(home, home / "dockerd", [
        "--host", f"unix://{home}/docker.sock", "--data-root", home / "data", "--exec-root", home / "exec",
        "--pidfile", home / "docker.pid", "--bip", "10.213.9.1/24", "--config-file", home / "daemon.json",
        "--storage-driver=overlay2",
    ])  # fmt: skip
    dockerd.environ |= {
        "STACKCTL_RUN_ROOT": str(home / "exec"),
        "STACKCTL_DATA_ROOT": str(home / "data"),
    }
    dockerd.start()
    try:
        assert (home / "docker.pid").read_text() == str(dockerd.process.pid)
        dockerd.run("import", "-", "busybox:latest", stdin=busybox_rootfs())
        shown = json.loads(dockerd.out("info", "--format", "{{json .}}"))
        assert shown["DockerRootDir"] == str(home / "data")
        assert "tier=shim" in shown["Labels"]
        assert shown["DefaultAddressPools"] == [{"Base": "10.214.0.0/24", "Size": 28}]
        assert dockerd.out("run", "--rm", "busybox", "ip", "route").startswith(
            "default via 10.213.9.1"
        )
        subnets = []
        for name in ("one", "two"):
            dockerd.run("network", "create", name)
            subnets.append(
                dockerd.out(
                    "network", "inspect", name, "--format", "{{(index .IPAM.Config 0).Subnet}}"
                )
            )
        assert subnets == ["10.214.0.0/28", "10.214.0.16/28"]
        assert "storage-driver has no meaning" in dockerd.log
        dockerd.run("run", "-d", "--name", "lasting", "busybox", "sleep", "1000")
        assert dockerd.stop() == 0
        assert not (home / "docker.pid").exists()
        dockerd.start()
        assert dockerd.out("exec", "lasting", "echo", "still here") == "still here"
        dockerd.clear()
    finally:
        dockerd.stop()
    deadline = time.monotonic() + 10
    while (left := leftovers(dockerd.paths)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
