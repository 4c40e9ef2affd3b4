"""An OpenSSH server of the test's own on loopback: its own keys, its own configuration, nothing installed."""

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import free_port

CACHE = Path(__file__).parent.parent / ".cache" / "openssh"
# In a mount namespace: sshd wants a directory of its own in /run, and a user of its own in /etc/passwd.
_SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind "$1/passwd" /etc/passwd
exec "$2" -D -e -f "$1/sshd_config"
"""


def program() -> tuple[Path, dict[str, str]]:
    """Return the path of sshd and the variables it needs: the machine's, or Debian's unpacked beside the tests."""
    if found := shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"):
        return Path(found), {}
    CACHE.mkdir(parents=True, exist_ok=True)
    root = CACHE / "root"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "usr/sbin/sshd").exists():
            for package in ("libwrap0", "openssh-server"):
                subprocess.run(
                    ["apt-get", "download", package], cwd=CACHE, check=True, capture_output=True
                )
            for archive in CACHE.glob("*.deb"):
                subprocess.run(["dpkg", "-x", archive, root], check=True)
    folders = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]
    return root / "usr/sbin/sshd", {"LD_LIBRARY_PATH": ":".join(map(str, folders))}


class SshServer:
    """``path`` is where the far side looks for programs; ``environ`` is for who wants to come in."""

    def __init__(self, home: Path, *, path: str) -> None:
        self.home = home
        self._shared = Path(tempfile.mkdtemp(prefix="ss", dir="/tmp"))  # short: sockets go there
        self.port = free_port()
        home.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True
            )
        shutil.copy(home / "user.pub", home / "authorized_keys")
        me = pwd.getpwuid(os.getuid())
        (home / "passwd").write_text(
            f"{me.pw_name}:x:0:0::{home}:/bin/sh\nsshd:x:101:65534::/run/sshd:/bin/false\n"
        )
        (home / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {home}/host\nPidFile none\n"
            f"AuthorizedKeysFile {home}/authorized_keys\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nPermitRootLogin yes\nSetEnv PATH={path}\n"
        )
        public = (home / "host.pub").read_text()
        (home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")
        wrapper = home / "bin" / "ssh"
        wrapper.parent.mkdir()
        real = shutil.which("ssh")
        wrapper.write_text(
            f'#!/bin/sh\nexec {real} -F none -i {home}/user -o UserKnownHostsFile={home}/known_hosts "$@"\n'
        )
        wrapper.chmod(0o755)
        server, extra = program()
        self._log = home / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", home, server],
                env={**os.environ, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"sshd did not start: {self._log.read_text()}")
            time.sleep(0.05)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": f"{self.home}/bin:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(self._shared),
        }

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._shared, ignore_errors=True)
