"""Images saved by us in other tools' hands and back: skopeo always, Docker and Podman in the long run."""

import json
import subprocess
from pathlib import Path

import pytest

from stackctl.oci.digest import digest_of
from tests.conftest import busybox_rootfs, one_engine
from tests.oddimage import OddImage
from tests.peers import KINDS

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


# What the odd image holds beside its root file system; times of /d are those of its unpacking.
ODD_FILES = """\
/d/b -rwsr-xr-x 1000 1001 1 1 1700000000
/d/h -rw-r--r-- 0 0 1 2 1700000000
/e drwx------ 0 0 4096 2 1700000000
/e/new -rw-r--r-- 0 0 3 1 1700000000
/fifo prw-r--r-- 0 0 0 1 1700000000
/l lrwxrwxrwx 0 0 3 1 1700000000
/null crw-r--r-- 0 0 0 1 1700000000
/x drwxr-xr-x 0 0 4096 2 1700000000
/x/now -rw-r--r-- 0 0 3 1 1700000000
/ünï -rw-r--r-- 0 0 1 1 1700000000
"""
LIST = 'find /d/* /e /fifo /l /null /x /ü* | sort | xargs stat -c "%n %A %u %g %s %h %Y"'


@pytest.fixture(scope="module")
def odd() -> OddImage:
    return OddImage(busybox_rootfs())


def listed(engine, name: str) -> str:
    return engine.docker("run", "--rm", "--network", "none", name, "sh", "-c", LIST).stdout


def digests_of(archive: Path) -> tuple[str, str]:
    """Return the digests of the first manifest and of its configuration, as skopeo reads them."""
    raw = skopeo("inspect", "--raw", f"oci-archive:{archive}")
    return digest_of(raw.encode()), json.loads(raw)["config"]["digest"]


def test_layers_of_every_kind_come_out_as_they_are_in_whatever_archive(engine, odd, tmp_path):
    archive = tmp_path / "odd.tar"
    archive.write_bytes(odd.docker_archive("odd:1", "odd:2"))
    said = engine.docker("load", "-i", str(archive)).stdout
    assert said == "Loaded image: odd:1\nLoaded image: odd:2\n"
    assert inspected(engine, "odd:1")["Id"] == odd.config
    assert listed(engine, "odd:1") == ODD_FILES
    lines = engine.docker(
        "history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}", "odd:1"
    ).stdout.splitlines()
    assert lines[0] == f"{odd.config}|CMD|"
    assert lines[1:] == [
        "<missing>|step 5|last",
        *(f"<missing>|step {number}|" for number in (4, 3, 2)),
        "<missing>|ENV A=b|",
        "<missing>|base|first",
    ]
    engine.docker("rmi", "odd:1", "odd:2")
    # An OCI layout keeps the manifest too, to the byte, through us and through skopeo.
    archive.write_bytes(odd.layout(odd.manifest, name="odd:1"))
    assert engine.docker("load", "-i", str(archive)).stdout == "Loaded image: odd:1\n"
    assert listed(engine, "odd:1") == ODD_FILES
    again = tmp_path / "again.tar"
    engine.docker("save", "-o", str(again), "odd:1")
    assert digests_of(again) == (odd.manifest["digest"], odd.config)
    other = tmp_path / "other.tar"
    skopeo("copy", "--preserve-digests", f"oci-archive:{again}", f"oci-archive:{other}:odd:1")
    engine.docker("rmi", "odd:1")
    engine.docker("load", "-i", str(other))
    engine.docker("save", "-o", str(again), "odd:1")
    assert digests_of(again) == (odd.manifest["digest"], odd.config)
    engine.docker("rmi", "odd:1")


def test_of_an_index_the_platform_that_is_asked_for_is_taken(engine, odd, tmp_path):
    archive, out = tmp_path / "odd.tar", tmp_path / "out.tar"
    archive.write_bytes(odd.layout(odd.index(), name="odd:1"))
    engine.docker("load", "-i", str(archive))
    assert inspected(engine, "odd:1")["Id"] == odd.config
    said = engine.docker("load", "--platform", "linux/arm64", "-i", str(archive)).stdout
    assert f"odd:1 already exists, renaming the old one with ID {odd.config} to empty" in said
    assert inspected(engine, "odd:1")["Id"] == odd.other_config
    refused = engine.docker(
        "save", "--platform", "linux/amd64", "-o", str(out), "odd:1", check=False
    )
    assert "no suitable export target found for platform linux/amd64" in refused.stderr
    engine.docker("save", "--platform", "linux/arm64", "-o", str(out), "odd:1")
    assert digests_of(out) == (odd.other_manifest["digest"], odd.other_config)
    for platform, words in (("linux/s390x", "linux/s390x"), ("linux/riscv64", "riscv64")):
        refused = engine.docker("load", "--platform", platform, "-i", str(archive), check=False)
        assert words in refused.stderr
    engine.docker("rmi", "odd:1", odd.config)
    archive.write_bytes(odd.docker_archive("odd:1"))
    refused = engine.docker("load", "--platform", "linux/arm64", "-i", str(archive), check=False)
    assert "the archive holds no image for linux/arm64" in refused.stderr
    assert engine.docker("images", "-q", "odd").stdout == ""


@pytest.fixture(scope="module")
def peer(request):
    for made in one_engine(KINDS[request.param]):
        made.start()
        yield made


@pytest.mark.long
@pytest.mark.parametrize("peer", ["docker", "podman"], indirect=True)
def test_docker_and_podman_load_what_we_saved_and_we_what_they_save(
    engine, peer, saved, odd, tmp_path
):
    archive, back = tmp_path / "odd.tar", tmp_path / "back.tar"
    archive.write_bytes(odd.layout(odd.manifest, name="odd:1"))
    engine.docker("load", "-i", str(archive))
    engine.docker("save", "-o", str(archive), "odd:1")
    for name, file in (("two:v1", saved), ("odd:1", archive)):
        before = inspected(engine, name)
        peer.docker("load", "-i", str(file))
        theirs = json.loads(peer.docker("image", "inspect", name).stdout)[0]
        assert theirs["Id"].removeprefix("sha256:") == before["Id"].removeprefix("sha256:")
        assert theirs["RootFS"]["Layers"] == before["RootFS"]["Layers"]
        if name == "odd:1":
            assert listed(peer, name) == ODD_FILES
        peer.docker("save", "-o", str(back), name)
        engine.stackctl("image", "rm", "--force", before["Id"])
        engine.stackctl("image", "load", str(back))
        after = inspected(engine, before["Id"])
        assert after["RootFS"] == before["RootFS"]
        assert after["Config"] == before["Config"]
        if name == "odd:1":
            assert listed(engine, before["Id"]) == ODD_FILES
