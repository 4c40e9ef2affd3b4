import hashlib
import json

import pytest

from stackctl.client.endpoints import choose
from stackctl.errors import InvalidInputError, NotFoundError


def test_the_built_in_engine_is_the_default(tmp_path) -> None:
    found = choose("", {"HOME": str(tmp_path)}, uid=0)
    assert (found.builtin, found.path) == (True, "/run/stackctl/engine.sock")


def test_the_order_is_option_socket_docker_host_context(tmp_path) -> None:
    folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"lab").hexdigest()
    folder.mkdir(parents=True)
    meta = {"Name": "lab", "Endpoints": {"docker": {"Host": "unix:///lab.sock"}}}
    (folder / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "lab"}))
    environ = {"HOME": "/root", "DOCKER_CONFIG": str(tmp_path)}
    assert choose("", environ, uid=0).path == "/lab.sock"
    environ["DOCKER_HOST"] = "unix:///host.sock"
    assert choose("", environ, uid=0).path == "/host.sock"
    environ["STACKCTL_SOCKET"] = "/mine.sock"
    assert choose("", environ, uid=0).path == "/mine.sock"
    assert choose("docker", environ, uid=0).path == "/var/run/docker.sock"
    assert choose("lab", environ, uid=0).path == "/lab.sock"


def test_tls_takes_the_files_of_the_certificate_folder() -> None:
    environ = {
        "HOME": "/h",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/certs",
        "DOCKER_HOST": "tcp://h:2376",
    }
    found = choose("", environ, uid=0)
    assert (found.host, found.port) == ("h", 2376)
    assert found.tls is not None
    assert (found.tls.ca, found.tls.verify) == ("/certs/ca.pem", True)


def test_what_is_no_engine_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        choose("nowhere", {"HOME": "/nonexistent"}, uid=0)
    with pytest.raises(InvalidInputError, match="ftp"):
        choose("ftp://x", {}, uid=0)
