"""Other engines for the tests: a Docker Engine and a Podman service of the test's own, from a root file system beside us.

STACKCTL_TEST_PEERS names a folder whose ``sid`` is a root file system with dockerd, containerd, the docker command
line with its compose plugin, and podman. Each engine runs in namespaces of its own with that root, under a folder that
the test makes, and is gone when ``stop`` returns.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import RealEngine
from tests.leaks import mounts_below

VARIABLE = "STACKCTL_TEST_PEERS"
_HOLDER = r"""
set -e
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
mkdir -p "$HOME_/upper" "$HOME_/over" "$HOME_/root"
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$HOME_/upper,workdir=$HOME_/over" "$HOME_/root"
cd "$HOME_/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
[ ! -d sys/fs/cgroup/unified ] || umount sys/fs/cgroup/unified
mkdir -p old
mount --bind /tmp tmp
mount -t tmpfs tmpfs run
cp -L /etc/hosts etc/hosts
: > etc/resolv.conf
pivot_root . old
cd /
umount -l /old
echo ready
exec sleep infinity
"""


def peers_root() -> Path:
    """Return the root file system; fails the test where there is none, since it was asked for."""
    named = os.environ.get(VARIABLE, "")
    root = Path(named, "sid") if named else None
    if root is None or not (root / "usr/sbin/dockerd").exists():
        pytest.fail(
            f"the other engines are not set up: {VARIABLE} must name a folder whose sid/ is a root file system with"
            " dockerd, docker compose and podman"
        )
    return root


class PeerEngine(RealEngine):
    """An engine that is not ours, driven by our command line (``--engine URL``) and by the docker command line."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.root = peers_root()
        self.socket = home / "engine.sock"
        self._held: list[subprocess.Popen] = []
        self._holder = self._hold()

    # What tests use

    @property
    def holder(self) -> int:
        """The process whose namespaces the engine is in."""
        return self._holder.pid

    @property
    def globals(self) -> list[str]:
        return ["--engine", self.docker_host]

    @property
    def docker_host(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End the daemons; their containers stay or go as theirs do."""
        for process in reversed(self._held):
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self._held.clear()

    def restart(self) -> None:
        self.stop()
        self.start()

    def import_busybox(self, name: str = "busybox") -> None:
        archive = self.home / "busybox.tar"
        if not archive.exists():
            from tests.conftest import busybox_rootfs

            archive.write_bytes(busybox_rootfs())
        if self.docker("image", "inspect", name, check=False).returncode:
            self.docker("import", str(archive), name)

    def inside(
        self, *argv: str, cwd: Path | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the root file system beside the engine."""
        done = subprocess.run(
            self._within(*argv, cwd=cwd),
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def beside(self, *argv: str) -> str:
        return self.inside(*argv).stdout

    def cleanup(self) -> list[str]:
        if self.socket.exists():
            found = self.docker("ps", "-aq", check=False).stdout.split()
            if found:
                self.docker("rm", "-f", "-v", *found, check=False)
        self.stop()
        self._holder.kill()
        self._holder.wait(10)
        for path in reversed(mounts_below(self.home)):
            subprocess.run(["umount", "-l", path], check=False)
        return mounts_below(self.home)

    # How it is done

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DOCKER_HOST": self.docker_host,
        }

    def _hold(self) -> subprocess.Popen:
        """Start what holds the namespaces: they end with it."""
        said = self.home / "holder.log"
        with said.open("wb") as log:
            holder = subprocess.Popen(
                ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", _HOLDER],
                env={**os.environ, "HOME_": str(self.home), "ROOT": str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not said.read_text().endswith("ready\n"):
            if holder.poll() is not None or time.monotonic() > deadline:
                holder.kill()
                pytest.fail(f"no namespaces for the engine: {said.read_text()}")
            time.sleep(0.02)
        return holder

    def _within(self, *argv: str, cwd: Path | None = None) -> list[str]:
        pid = str(self._holder.pid)
        return ["nsenter", "-t", pid, "-m", "-n", f"--wdns={cwd or self.home}", *argv]

    def _daemon(self, name: str, *argv: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self._held.append(
                subprocess.Popen(
                    self._within(*argv),
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _until_it_answers(self) -> None:
        deadline = time.monotonic() + 90
        while not _answers(self.socket):
            if time.monotonic() > deadline or self._held[-1].poll() is not None:
                logs = "\n".join(
                    f"{log.name}: {log.read_text(errors='replace')[-2000:]}"
                    for log in self.home.glob("*.log")
                )
                pytest.fail(f"the engine did not start:\n{logs}")
            time.sleep(0.05)


class DockerEngine(PeerEngine):
    """dockerd with a containerd of its own."""

    extra: tuple[str, ...] = ()

    def start(self) -> None:
        home, shim = self.home, f"/{self.home.name}"
        (home / "containerd.toml").write_text(
            f'version = 2\nroot = "{home}/containerd"\nstate = "{home}/cr"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{home}/c.sock"\n[ttrpc]\naddress = "{home}/c.sock.ttrpc"\n'
        )
        self._daemon("containerd", "containerd", "--config", f"{home}/containerd.toml")
        self._daemon(
            "dockerd", "dockerd", "--containerd", f"{home}/c.sock", "--data-root", f"{home}/docker",
            "--exec-root", f"{home}/exec", "--pidfile", f"{home}/docker.pid",
            "--host", self.docker_host, "--storage-driver", "overlay2", "--cgroup-parent", shim,
            "--live-restore", "--default-address-pool", "base=10.64.0.0/12,size=24", *self.extra,
        )  # fmt: skip
        self._until_it_answers()

    def compose(
        self, *argv: str, cwd: Path, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Type a command of docker compose; ``cwd`` must be below the engine's folder."""
        return self.inside("docker", "compose", *argv, cwd=cwd, check=check, timeout=timeout)

    def cleanup(self) -> list[str]:
        left = super().cleanup()
        for path in sorted(Path("/sys/fs/cgroup").glob(f"*/{self.home.name}")):
            for below in [*sorted(path.glob("**/"), reverse=True)]:
                with contextlib.suppress(OSError):
                    below.rmdir()
        return left


class PodmanEngine(PeerEngine):
    """Podman's service with its Docker-compatible socket."""

    def start(self) -> None:
        home = self.home
        self._daemon(
            "podman", "podman", "--root", f"{home}/podman", "--runroot", f"{home}/pr",
            "--cgroup-manager", "cgroupfs", "--events-backend", "file",
            "system", "service", "--time=0", self.docker_host,
        )  # fmt: skip
        self._until_it_answers()

    def stop(self) -> None:
        for process in self._held:
            process.send_signal(signal.SIGTERM)
        super().stop()


KINDS: dict[str, type[RealEngine]] = {
    "built-in": RealEngine,
    "docker": DockerEngine,
    "podman": PodmanEngine,
}
EVERY_ENGINE = [
    "built-in",
    pytest.param("docker", marks=pytest.mark.long),
    pytest.param("podman", marks=pytest.mark.long),
]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)):
            return False
        probe.settimeout(5)
        try:
            probe.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in probe.recv(64)
        except OSError:
            return False
