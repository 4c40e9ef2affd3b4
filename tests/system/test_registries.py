"""The command line against Debian's docker-registry: Basic auth, TLS by an own authority, credential helpers."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.conftest import RealEngine
from tests.contracts.test_registry import HTPASSWD, LocalRegistry

pytestmark = pytest.mark.root
# Of the benchmarking range (RFC 2544), so that it is neither loopback, which is taken without TLS, nor anybody's.
ADDRESS = "198.18.77.1"
HELPER = """#!/usr/bin/env python3
import json, pathlib, sys
store = pathlib.Path(__file__).with_name("kept.json")
kept = json.loads(store.read_text()) if store.exists() else {}
verb, text = sys.argv[1], sys.stdin.read().strip()
with store.with_name("verbs").open("a") as verbs:
    verbs.write(verb + "\\n")
if verb == "store":
    entry = json.loads(text)
    kept[entry["ServerURL"]] = entry
elif text not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "get":
    print(json.dumps(kept[text]))
elif verb == "erase":
    del kept[text]
store.write_text(json.dumps(kept))
"""


def authority(home: Path) -> None:
    """Make an authority (ca.crt) and the registry's certificate for ADDRESS (server.crt, server.key)."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority"],
        cwd=home, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", "server.key", "-out", "server.crt", "-days", "2", "-subj", "/CN=registry",
         "-addext", f"subjectAltName=IP:{ADDRESS}", "-addext", "basicConstraints=CA:FALSE",
         "-CA", "ca.crt", "-CAkey", "ca.key"],
        cwd=home, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def address():
    added = subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=False)
    assert added.returncode in (0, 2)
    yield ADDRESS
    if added.returncode == 0:
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=False)


@pytest.fixture(scope="module")
def secured(address):
    """A registry behind TLS of an own authority and Basic auth (user, secret)."""
    home = Path(tempfile.mkdtemp(prefix="skreg", dir="/tmp"))
    authority(home)
    (home / "htpasswd").write_text(HTPASSWD + "\n")
    local = LocalRegistry(
        home,
        f"auth: {{htpasswd: {{realm: r, path: {home}/htpasswd}}}}\n",
        address=address,
        tls=f"certificate: {home}/server.crt, key: {home}/server.key",
    )
    yield local
    local.stop()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def engine(secured):
    home = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))
    certs = home / "certs.d" / secured.host
    certs.mkdir(parents=True)
    shutil.copy(secured.home / "ca.crt", certs / "ca.crt")
    (home / "engine.json").write_text(json.dumps({"certs-directories": [str(home / "certs.d")]}))
    real = RealEngine(home)
    real.environ["STACKCTL_ENGINE_CONFIG"] = str(home / "engine.json")
    helpers = home / "bin"
    helpers.mkdir()
    (helpers / "docker-credential-box").write_text(HELPER)
    (helpers / "docker-credential-box").chmod(0o755)
    real.environ["PATH"] = f"{helpers}:{os.environ['PATH']}"
    try:
        real.import_busybox("box")
        yield real
        left = real.cleanup()
        assert not left, "left on the machine:\n" + "\n".join(left)
    finally:
        real.cleanup()
        shutil.rmtree(home, ignore_errors=True)


def login(engine: RealEngine, host: str, password: str = "secret", **more):
    return engine.stackctl(
        "login", "-u", "user", "--password-stdin", host, stdin=f"{password}\n", **more
    )


def docker_config(engine: RealEngine) -> Path:
    return engine.home / ".docker" / "config.json"


@pytest.fixture
def config(engine):
    """The user's Docker config, which is gone afterwards."""
    file = docker_config(engine)
    file.parent.mkdir(exist_ok=True)
    yield file
    file.unlink(missing_ok=True)
    for name in ("kept.json", "verbs"):
        (engine.home / "bin" / name).unlink(missing_ok=True)


def test_a_login_lets_push_and_pull_and_a_logout_ends_that(engine, secured, config):
    config.write_text(json.dumps({"detachKeys": "ctrl-x"}))
    name = f"{secured.host}/team/box:v1"
    engine.stackctl("image", "tag", "box", name)
    refused = engine.stackctl("image", "push", name, check=False)
    assert refused.returncode == 1
    assert "unauthorized" in refused.stderr
    assert secured.host in refused.stderr
    said = login(engine, secured.host)
    assert f"logged in to {secured.host} as user" in said.stderr
    kept = json.loads(config.read_text())
    assert kept["detachKeys"] == "ctrl-x"
    assert list(kept["auths"]) == [secured.host]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    pushed = engine.stackctl("image", "push", name)
    assert "digest: sha256:" in pushed.stderr
    before = json.loads(engine.stackctl("image", "inspect", name).stdout)[0]
    engine.stackctl("image", "rm", name)
    engine.stackctl("image", "pull", name)
    after = json.loads(engine.stackctl("image", "inspect", name).stdout)[0]
    assert after["Id"] == before["Id"]
    assert engine.docker("pull", name).stdout.startswith("v1: Pulling from team/box")
    assert f"logged out from {secured.host}" in engine.stackctl("logout", secured.host).stderr
    assert json.loads(config.read_text()) == {"detachKeys": "ctrl-x", "auths": {}}
    denied = engine.stackctl("image", "pull", name, check=False)
    assert denied.returncode == 1
    assert secured.host in denied.stderr
    assert "denied" in denied.stderr


