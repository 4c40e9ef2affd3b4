"""The docker command line: the one on PATH, or Debian's, fetched once and unpacked beside the tests."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parent.parent.parent / ".cache" / "docker-cli"


def docker_cli() -> str:
    """Return the path of a docker client; nothing is installed on the machine.

    ``STACKCTL_TEST_DOCKER`` names another one. Raises RuntimeError when there is none and none can be had.
    """
    if named := os.environ.get("STACKCTL_TEST_DOCKER"):
        return named
    if found := shutil.which("docker"):
        return found
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = CACHE / "root" / "usr" / "bin" / "docker"
        if not client.exists():
            _fetch()
    return str(client)


def _fetch() -> None:
    # Newer releases have the client in a package of its own.
    for package in ("docker-cli", "docker.io"):
        done = subprocess.run(
            ["apt-get", "download", package], cwd=CACHE, capture_output=True, text=True, check=False
        )
        archives = sorted(CACHE.glob(f"{package}_*.deb"))
        if done.returncode == 0 and archives:
            subprocess.run(["dpkg", "-x", str(archives[-1]), str(CACHE / "root")], check=True)
            if (CACHE / "root" / "usr" / "bin" / "docker").exists():
                return
    raise RuntimeError("there is no docker client: apt-get install docker.io")
