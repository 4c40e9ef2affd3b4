"""A real stackctld on paths of its own, with the stock docker clients pointed at it."""

import contextlib
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from stackctl.paths import EnginePaths, engine_paths
from tests.compat.dockercli import docker_cli
from tests.conftest import busybox_rootfs
from tests.leaks import leftovers

ROOT = Path(__file__).parent.parent.parent


class Daemon:
    """stackctld as a child process, and the docker command line talking to it."""

    def __init__(self, home: Path, program: str = "") -> None:
        """``program`` is the text of one that runs the daemon, instead of the daemon's own module."""
        self.home = home
        self._words = ("-P", "-c", program) if program else ("-m", "stackctl.daemon.main")
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "STACKCTL_RUN_ROOT": str(home / "run"),
            "STACKCTL_DATA_ROOT": str(home / "data"),
            "DOCKER_BUILDKIT": "0",
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def paths(self) -> EnginePaths:
        return engine_paths(self.environ, uid=os.getuid())

    @property
    def host(self) -> str:
        return f"unix://{self.paths.socket}"

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._words],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"stackctld did not start:\n{self.log[-3000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.paths.socket)) == 0

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.process = None

    def command(self, *argv: str) -> tuple[list[str], dict[str, str]]:
        return [docker_cli(), *argv], {**self.environ, "DOCKER_HOST": self.host}

    def run(
        self,
        *argv: str,
        stdin: str | bytes | None = None,
        code: int | None = 0,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Type a docker command; ``code`` is the exit code that is expected, None for any."""
        words, environ = self.command(*argv)
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            words,
            env=environ,
            cwd=cwd or self.home,
            capture_output=True,
            input=data if data is not None else b"",
            timeout=timeout,
            check=False,
        )
        result = subprocess.CompletedProcess(
            words,
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if code is not None and done.returncode != code:
            pytest.fail(
                f"docker {' '.join(argv)} exited {done.returncode}, not {code}\n"
                f"{result.stdout}{result.stderr}\n--- daemon\n{self.log[-3000:]}"
            )
        return result

    def out(self, *argv: str, **options: object) -> str:
        return self.run(*argv, **options).stdout.strip()  # type: ignore[arg-type]

    def typed(
        self, *argv: str, keys: bytes, until: bytes, timeout: float = 90
    ) -> tuple[bytes, int]:
        """Run a docker command on a terminal, type ``keys`` once ``until`` showed; return output and exit code."""
        words, environ = self.command(*argv)
        pid, terminal = pty.fork()
        if pid == 0:
            os.execvpe(words[0], words, {**environ, "TERM": "xterm"})
        seen, sent = b"", False
        deadline = time.monotonic() + timeout
        try:
            while time.monotonic() < deadline:
                if not select.select([terminal], [], [], 0.2)[0]:
                    continue
                try:
                    data = os.read(terminal, 65536)
                except OSError:
                    break
                if not data:
                    break
                seen += data
                if not sent and until in seen:
                    os.write(terminal, keys)
                    sent = True
            else:
                os.kill(pid, signal.SIGKILL)
        finally:
            _, status = os.waitpid(pid, 0)
            os.close(terminal)
        return seen, os.waitstatus_to_exitcode(status)

    def clear(self) -> None:
        """Remove every container, network and volume that tests left."""
        containers = self.out("ps", "-aq").split()
        if containers:
            self.run("rm", "-f", "-v", *containers, code=None)
        self.run("network", "prune", "-f", code=None)
        self.run("volume", "prune", "-af", code=None)


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as daemon:
        yield daemon


@contextlib.contextmanager
def running_daemon(program: str = "") -> Iterator[Daemon]:
    """A daemon with the image busybox; in the end it leaves nothing behind, and no traceback in its log."""
    home = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))
    running = Daemon(home, program)
    try:
        running.start()
        running.run("import", "-", "busybox:latest", stdin=busybox_rootfs())
        yield running
        running.clear()
        assert running.stop() == 0, running.log[-3000:]
        deadline = time.monotonic() + 60
        while (left := leftovers(running.paths)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, "left on the machine:\n" + "\n".join(left)
        assert "Traceback" not in running.log, running.log[-6000:]
    finally:
        if running.process is not None:
            running.kill()
        _unmount(home)
        shutil.rmtree(home, ignore_errors=True)


def _unmount(home: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(f"{home}/"):
            with contextlib.suppress(OSError):
                subprocess.run(["umount", "-l", target], check=False)


@pytest.fixture
def dock(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon, emptied of containers, networks and volumes afterwards."""
    yield daemon
    daemon.clear()


@pytest.fixture
def sdk(dock: Daemon) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=dock.host, timeout=120)
    yield client
    client.close()
