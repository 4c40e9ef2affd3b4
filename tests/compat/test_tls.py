"""The engine over TCP: mutual TLS, and plain only when it is asked for by name."""

import subprocess
import sys
import time

import pytest

from tests.compat.conftest import ROOT, Daemon
from tests.conftest import busybox_rootfs

pytestmark = pytest.mark.root


def openssl(home, *words):
    subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    home = tmp_path_factory.mktemp("tls")
    new = ("-newkey", "rsa:2048", "-nodes")
    for authority in ("ca", "other"):
        openssl(
            home, "req", "-x509", *new, "-keyout", f"{authority}-key.pem", "-out",
            f"{authority}.pem", "-subj", f"/CN={authority}",
        )  # fmt: skip
    for name, authority, extra in (
        ("server", "ca", "subjectAltName=IP:127.0.0.1"),
        ("client", "ca", "extendedKeyUsage=clientAuth"),
        ("stranger", "other", "extendedKeyUsage=clientAuth"),
    ):
        (home / "extra").write_text(extra)
        openssl(
            home, "req", *new, "-keyout", f"{name}-key.pem", "-out", "r.csr", "-subj", f"/CN={name}"
        )
        openssl(
            home, "x509", "-req", "-in", "r.csr", "-CA", f"{authority}.pem", "-CAkey",
            f"{authority}-key.pem", "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "extra",
        )  # fmt: skip
    return home


class TlsDaemon(Daemon):
    """An engine that serves a TCP port as well."""

    def __init__(self, home, port, certificates):
        super().__init__(home)
        self.port = port
        self.certificates = certificates

    def start(self):
        words = [
            "--host", f"tcp://127.0.0.1:{self.port}", "--tlsverify",
            "--tlscacert", "ca.pem", "--tlscert", "server.pem", "--tlskey", "server-key.pem",
        ]  # fmt: skip
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stackctl.daemon.main",
                 *(str(self.certificates / word) if word.endswith(".pem") else word for word in words)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while f"serving tcp://127.0.0.1:{self.port}" not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def over_tls(self, *argv, who="client", stdin=None, code=0):
        home = self.certificates
        flags = ["--host", f"tcp://127.0.0.1:{self.port}", "--tlsverify",
                 "--tlscacert", home / "ca.pem", "--tlscert", home / f"{who}.pem",
                 "--tlskey", home / f"{who}-key.pem"]  # fmt: skip
        return self.run(*map(str, flags), *argv, stdin=stdin, code=code)


@pytest.fixture
def tls(certificates, tmp_path_factory, unused_tcp_port):
    daemon = TlsDaemon(tmp_path_factory.mktemp("e"), unused_tcp_port, certificates)
    daemon.start()
    try:
        daemon.run("import", "-", "busybox:latest", stdin=busybox_rootfs())
        yield daemon
        daemon.clear()
    finally:
        daemon.stop()


def test_commands_work_over_mutual_tls_and_strangers_are_turned_away(tls):
    assert tls.over_tls("run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
    # The client closes its half; the answer still comes.
    text = "".join(f"{number}\n" for number in range(50_000))
    assert tls.over_tls("run", "--rm", "-i", "busybox", "cat", stdin=text).stdout == text
    assert tls.over_tls("ps", who="stranger", code=1).stdout == ""
    plain = tls.run("--host", f"tcp://127.0.0.1:{tls.port}", "ps", code=1)
    assert plain.stdout == ""


def test_plain_tcp_is_refused_unless_asked_for(tmp_path, unused_tcp_port):
    done = subprocess.run(
        [sys.executable, "-m", "stackctl.daemon.main", "--host", f"tcp://127.0.0.1:{unused_tcp_port}",
         "--run-root", str(tmp_path / "r"), "--data-root", str(tmp_path / "d")],
        capture_output=True, text=True, cwd=ROOT, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "without TLS" in done.stderr
    assert "--insecure-tcp" in done.stderr
