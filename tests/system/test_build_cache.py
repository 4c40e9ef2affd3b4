"""Steps kept in registries and taken from there, images as caches, archives of what was built."""

import contextlib
import json
import subprocess
import tarfile
from pathlib import Path

import docker
import pytest

from tests.contracts.test_registry import LocalRegistry
from tests.system.test_local_build import printed, stack

pytestmark = pytest.mark.root
UUID = "cat /proc/sys/kernel/random/uuid"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    local = LocalRegistry(tmp_path_factory.mktemp("registry"))
    yield local
    local.stop()


@pytest.fixture(autouse=True)
def _busybox(engine):
    engine.import_busybox("busybox")


def forget(engine, *images: str) -> None:
    engine.stackctl("image", "rm", *images)
    engine.stackctl("image", "prune", "--builds")


def manifest(registry: LocalRegistry, name: str) -> dict:
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/{name}"]
    return json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)


def test_steps_are_kept_in_a_registry_and_only_those_needed_are_fetched(engine, registry, tmp_path):
    ref = f"{registry.host}/cache/steps:1"
    build = {
        "cache_to": [f"type=registry,ref={ref},mode=max"],
        "cache_from": [f"type=registry,ref={ref}"],
    }
    text = f"FROM busybox AS one\nRUN {UUID} > /id\nFROM busybox\nCOPY --from=one /id /id\nRUN {UUID} > /again\n"
    home = stack(tmp_path / "a", build, text)
    # The first time there is nothing to take from, which is no failure.
    engine.stackctl("build", cwd=home)
    first = printed(engine, "cat /id /again")
    assert "stackctl.build-cache" in manifest(registry, "cache/steps:1")["config"]["mediaType"]
    forget(engine, "made:v1")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /id /again") == first
    # Another last step: those before it are still taken.
    home.joinpath("Dockerfile").write_text(text + "RUN echo more > /more\n")
    forget(engine, "made:v1")
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /id /again /more") == f"{first}more\n"
    assert not [*(engine.paths.data_root / "build").glob("*")]


def test_only_the_target_s_steps_are_kept_where_that_is_asked(engine, registry, tmp_path):
    build = {"cache_to": [f"type=registry,ref={registry.host}/cache/least:1,mode=min"]}
    text = f"FROM busybox AS one\nRUN {UUID} > /id\nFROM busybox\nCOPY --from=one /id /id\n"
    home = stack(tmp_path / "b", build, text)
    engine.stackctl("build", cwd=home)
    # The base's layer and that of COPY; not that of the RUN.
    assert len(manifest(registry, "cache/least:1")["layers"]) == 2


def test_an_image_that_was_pushed_is_a_cache(engine, registry, tmp_path):
    ref = f"{registry.host}/app/web:1"
    text = f'FROM busybox\nENV A=b\nRUN {UUID} > /id\nCOPY w /w\nWORKDIR /made/here\nCMD ["x"]\n'
    build = {"cache_from": [ref], "cache_to": ["type=inline"], "tags": [ref]}
    home = stack(tmp_path / "c", build, text)
    (home / "w").write_text("w")
    engine.stackctl("build", cwd=home)
    first = json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]
    id_ = printed(engine, "cat /id")
    engine.stackctl("image", "push", ref)
    forget(engine, "made:v1", ref)
    said = engine.stackctl("build", cwd=home).stderr
    assert printed(engine, "cat /id") == id_, said
    assert json.loads(engine.stackctl("image", "inspect", "made:v1").stdout)[0]["Id"] == first["Id"]
    # What is copied differs: what comes before it is taken, it and what follows is not.
    (home / "w").write_text("other")
    forget(engine, "made:v1", ref)
    engine.stackctl("build", cwd=home)
    assert printed(engine, "cat /w /id") == f"other{id_}"


def test_what_is_wrong_with_a_cache_does_not_fail_a_build_but_keeping_does(
    engine, registry, tmp_path
):
    dead = "127.0.0.1:9/no/where:1"
    home = stack(tmp_path / "d", {"cache_from": [dead]}, "FROM busybox\nRUN echo x > /x\n")
    assert "made:v1" in engine.stackctl("build", cwd=home).stderr
    for lenient in ("", ",ignore-error=true"):
        build = {"cache_to": [f"type=registry,ref={dead}{lenient}"]}
        home = stack(tmp_path / f"e{bool(lenient)}", build, "FROM busybox\nRUN echo x > /x\n")
        done = engine.stackctl("build", cwd=home, check=False)
        assert done.returncode == (0 if lenient else 1)
    refused = stack(tmp_path / "f", {"cache_to": ["type=gha"]}, "FROM busybox\n")
    done = engine.stackctl("build", cwd=refused, check=False)
    assert "type=gha" in done.stderr
    assert "type=registry" in done.stderr


def test_cachefrom_of_the_classic_wire_means_those_images_alone(engine, tmp_path):
    engine.start()
    text = f"FROM busybox\nRUN {UUID} > /id\n"
    (tmp_path / "Dockerfile").write_text(text)
    with contextlib.closing(docker.DockerClient(base_url=engine.docker_host)) as client:
        first, _ = client.images.build(path=str(tmp_path), tag="one:v1")
        same, _ = client.images.build(path=str(tmp_path), cache_from=["one:v1"])
        other, _ = client.images.build(path=str(tmp_path), cache_from=["nosuch:v1"])
    assert same.id == first.id
    assert other.id != first.id


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_an_archive_of_the_image_is_written_and_read_by_skopeo(engine, tmp_path, kind):
    home = stack(tmp_path / "g", {}, "FROM scratch\nCOPY w /w\n")
    (home / "w").write_text("w")
    target: Path = tmp_path / f"{kind}.tar"
    engine.stackctl("build", "--output", f"type={kind},dest={target}", cwd=home)
    with tarfile.open(target) as archive:
        assert {"oci-layout", "index.json", "manifest.json"} <= set(archive.getnames())
    found = engine.stackctl("image", "inspect", "made:v1").stdout
    shown = subprocess.run(
        ["skopeo", "inspect", "--raw", f"{kind}-archive:{target}"], capture_output=True, check=True
    )  # fmt: skip
    assert json.loads(shown.stdout)["config"]["digest"] == json.loads(found)[0]["Id"]
