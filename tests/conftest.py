"""Fixtures every test may use: an engine of the test's own, images without a registry, a command line to type in."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from stackctl.paths import EnginePaths, engine_paths
from tests.leaks import leftovers
from tests.orphans import leave_orphans_to_init

BUSYBOX = Path("/bin/busybox")

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.getuid() != 0 and any(item.get_closest_marker("root") for item in items):
        pytest.exit("real-engine tests were selected, and they need root", returncode=1)


class RealEngine:
    """A stackctld of the test's own, on paths of its own; started by the command line when first used."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # No proxy or credentials of the machine; nothing outside ``home`` is read or written.
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "STACKCTL_RUN_ROOT": str(home / "run"),
            "STACKCTL_DATA_ROOT": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }

    @property
    def paths(self) -> EnginePaths:
        return engine_paths(self.environ, uid=os.getuid())

    @property
    def globals(self) -> list[str]:
        """What every command line of ours begins with."""
        return []

    @property
    def argv(self) -> list[str]:
        """The start of a command line, for tests that start it themselves."""
        return [sys.executable, "-m", "stackctl", *self.globals]

    @property
    def docker_host(self) -> str:
        return f"unix://{self.paths.socket}"

    def stackctl(
        self,
        *argv: str,
        cwd: Path | None = None,
        check: bool = True,
        timeout: float = 120,
        environ: dict[str, str] | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Type a command; its output as text. ``check`` fails the test with what was printed."""
        done = subprocess.run(
            [*self.argv, *argv],
            cwd=cwd or self.home,
            env={
                **self.environ,
                "PYTHONPATH": str(Path(__file__).parent.parent),
                **(environ or {}),
            },
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin if stdin is not None else "",
            check=False,
        )
        if check and done.returncode:
            log = self.paths.daemon_log
            tail = log.read_text()[-3000:] if log.exists() else ""
            pytest.fail(
                f"stackctl {' '.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}\n{tail}"
            )
        return done

    def docker(
        self, *argv: str, check: bool = True, timeout: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Type a command of the stock docker CLI."""
        from tests.compat.dockercli import docker_cli

        done = subprocess.run(
            [docker_cli(), *argv],
            env={**self.environ, "DOCKER_HOST": self.docker_host},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
            input=stdin if stdin is not None else "",
            check=False,
        )
        if check and done.returncode:
            pytest.fail(
                f"docker {' '.join(argv)} exited {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def start(self) -> None:
        self.stackctl("engine", "start")

    def restart(self) -> None:
        """Replace the daemon under running containers."""
        self.stackctl("engine", "restart")

    def beside(self, *argv: str) -> str:
        """Run a program where the engine's host is; return its output."""
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    def import_busybox(self, name: str = "busybox") -> None:
        """Give the engine an image with a shell, without a registry."""
        archive = self.home / "busybox.tar"
        if not archive.exists():
            archive.write_bytes(busybox_rootfs())
        self.stackctl("image", "import", str(archive), name)

    def cleanup(self) -> list[str]:
        """Remove everything that a failed test left, stop the daemon; return what could not be removed."""
        self.stackctl("engine", "stop", "--remove-all", check=False)
        deadline = time.monotonic() + 60
        while (left := leftovers(self.paths)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left


def free_port() -> int:
    """Return a host port that nobody has: several copies of the tests may run on one machine."""
    with socket.create_server(("0.0.0.0", 0)) as probe:
        return probe.getsockname()[1]


def busybox_rootfs() -> bytes:
    """Return a tar of a root with a static busybox under all its names, passwd and the usual folders."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in (
            "bin",
            "sbin",
            "etc",
            "tmp",
            "root",
            "proc",
            "sys",
            "dev",
            "var",
            "home",
            "usr",
            "usr/bin",
            "usr/sbin",
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(member)
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        applets = subprocess.run(
            [BUSYBOX, "--list-full"], capture_output=True, text=True, check=True
        ).stdout.split()
        for applet in applets:
            if applet == "bin/busybox" or applet.startswith("linuxrc"):
                continue
            member = tarfile.TarInfo(applet)
            member.type, member.linkname = tarfile.SYMTYPE, "/bin/busybox"
            tar.addfile(member)
        for name, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n"),
            ("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _orphans_go_to_init() -> Iterator[None]:
    yield
    leave_orphans_to_init()


def one_engine(kind: type[RealEngine]) -> Iterator[RealEngine]:
    home = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))
    try:
        real = kind(home)
        try:
            yield real
        finally:
            left = real.cleanup()
        assert not left, "left on the machine:\n" + "\n".join(left)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def engine() -> Iterator[RealEngine]:
    """An engine for the tests of one module; nothing of it may be left at the end."""
    yield from one_engine(RealEngine)


@pytest.fixture(scope="module")
def any_engine(request: pytest.FixtureRequest) -> Iterator[RealEngine]:
    """Ours, and in the long run a real Docker Engine and Podman's service, one after the other."""
    from tests.peers import KINDS

    for made in one_engine(KINDS[request.param]):
        made.start()
        yield made
