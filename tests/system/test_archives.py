"""Images saved by us in other tools' hands and back: skopeo always, Docker and Podman in the long run."""

import json
import os
import shlex
import subprocess

import pytest

pytestmark = pytest.mark.root


def skopeo(*argv: str) -> str:
    return subprocess.run(["skopeo", *argv], capture_output=True, text=True, check=True).stdout


def inspected(engine, name: str) -> dict:
    return json.loads(engine.stackctl("image", "inspect", name).stdout)[0]


@pytest.fixture
def saved(engine, tmp_path):
    """An image of two layers under two names, and its archive."""
    engine.import_busybox("busybox")
    home = tmp_path / "ctx"
    home.mkdir()
    (home / "Dockerfile").write_text(
        'FROM busybox\nRUN echo x > /x && rm /etc/group && ln -s x /l\nCMD ["cat", "/x"]\n'
    )
    engine.docker("build", "-q", "-t", "two:v1", str(home))
    engine.docker("tag", "two:v1", "localhost:1/team/two:v2")
    archive = tmp_path / "saved.tar"
    engine.stackctl("image", "save", "-o", str(archive), "two:v1", "localhost:1/team/two:v2")
    return archive


def test_skopeo_reads_both_layouts_of_an_archive_and_gives_the_same_digests_back(
    engine, saved, tmp_path
):
    before = inspected(engine, "two:v1")
    raw = skopeo("inspect", "--raw", f"oci-archive:{saved}:v2")
    assert json.loads(raw)["config"]["digest"] == before["Id"]
    config = json.loads(skopeo("inspect", "--config", f"docker-archive:{saved}:two:v1"))
    assert config["rootfs"]["diff_ids"] == before["RootFS"]["Layers"]
    # Through each of skopeo's own archives and back: the same image, byte for byte.
    for kind, other in (
        ("docker-archive", f"docker-archive:{tmp_path}/d.tar:two:back"),
        ("oci-archive", f"oci-archive:{tmp_path}/o.tar:two:back"),
    ):
        source = (
            f"docker-archive:{saved}:two:v1"
            if kind == "docker-archive"
            else f"oci-archive:{saved}:v2"
        )
        skopeo("copy", source, other)
        engine.stackctl("image", "rm", "--force", before["Id"])
        said = engine.stackctl("image", "load", other.split(":")[1])
        after = inspected(engine, before["Id"])
        assert after["RootFS"] == before["RootFS"]
        assert after["Config"] == before["Config"], said.stderr
        engine.docker("tag", before["Id"], "two:v1")
        shown = engine.docker("run", "--rm", "--network", "none", "two:v1")
        assert shown.stdout == "x\n"
        engine.docker("tag", before["Id"], "localhost:1/team/two:v2")


def test_saving_what_was_loaded_gives_the_same_bytes(engine, saved, tmp_path):
    identity = inspected(engine, "two:v1")["Id"]
    engine.stackctl("image", "rm", "--force", identity)
    engine.stackctl("image", "load", str(saved))
    again = tmp_path / "again.tar"
    engine.stackctl("image", "save", "-o", str(again), "two:v1", "localhost:1/team/two:v2")
    assert again.read_bytes() == saved.read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("tool", ["DOCKER", "PODMAN"])
def test_docker_and_podman_load_what_we_saved_and_we_what_they_save(engine, saved, tmp_path, tool):
    """STACKCTL_PEER_DOCKER and STACKCTL_PEER_PODMAN are the commands of the other engines."""
    command = shlex.split(os.environ.get(f"STACKCTL_PEER_{tool}", tool.lower()))

    def other(*argv: str) -> str:
        done = subprocess.run([*command, *argv], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = inspected(engine, "two:v1")
    other("load", "-i", str(saved))
    name = "two:v1" if tool == "DOCKER" else "localhost/two:v1"
    names = [name, "docker.io/library/two:v1"]
    theirs: list[dict] = []
    for each in names:
        done = subprocess.run(
            [*command, "image", "inspect", each], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            name, theirs = each, json.loads(done.stdout)
            break
    try:
        assert theirs[0]["RootFS"]["Layers"] == before["RootFS"]["Layers"]
        back = tmp_path / "back.tar"
        other("save", "-o", str(back), name)
    finally:
        subprocess.run([*command, "rmi", "-f", name], capture_output=True, check=False)
    engine.stackctl("image", "rm", "--force", before["Id"])
    engine.stackctl("image", "load", str(back))
    after = inspected(engine, before["Id"])
    assert after["RootFS"] == before["RootFS"]
    assert after["Config"] == before["Config"]
