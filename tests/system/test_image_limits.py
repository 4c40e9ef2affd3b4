"""Archives that unfold without end: refused at the bounds of the settings, wherever they come in, and nothing stays."""

import contextlib
import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from tests.compat.dockercli import docker_cli
from tests.conftest import RealEngine

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def engine():
    home = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))
    (home / "engine.json").write_text(
        json.dumps({"max-layer-size": "16m", "max-layer-entries": 3000})
    )
    real = RealEngine(home)
    real.environ["STACKCTL_ENGINE_CONFIG"] = str(home / "engine.json")
    try:
        real.import_busybox()
        yield real
        left = real.cleanup()
        assert not left, "left on the machine:\n" + "\n".join(left)
    finally:
        real.cleanup()
        shutil.rmtree(home, ignore_errors=True)


def large() -> bytes:
    """Return a tar of one file of 64 MiB of nothing, in 64 KiB."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 64 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def many() -> bytes:
    """Return a tar of five thousand directories."""
    member = tarfile.TarInfo("x")
    member.type = tarfile.DIRTYPE
    out = io.BytesIO()
    for number in range(5000):
        member.name = f"d{number}"
        out.write(member.tobuf())
    return gzip.compress(out.getvalue() + bytes(1024))


def disk(engine: RealEngine) -> int:
    total = 0
    for folder, _, files in os.walk(engine.paths.data_root):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # just being removed
                total += os.lstat(Path(folder, name)).st_size
    return total


@pytest.mark.parametrize(("bomb", "words"), [(large, "larger than"), (many, "entries")])
@pytest.mark.parametrize("way", ["import", "load", "context", "ADD", "cp"])
def test_what_unfolds_too_far_is_refused_and_leaves_nothing(engine, tmp_path, bomb, words, way):
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(bomb())
    before = disk(engine)
    done = attempt(engine, tmp_path, archive, way)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert words in said
    assert "max-layer" in said
    assert "Traceback" not in said
    # What the daemon writes of its own (its log, its database) is small.
    # A container's files are removed after it is gone.
    deadline = time.monotonic() + 20
    while disk(engine) >= before + (4 << 20) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert disk(engine) < before + (4 << 20)


def attempt(engine: RealEngine, home: Path, archive: Path, way: str):
    if way == "import":
        return engine.stackctl("image", "import", str(archive), "bomb:1", check=False)
    if way == "load":
        return engine.stackctl("image", "load", "-i", str(saved(home, archive)), check=False)
    if way == "context":
        return typed(engine, archive.read_bytes(), "build", "-")
    if way == "ADD":
        (home / "Dockerfile").write_text("FROM busybox\nADD bomb.tar.gz /x/\n")
        return typed(engine, b"", "build", str(home))
    container = engine.docker("create", "busybox", "true").stdout.strip()
    try:
        plain = gzip.decompress(archive.read_bytes())
        return typed(engine, plain, "cp", "-", f"{container}:/tmp")
    finally:
        engine.docker("rm", container)


def typed(engine: RealEngine, data: bytes, *argv: str):
    """Type a docker command with bytes as its input."""
    environ = {**engine.environ, "DOCKER_HOST": engine.docker_host, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        [docker_cli(), *argv],
        env=environ,
        cwd=engine.home,
        input=data,
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def saved(home: Path, layer: Path) -> Path:
    """Return a docker-archive of an image with the layer."""
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{'a' * 64}"]}}
    ).encode()  # fmt: skip
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["bomb:1"], "Layers": ["l.tar"]}])
    target = home / "saved.tar"
    with tarfile.open(target, "w") as archive:
        for name, data in (
            ("c.json", config),
            ("manifest.json", manifest.encode()),
            ("l.tar", layer.read_bytes()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target


@pytest.mark.parametrize("value", ["lots", 0, -1, True, "1.5g"])
def test_a_bound_that_is_none_is_refused_by_name(engine, tmp_path, value):
    file = tmp_path / "engine.json"
    file.write_text(json.dumps({"max-layer-size": value}))
    environ = {
        "STACKCTL_ENGINE_CONFIG": str(file),
        "STACKCTL_RUN_ROOT": str(tmp_path / "run"),
        "STACKCTL_DATA_ROOT": str(tmp_path / "data"),
    }
    done = engine.stackctl("engine", "start", check=False, environ=environ)
    assert done.returncode != 0
    assert "max-layer-size" in done.stdout + done.stderr