def test_a_wrong_password_is_refused_and_not_kept(engine, secured, config):
    refused = login(engine, secured.host, "wrong", check=False)
    assert refused.returncode == 1
    assert secured.host in refused.stderr
    assert "unauthorized" in refused.stderr
    assert not config.exists()


@pytest.mark.parametrize("where", ["credsStore", "credHelpers"])
def test_a_credential_helper_keeps_the_login_and_is_asked_for_it(engine, secured, config, where):
    config.write_text(
        json.dumps({where: "box" if where == "credsStore" else {secured.host: "box"}})
    )
    said = login(engine, secured.host)
    assert "kept in docker-credential-box" in said.stderr
    assert "secret" not in config.read_text()
    kept = json.loads((engine.home / "bin" / "kept.json").read_text())
    assert kept[secured.host] == {
        "ServerURL": secured.host,
        "Username": "user",
        "Secret": "secret",
    }
    name = f"{secured.host}/helped/{where.lower()}:v1"
    engine.stackctl("image", "tag", "box", name)
    engine.stackctl("image", "push", name)
    # Without arguments a login takes what is kept.
    assert "as user" in engine.stackctl("login", secured.host).stderr
    engine.stackctl("logout", secured.host)
    assert json.loads((engine.home / "bin" / "kept.json").read_text()) == {}
    assert {"store", "get", "erase"} <= set((engine.home / "bin" / "verbs").read_text().split())


def test_a_missing_credential_helper_is_named(engine, secured, config):
    config.write_text(json.dumps({"credsStore": "nowhere"}))
    refused = login(engine, secured.host, check=False)
    assert refused.returncode == 1
    assert "docker-credential-nowhere is not in PATH" in refused.stderr


def test_an_authority_nobody_trusts_is_said_with_what_to_do(engine, secured, address):
    certs = engine.home / "certs.d" / secured.host / "ca.crt"
    away = certs.with_suffix(".away")
    certs.rename(away)
    try:
        engine.stackctl("engine", "restart")
        refused = engine.stackctl("image", "pull", f"{secured.host}/team/box:v1", check=False)
    finally:
        away.rename(certs)
    assert refused.returncode == 1
    assert f"tried {address}" in refused.stderr
    assert "certificate" in refused.stderr
    assert f"certs.d/{secured.host}" in refused.stderr


def test_plain_http_is_refused_until_the_settings_name_the_registry(engine, address, tmp_path):
    home = tmp_path / "plain"
    home.mkdir()
    local = LocalRegistry(home, address=address)
    settings = engine.home / "engine.json"
    before = settings.read_text()
    name = f"{local.host}/box:v1"
    try:
        engine.stackctl("image", "tag", "box", name)
        refused = engine.stackctl("image", "push", name, check=False)
        assert refused.returncode == 1
        assert f"tried {address}" in refused.stderr
        assert "insecure-registries" in refused.stderr
        settings.write_text(
            json.dumps({**json.loads(before), "insecure-registries": ["198.18.77.0/24"]})
        )
        engine.stackctl("engine", "restart")
        engine.stackctl("image", "push", name)
    finally:
        settings.write_text(before)
        engine.stackctl("engine", "restart")
        local.stop()


def test_a_mirror_serves_docker_hub_s_images(engine, tmp_path):
    home = tmp_path / "mirror"
    home.mkdir()
    local = LocalRegistry(home)
    settings = engine.home / "engine.json"
    before = settings.read_text()
    engine.stackctl("image", "tag", "box", f"{local.host}/library/boxed:v1")
    engine.stackctl("image", "push", f"{local.host}/library/boxed:v1")
    try:
        settings.write_text(
            json.dumps({**json.loads(before), "registry-mirrors": [f"http://{local.host}"]})
        )
        engine.stackctl("engine", "restart")
        engine.stackctl("image", "pull", "boxed:v1")
        found = json.loads(engine.stackctl("image", "inspect", "boxed:v1").stdout)[0]
        assert "boxed:v1" in found["RepoTags"]
    finally:
        settings.write_text(before)
        engine.stackctl("engine", "restart")
        local.stop()


def test_images_are_tagged_saved_shown_and_pruned_from_the_command_line(engine, tmp_path):
    engine.stackctl("image", "tag", "box", "kept:v1")
    archive = tmp_path / "kept.tar"
    engine.stackctl("image", "save", "-o", str(archive), "kept:v1", "box")
    assert [item.name for item in tmp_path.iterdir()] == ["kept.tar"]
    identity = json.loads(engine.stackctl("image", "inspect", "kept:v1").stdout)[0]["Id"]
    lines = engine.stackctl("image", "history", "--format", "json", "kept:v1").stdout.splitlines()
    assert json.loads(lines[0])["Id"] == identity
    assert "CREATED BY" in engine.stackctl("image", "history", "kept:v1").stdout
    engine.stackctl("image", "rm", "kept:v1")
    engine.stackctl("image", "load", str(archive))
    assert json.loads(engine.stackctl("image", "inspect", "kept:v1").stdout)[0]["Id"] == identity
    gone = engine.stackctl("image", "prune", "--all")
    assert "untagged kept:v1" in gone.stdout
    assert "freed " in gone.stderr
    assert engine.stackctl("image", "inspect", "kept:v1", check=False).returncode == 1
    missing = engine.stackctl(
        "image", "save", "-o", str(tmp_path / "x.tar"), "nowhere", check=False
    )
    assert missing.returncode == 1
    assert not (tmp_path / "x.tar").exists()
    engine.stackctl("image", "load", str(archive))
