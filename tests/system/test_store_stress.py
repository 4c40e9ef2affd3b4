"""Pulls, builds, containers and prunes at the same time: nothing in use is ever taken away, and nothing else stays."""

import contextlib
import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker
import pytest

from stackctl.oci.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from stackctl.oci.digest import digest_of
from stackctl.oci.image import Manifest, manifest_bytes
from tests.contracts.test_registry import LocalRegistry

pytestmark = pytest.mark.root
ROUNDS = 3


@pytest.fixture
def registry(tmp_path):
    home = tmp_path / "registry"
    home.mkdir()
    local = LocalRegistry(home)
    yield local
    local.stop()


@pytest.fixture
def client(engine):
    engine.import_busybox()
    with contextlib.closing(docker.DockerClient(base_url=engine.docker_host, timeout=180)) as made:
        yield made


def context(text: str, **files: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in {"Dockerfile": text.encode(), **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out


def build(client, text: str, **files: bytes) -> str:
    said = [*client.api.build(fileobj=context(text, **files), custom_context=True, decode=True)]
    errors = [item["error"] for item in said if "error" in item]
    assert not errors, errors
    return next(item["aux"]["ID"] for item in said if "aux" in item)


def printed(client, image: str, path: str) -> bytes:
    # Not run(): where the image is gone already, docker-py would pull it.
    container = client.containers.create(image, ["cat", path], network_mode="none")
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs()
        return container.logs()
    finally:
        container.remove(force=True)


def test_nothing_in_use_is_pruned_and_nothing_else_stays(engine, client, registry):
    # Layers are shared between what is pulled and what is built on it.
    base = build(client, "FROM busybox\nCOPY data /base\n", data=os.urandom(200_000))
    remote = f"{registry.host}/stress/base"
    for tag in ("1", "2"):
        made = build(client, f"FROM {base}\nRUN echo {tag} > /tag\n")
        client.images.get(made).tag(remote, tag)
        assert "errorDetail" not in client.images.push(remote, tag)
        client.images.remove(f"{remote}:{tag}")
    running = client.containers.run("busybox", ["sleep", "1000"], detach=True, network_mode="none")
    done = threading.Event()

    def pulling(number: int) -> None:
        # Each with a name of its own: a prune in between may take it away again, which is its right.
        tag = str(number % 2 + 1)
        for message in client.api.pull(remote, tag, stream=True, decode=True):
            assert "errorDetail" not in message, message
        with contextlib.suppress(docker.errors.ImageNotFound):
            image = client.images.get(f"{remote}:{tag}")
            assert printed(client, image.id, "/tag") == f"{tag}\n".encode()

    def building(_: int) -> None:
        word = uuid.uuid4().hex
        text = (
            "FROM busybox AS one\nRUN echo same > /same\nCOPY data /data\n"
            f"FROM busybox\nCOPY --from=one /same /data /\nRUN echo {word} > /word && cat /same /data > /dev/null\n"
        )
        image = build(client, text, data=os.urandom(100_000))
        with contextlib.suppress(docker.errors.ImageNotFound):
            assert printed(client, image, "/word") == f"{word}\n".encode()

    def pruning(_: int) -> None:
        client.images.prune(filters={"dangling": False})
        client.api.prune_builds()

    def loop(work: Callable[[int], None], *, forever: bool = False) -> None:
        number = 0
        while not done.is_set() if forever else number < ROUNDS:
            work(number)
            number += 1

    with ThreadPoolExecutor(6) as pool:
        pruner = pool.submit(loop, pruning, forever=True)
        workers = [pool.submit(loop, work) for work in (pulling, pulling, building, building)]
        try:
            for worker in workers:
                worker.result()
        finally:
            done.set()
        pruner.result()
    running.reload()
    assert running.status == "running"
    assert running.exec_run(["true"]).exit_code == 0
    running.remove(force=True)
    client.images.prune(filters={"dangling": False})
    client.api.prune_builds()
    assert client.images.list(all=True) == []
    content = engine.paths.data_root / "content"
    assert [*(content / "blobs" / "sha256").iterdir()] == []
    assert [*(content / "ingest").iterdir()] == []
    layers = [item for item in (engine.paths.data_root / "layers").iterdir() if item.name != "l"]
    assert layers == []


class Slow:
    """A registry with one image whose layer comes slowly, until it is told to hurry."""

    def __init__(self) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            info = tarfile.TarInfo("data")
            info.size = 8 << 20
            archive.addfile(info, io.BytesIO(os.urandom(info.size)))
        self.layer = out.getvalue()
        self.ranges: list[str] = []
        self.sent = 0
        self.hurry = False
        config = json.dumps(
            {
                "architecture": "amd64", "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [digest_of(self.layer)]},
            }
        ).encode()  # fmt: skip
        self.blobs = {digest_of(config): config, digest_of(self.layer): self.layer}
        self.manifest = manifest_bytes(
            Manifest(
                config=Descriptor(
                    media_type=OCI_CONFIG, digest=digest_of(config), size=len(config)
                ),
                layers=(
                    Descriptor(
                        media_type=OCI_LAYER, digest=digest_of(self.layer), size=len(self.layer)
                    ),
                ),
            )
        )

    @contextlib.contextmanager
    def serving(self):
        slow = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                data = slow.blobs.get(name, b"" if self.path == "/v2/" else slow.manifest)
                start = 0
                if wanted := self.headers.get("Range"):
                    slow.ranges.append(wanted)
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                self.send_response(206 if start else 200)
                self.send_header("Content-Type", OCI_MANIFEST)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                with contextlib.suppress(OSError):
                    for at in range(start, len(data), 1 << 18):
                        self.wfile.write(data[at : at + (1 << 18)])
                        if name == digest_of(slow.layer):
                            slow.sent = max(slow.sent, at)
                            if not slow.hurry:
                                time.sleep(0.05)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/slow/image:1"
        finally:
            self.hurry = True
            server.shutdown()
            thread.join()
            server.server_close()


def test_a_pull_of_a_killed_daemon_leaves_a_part_only_and_the_next_goes_on_with_it(engine, client):
    del client
    slow = Slow()
    with slow.serving() as name:
        pull = subprocess.Popen(
            ["docker", "-H", engine.docker_host, "pull", name],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while slow.sent < 3 << 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        pid = int((engine.paths.data_root / "daemon.lock").read_text())
        os.kill(pid, signal.SIGKILL)
        pull.wait(60)
        slow.hurry = True
        engine.stackctl("engine", "start")
        assert "slow/image" not in engine.stackctl("image", "ls").stdout
        blobs = engine.paths.data_root / "content" / "blobs" / "sha256"
        assert not (blobs / digest_of(slow.layer).partition(":")[2]).exists()
        engine.stackctl("image", "pull", name)
        assert slow.ranges
        assert int(slow.ranges[-1].removeprefix("bytes=").rstrip("-")) > 1 << 20
        assert "slow/image" in engine.stackctl("image", "ls").stdout
        engine.stackctl("image", "rm", name)
