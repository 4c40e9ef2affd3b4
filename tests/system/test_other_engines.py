"""The ways to another engine: --engine, DOCKER_HOST, contexts, TLS and ssh, each against a real Docker Engine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.dockercli import docker_cli
from tests.conftest import free_port, one_engine
from tests.peers import DockerEngine, PodmanEngine
from tests.sshserver import SshServer

pytestmark = [pytest.mark.root, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
FILE = """
name: far
services:
  web:
    image: busybox
    command: [sh, -c, "echo is up; exec sleep 1000"]
    stop_signal: SIGKILL
    configs: [words]
    depends_on: {job: {condition: service_completed_successfully}}
  job: {image: busybox, command: ["true"]}
configs: {words: {content: said}}
"""
BIG = "".join(f"{number}\n" for number in range(50_000))


class TlsDocker(DockerEngine):
    """A Docker Engine that serves a TCP port with mutual TLS as well."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.port = free_port()
        certificates(home)
        self.extra = (
            "--host", f"tcp://127.0.0.1:{self.port}", "--tlsverify", "--tlscacert", f"{home}/ca.pem",
            "--tlscert", f"{home}/server.pem", "--tlskey", f"{home}/server-key.pem",
        )  # fmt: skip


def certificates(home: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=home, check=True, capture_output=True)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca")
    for name, extra in (
        ("server", "subjectAltName=IP:127.0.0.1"),
        ("", "extendedKeyUsage=clientAuth"),
    ):
        cert, key = (f"{name}.pem", f"{name}-key.pem") if name else ("cert.pem", "key.pem")
        (home / "extra").write_text(extra)
        openssl("req", *new, "-keyout", key, "-out", "r.csr", "-subj", f"/CN={name or 'client'}")
        openssl(
            "x509", "-req", "-in", "r.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
            "-CAcreateserial", "-out", cert, "-extfile", "extra",
        )  # fmt: skip


@pytest.fixture(scope="module")
def docker_engine():
    for made in one_engine(TlsDocker):
        made.start()
        made.import_busybox()
        yield made


@pytest.fixture
def use(tmp_path):
    """Use a stack in every way that needs the wire: plain calls, streams, connections taken over."""
    (tmp_path / "stack.yaml").write_text(FILE)

    def run(engine, *globals_, environ=None, before=()):
        def type_(*argv, stdin="", code=0):
            done = subprocess.run(
                [*before, sys.executable, "-m", "stackctl", *globals_, *argv],
                cwd=tmp_path,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(engine.home),
                    "PYTHONPATH": str(ROOT),
                    "XDG_STATE_HOME": str(tmp_path),
                    **(environ or {}),
                },
                capture_output=True,
                text=True,
                input=stdin,
                timeout=120,
                check=False,
            )
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout

        type_("up", "-d")
        assert engine.docker("ps", "--format", "{{.Names}}").stdout.split() == ["far-web-1"]
        assert "Nothing to do" in type_("plan")
        assert "far-web-1" in type_("ps")
        assert type_("logs", "--no-log-prefix", "web") == "is up\n"
        assert type_("exec", "-T", "web", "cat", stdin=BIG) == BIG
        assert type_("exec", "-T", "web", "cat", "/words") == "said"
        type_("exec", "-T", "web", "sh", "-c", "exit 7", code=7)
        assert type_("run", "--rm", "-T", "job", "wc", "-c", stdin=BIG).strip() == str(len(BIG))
        type_("down", "-v")
        assert engine.docker("ps", "-aq").stdout == ""

    return run


def context(home: Path, name: str, endpoint: dict, tls: dict[str, Path] | None = None) -> dict:
    """Write a docker context and return the variables that lead to it."""
    folder = hashlib.sha256(name.encode()).hexdigest()
    meta = home / "contexts" / "meta" / folder / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    for file, source in (tls or {}).items():
        kept = home / "contexts" / "tls" / folder / "docker" / file
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, kept)
    (home / "config.json").write_text(json.dumps({"currentContext": name}))
    return {"DOCKER_CONFIG": str(home)}


def test_docker_host_and_a_context(docker_engine, use, tmp_path):
    use(docker_engine, environ={"DOCKER_HOST": docker_engine.docker_host})
    found = context(tmp_path / "dc", "lab", {"Host": docker_engine.docker_host})
    use(docker_engine, environ=found)
    use(docker_engine, "--engine", "lab", environ=found)


@pytest.mark.parametrize(
    ("option", "place"), [("docker", "/run/docker.sock"), ("podman", "/run/podman/podman.sock")]
)
def test_the_usual_places_by_name(docker_engine, use, option, place):
    """In a mount namespace where the engine's socket is at its usual place."""
    script = (
        f'mount -t tmpfs tmpfs /run; mkdir -p {Path(place).parent}; ln -s "$0" {place}; exec "$@"'
    )
    beside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]

    def with_(engine):
        use(engine, "--engine", option, before=[*beside, str(engine.socket)])

    if option == "docker":
        with_(docker_engine)
        return
    for podman in one_engine(PodmanEngine):
        podman.start()
        podman.import_busybox()
        with_(podman)


def test_mutual_tls_by_variables_and_by_a_context(docker_engine, use, tmp_path):
    home, address = docker_engine.home, f"tcp://127.0.0.1:{docker_engine.port}"
    inside = ["nsenter", "-t", str(docker_engine.holder), "-n"]
    variables = {"DOCKER_HOST": address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(home)}
    use(docker_engine, environ=variables, before=inside)
    files = {name: home / name for name in ("ca.pem", "cert.pem", "key.pem")}
    endpoint = {"Host": address, "SkipTLSVerify": False}
    use(docker_engine, environ=context(tmp_path / "tc", "tls", endpoint, files), before=inside)


@pytest.fixture
def ssh_server(tmp_path):
    server = SshServer(tmp_path / "ssh", path=f"{Path(docker_cli()).parent}:/usr/bin:/bin")
    yield server
    server.stop()


def test_ssh_as_the_docker_command_line_has_it(docker_engine, use, ssh_server, tmp_path):
    address = f"ssh://root@127.0.0.1:{ssh_server.port}{docker_engine.socket}"
    use(docker_engine, "--engine", address, environ=ssh_server.environ)
    found = context(tmp_path / "sc", "far", {"Host": address})
    use(docker_engine, environ={**ssh_server.environ, **found})


def test_ssh_to_our_own_engine_needs_no_docker_there(engine, use, tmp_path):
    engine.import_busybox()
    far = tmp_path / "far"
    far.mkdir()
    program = far / "stackctl"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m stackctl "$@"\n')
    program.chmod(0o755)
    for name in ("sh",):
        (far / name).symlink_to("/bin/sh")
    server = SshServer(tmp_path / "ssh", path=str(far))
    try:
        address = f"ssh://root@127.0.0.1:{server.port}{engine.paths.socket}"
        use(engine, environ={**server.environ, "DOCKER_HOST": address})
    finally:
        server.stop()


def test_ssh_that_fails_says_what_ssh_said(ssh_server, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stackctl", "--engine", f"ssh://root@127.0.0.1:{ssh_server.port}/nowhere.sock", "ps"],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **ssh_server.environ},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (ssh_server.home / "known_hosts").write_text("")
    other = subprocess.run(
        [sys.executable, "-m", "stackctl", "-p", "x", "--engine", f"ssh://root@127.0.0.1:{ssh_server.port}", "ps"],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **ssh_server.environ,
             "XDG_RUNTIME_DIR": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert other.returncode == 1
    assert "Host key verification failed" in other.stderr
    assert "Traceback" not in other.stderr
