"""The registry client against Debian's docker-registry on a loopback port."""

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from stackctl.adapters.registry.client import RegistryClient
from stackctl.contracts.registry import Credentials
from stackctl.contracts.state import ImageConfig
from stackctl.engine.image_values import ImagePruneFilter
from stackctl.errors import (
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)
from stackctl.oci.descriptor import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from stackctl.oci.digest import digest_of
from stackctl.oci.image import Index, Manifest, manifest_bytes
from stackctl.oci.platform import Platform
from stackctl.oci.reference import parse_reference
from tests.fakes.storage import QuickClock, Shelf, busybox_tar, chunks, tar_of

pytestmark = pytest.mark.root
# bcrypt of "secret"; made with htpasswd -nbB.
HTPASSWD = "user:$2b$05$ZvIT6SP66YFqBqxjVTgyTe5u6jgMG.t.2843QktU.5xOurzoB5vwi"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalRegistry:
    """One docker-registry process, its files in a directory of the test's own."""

    def __init__(
        self, home: Path, extra: str = "", *, address: str = "127.0.0.1", tls: str = ""
    ) -> None:
        self.address = address
        self.port = free_port()
        self.home = home
        self.config = home / "config.yml"
        self.config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {home}/store}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{address}:{self.port}'{f', tls: {{{tls}}}' if tls else ''}}}\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(self.config)],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with closing(socket.socket()) as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.home / "log").read_text())

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


@pytest.fixture
def registry(tmp_path):
    home = tmp_path / "registry"
    home.mkdir()
    local = LocalRegistry(home)
    yield local
    local.stop()


@pytest.fixture
async def client():
    made = RegistryClient(QuickClock())
    yield made
    await made.close()


@pytest.fixture
async def shelf(tmp_path, client):
    made = Shelf(tmp_path / "engine", client)
    await made.images.start()
    yield made
    await made.layers.close()


async def made(shelf: Shelf, name: str, extra: dict[str, bytes] | None = None) -> str:
    data = busybox_tar(extra)
    return await shelf.images.import_(chunks(data), reference=name, config=ImageConfig(cmd=("sh",)))


async def statuses(stream) -> list[str]:
    return [message.status async for message in stream]


async def test_what_was_pushed_is_pulled_as_the_same_image(registry, shelf):
    name = f"{registry.host}/team/box:v1"
    image_id = await made(shelf, name)
    pushed = [message async for message in shelf.images.push(name)]
    assert pushed[0].status == f"The push refers to repository [{registry.host}/team/box]"
    assert pushed[-1].aux["Tag"] == "v1"
    await shelf.images.remove(name, force=True)
    assert shelf.images.all() == ()
    assert await shelf.content.digests() == []

    seen = await statuses(shelf.images.pull(name))
    assert seen[0] == "Pulling from team/box"
    assert {"Pulling fs layer", "Downloading", "Pull complete"} <= set(seen)
    assert seen[-2] == f"Digest: {pushed[-1].aux['Digest']}"
    assert seen[-1] == f"Status: Downloaded newer image for {name}"
    record = shelf.images.resolve(name)
    assert record.id == image_id
    assert record.config.cmd == ("sh",)
    assert record.digests == (f"{registry.host}/team/box@{pushed[-1].aux['Digest']}",)
    async with shelf.layers.view(record.layers) as root:
        assert (root / "bin/busybox").stat().st_size > 100_000


async def test_pulling_again_downloads_nothing(registry, shelf):
    name = f"{registry.host}/box:v1"
    await made(shelf, name)
    await statuses(shelf.images.push(name))
    seen = await statuses(shelf.images.pull(name))
    # As Docker tells it: no layer of an image that is here.
    assert seen[0] == "Pulling from box"
    assert seen[1].startswith("Digest: sha256:")
    assert seen[2:] == [f"Status: Image is up to date for {name}"]
    assert seen[-1] == f"Status: Image is up to date for {name}"


async def test_what_is_here_is_asked_for_and_not_fetched(registry, shelf, client, monkeypatch):
    name = f"{registry.host}/box"
    first = await made(shelf, f"{name}:v1")
    await statuses(shelf.images.push(f"{name}:v1"))
    await shelf.images.tag(f"{name}:v1", f"{name}:v2")
    await statuses(shelf.images.push(f"{name}:v2"))
    fetched: list[str] = []
    manifest = client._manifest

    async def noted(reference, what, credentials):
        fetched.append(what)
        return await manifest(reference, what, credentials)

    monkeypatch.setattr(client, "_manifest", noted)
    assert (await statuses(shelf.images.pull(f"{name}:v1")))[-1].startswith("Status: Image is up")
    # The same image under a name that is not here yet.
    await shelf.images.remove(f"{name}:v2")
    assert (await statuses(shelf.images.pull(f"{name}:v2")))[-1].startswith("Status: Downloaded")
    assert shelf.images.resolve(f"{name}:v2").id == first
    # A tag that leads to another image now, which is here as well.
    await made(shelf, f"{name}:v3", {"f": b"x"})
    await statuses(shelf.images.push(f"{name}:v3"))
    await shelf.images.tag(f"{name}:v1", f"{name}:v3")
    assert (await statuses(shelf.images.pull(f"{name}:v3")))[-1].startswith("Status: Downloaded")
    assert shelf.images.resolve(f"{name}:v3").id != first
    assert fetched == []
    # Another platform, a layer that is gone: as ever.
    seen = await statuses(shelf.images.pull(f"{name}:v1", platform=Platform(architecture="arm64")))
    assert seen[-1].startswith("WARNING")
    await shelf.content.delete(shelf.images.resolve(first).layer_blobs[0])
    await statuses(shelf.images.pull(f"{name}:v1"))
    assert shelf.content.has(shelf.images.resolve(first).layer_blobs[0])
    assert fetched == ["v1", "v1"]
    with pytest.raises(NotFoundError, match="manifest for"):
        await statuses(shelf.images.pull(f"{name}:nothing"))


async def test_pushing_again_finds_the_layers_there(registry, shelf):
    name = f"{registry.host}/box:v1"
    await made(shelf, name)
    await statuses(shelf.images.push(name))
    seen = await statuses(shelf.images.push(name))
    assert "Layer already exists" in seen
    assert "Pushed" not in seen


async def test_every_tag_of_a_repository_is_pulled_where_none_is_named(registry, shelf, client):
    name = f"{registry.host}/many"
    for tag in ("a", "b", "c"):
        await made(shelf, f"{name}:{tag}", {"f": tag.encode()})
        await statuses(shelf.images.push(f"{name}:{tag}"))
    assert await client.tags(parse_reference(name), None) == ["a", "b", "c"]
    await shelf.images.remove(f"{name}:b", force=True)
    seen = [item async for item in shelf.images.pull_all(name)]
    heads = [item.id for item in seen if item.status == "Pulling from many"]
    ends = [item.status for item in seen if item.status.startswith("Status: ")]
    assert heads == ["a", "b", "c"]
    assert ends == [f"Status: Downloaded newer image for {name}"]
    assert shelf.images.resolve(f"{name}:b")
    last = [item.status async for item in shelf.images.pull_all(name)][-1]
    assert last == f"Status: Image is up to date for {name}"
    with pytest.raises(NotFoundError, match=f"repository {registry.host}/none not found: tried"):
        await statuses(shelf.images.pull_all(f"{registry.host}/none"))


async def test_an_image_for_another_platform_than_was_asked_for_is_told(registry, shelf):
    name = f"{registry.host}/box:v1"
    await made(shelf, name)
    await statuses(shelf.images.push(name))
    seen = await statuses(shelf.images.pull(name, platform=Platform(architecture="arm64")))
    assert seen[-1].startswith(f"WARNING: image with reference {name} was found but its platform (")


async def test_an_image_is_pulled_by_digest(registry, shelf):
    name = f"{registry.host}/box:v1"
    await made(shelf, name)
    digest = [message async for message in shelf.images.push(name)][-1].aux["Digest"]
    await shelf.images.remove(name, force=True)
    await statuses(shelf.images.pull(f"{registry.host}/box@{digest}"))
    record = shelf.images.resolve(f"{registry.host}/box@{digest}")
    assert record.tags == ()


async def test_skopeo_reads_what_was_pushed_and_what_it_pushes_is_pulled(registry, shelf, tmp_path):
    name = f"{registry.host}/box:v1"
    image_id = await made(shelf, name)
    await statuses(shelf.images.push(name))
    copy = f"docker://{registry.host}/copy:v2"
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2"]
    done = await asyncio.to_thread(
        subprocess.run,
        ["skopeo", "copy", *flags, f"docker://{name}", copy],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    await statuses(shelf.images.pull(f"{registry.host}/copy:v2"))
    assert (
        shelf.images.resolve(f"{registry.host}/copy:v2").layers
        == shelf.images.resolve(image_id).layers
    )


async def test_an_unknown_tag_names_the_registry_that_was_tried(registry, shelf):
    with pytest.raises(NotFoundError, match=f"not found: tried {registry.host}"):
        await statuses(shelf.images.pull(f"{registry.host}/nothing:here"))


async def test_an_index_leads_to_the_platform_that_is_asked_for(registry, client, shelf):
    repository = parse_reference(f"{registry.host}/multi:v1")
    entries = []
    for architecture in ("amd64", "arm64"):
        manifest = await push_small(client, repository, architecture)
        pushed = await client.push_manifest(
            parse_reference(f"{registry.host}/multi:{architecture}"),
            manifest,
            "application/vnd.oci.image.manifest.v1+json",
            None,
        )
        entries.append(
            Descriptor(
                media_type=pushed.media_type,
                digest=pushed.digest,
                size=pushed.size,
                platform=Platform(architecture=architecture),
            )
        )
    index = Index(manifests=tuple(entries))
    await client.push_manifest(repository, manifest_bytes(index), index.media_type, None)
    found = await client.resolve(repository, Platform(architecture="arm64"), None)
    assert found.descriptor.digest == entries[1].digest
    assert found.top.digest == digest_of(manifest_bytes(index))
    with pytest.raises(NotFoundError, match="no matching manifest for linux/s390x"):
        await client.resolve(repository, Platform(architecture="s390x"), None)
    await statuses(shelf.images.pull(str(repository), platform=Platform(architecture="arm64")))
    assert shelf.images.resolve(str(repository)).architecture == "arm64"


async def push_small(client: RegistryClient, reference, architecture: str) -> bytes:
    plain = tar_of({"a": architecture.encode()})
    blob = gzip.compress(plain, mtime=0)
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(plain)]},
        }
    ).encode()
    descriptors = []
    for data, kind in ((config, OCI_CONFIG), (blob, OCI_LAYER_GZIP)):
        descriptor = Descriptor(media_type=kind, digest=digest_of(data), size=len(data))
        path = Path(os.environ["PYTEST_TMP"]) / descriptor.digest
        path.write_bytes(data)
        await client.push_blob(reference, descriptor, path, None)
        descriptors.append(descriptor)
    return manifest_bytes(Manifest(config=descriptors[0], layers=(descriptors[1],)))


@pytest.fixture(autouse=True)
def _blob_directory(tmp_path, monkeypatch):
    (tmp_path / "blobs").mkdir()
    monkeypatch.setenv("PYTEST_TMP", str(tmp_path / "blobs"))


async def test_a_registry_killed_in_the_middle_leaves_nothing_and_the_next_pull_succeeds(
    registry, shelf
):
    name = f"{registry.host}/big:v1"
    await made(shelf, name, {"noise": os.urandom(8 << 20)})
    await statuses(shelf.images.push(name))
    await shelf.images.remove(name, force=True)

    async def pull_and_kill() -> None:
        async for message in shelf.images.pull(name):
            if message.status == "Pulling fs layer":
                registry.stop(signal.SIGKILL)

    with pytest.raises(UnavailableError, match=registry.host.replace(".", r"\.")):
        await pull_and_kill()
    assert shelf.images.all() == ()
    registry.start()
    await statuses(shelf.images.pull(name))
    assert shelf.images.resolve(name)


async def test_nobody_there_is_said_at_once_and_by_name(shelf):
    port = free_port()
    before = time.monotonic()
    with pytest.raises(UnavailableError, match=r"tried 127\.0\.0\.1: Connect call failed|refused"):
        await statuses(shelf.images.pull(f"127.0.0.1:{port}/box"))
    assert time.monotonic() - before < 2


async def test_a_name_that_cannot_be_resolved_is_unavailable_not_missing(shelf):
    with pytest.raises(UnavailableError, match=r"registry\.invalid: the name cannot be resolved"):
        await statuses(shelf.images.pull("registry.invalid/box"))


async def test_basic_credentials_open_a_closed_registry(tmp_path, shelf, client):
    home = tmp_path / "closed"
    home.mkdir()
    (home / "htpasswd").write_text(HTPASSWD + "\n")
    local = LocalRegistry(home, f"auth: {{htpasswd: {{realm: r, path: {home}/htpasswd}}}}\n")
    try:
        name = f"{local.host}/box:v1"
        await made(shelf, name)
        good = Credentials(username="user", password="secret", server_address=local.host)
        bad = Credentials(username="user", password="wrong", server_address=local.host)
        with pytest.raises(UnauthorizedError, match=r"unauthorized"):
            await statuses(shelf.images.push(name, credentials=bad))
        with pytest.raises(UnauthorizedError):
            await client.login(bad)
        assert await client.login(good) == ""
        await statuses(shelf.images.push(name, credentials=good))
        await shelf.images.remove(name, force=True)
        with pytest.raises(NotFoundError, match="pull access denied"):
            await statuses(shelf.images.pull(name))
        await statuses(shelf.images.pull(name, credentials=good))
        assert shelf.images.resolve(name)
    finally:
        local.stop()


def counting(client: RegistryClient, monkeypatch) -> list[tuple[str, int]]:
    """Note (digest, first byte) of every blob that is downloaded."""
    asked: list[tuple[str, int]] = []
    fetch = client.fetch

    def noted(reference, descriptor, credentials, *, start=0):
        asked.append((descriptor.digest, start))
        return fetch(reference, descriptor, credentials, start=start)

    monkeypatch.setattr(client, "fetch", noted)
    return asked


async def broken_off(shelf: Shelf, client: RegistryClient, name: str) -> None:
    """Pull, and stop when 4 MiB of the layer are there."""
    fetch = client.fetch
    reached = asyncio.Event()

    async def first_part(reference, descriptor, credentials, *, start=0):
        got = 0
        async for chunk in fetch(reference, descriptor, credentials, start=start):
            got += len(chunk)
            yield chunk
            if got > 4 << 20:
                reached.set()
                await asyncio.Event().wait()

    client.fetch = first_part
    try:
        task = asyncio.create_task(statuses(shelf.images.pull(name)))
        await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    finally:
        client.fetch = fetch


async def test_a_pull_that_was_broken_off_leaves_no_image_and_is_gone_on_with(
    registry, shelf, client, monkeypatch
):
    name = f"{registry.host}/big:v1"
    image_id = await made(shelf, name, {"noise": os.urandom(12 << 20)})
    await statuses(shelf.images.push(name))
    await shelf.images.remove(name, force=True)
    await broken_off(shelf, client, name)
    assert shelf.images.all() == ()
    assert await shelf.content.digests() == []
    left = list((shelf.root / "data/content/ingest").iterdir())
    assert [item.name[:8] for item in left] == ["partial-"]
    size = left[0].stat().st_size
    assert size >= 1 << 20
    # A daemon that was killed finds it again.
    await shelf.content.recover()
    asked = counting(client, monkeypatch)
    await statuses(shelf.images.pull(name))
    assert shelf.images.resolve(name).id == image_id
    assert [start for _, start in asked] == [0, size]
    assert list((shelf.root / "data/content/ingest").iterdir()) == []


async def test_what_a_broken_pull_left_and_is_wrong_is_loaded_anew(registry, shelf, client):
    name = f"{registry.host}/big:v1"
    image_id = await made(shelf, name, {"noise": os.urandom(12 << 20)})
    await statuses(shelf.images.push(name))
    await shelf.images.remove(name, force=True)
    await broken_off(shelf, client, name)
    (left,) = (shelf.root / "data/content/ingest").iterdir()
    left.write_bytes(bytes(left.stat().st_size))
    assert "Retrying in 1 second" in await statuses(shelf.images.pull(name))
    assert shelf.images.resolve(name).id == image_id


async def test_prune_removes_what_a_broken_pull_left(registry, shelf, client):
    name = f"{registry.host}/big:v1"
    await made(shelf, name, {"noise": os.urandom(12 << 20)})
    await statuses(shelf.images.push(name))
    await shelf.images.remove(name, force=True)
    await broken_off(shelf, client, name)
    _, freed = await shelf.images.prune(ImagePruneFilter())
    assert freed >= 1 << 20
    assert list((shelf.root / "data/content/ingest").iterdir()) == []


async def test_a_blob_is_downloaded_once_however_many_ask(registry, shelf, client, monkeypatch):
    name = f"{registry.host}/big:v1"
    await made(shelf, name, {"noise": os.urandom(4 << 20)})
    names = [name, f"{registry.host}/big:v2", f"{registry.host}/big:v3"]
    for other in names[1:]:
        await shelf.images.tag(name, other)
    for each in names:
        await statuses(shelf.images.push(each))
        await shelf.images.remove(each, force=True)
    asked = counting(client, monkeypatch)
    await asyncio.gather(*(statuses(shelf.images.pull(each)) for each in names))
    layers = [digest for digest, _ in asked if digest != shelf.images.resolve(name).id]
    assert len(layers) == 1
    assert set(shelf.images.resolve(name).tags) == set(names)


async def test_progress_tells_the_bytes_of_each_layer(registry, shelf):
    name = f"{registry.host}/big:v1"
    await made(shelf, name, {"noise": os.urandom(4 << 20)})
    pushed = [item async for item in shelf.images.push(name) if item.status == "Pushing"]
    assert pushed[-1].current == pushed[-1].total > 4 << 20
    await shelf.images.remove(name, force=True)
    got = [item async for item in shelf.images.pull(name) if item.status == "Downloading"]
    assert got[0].id
    assert 0 < got[0].current <= got[0].total
    assert got[0].total == pushed[-1].total


async def test_a_layer_another_repository_has_is_mounted_and_not_sent(
    registry, shelf, client, monkeypatch
):
    await made(shelf, f"{registry.host}/one:v1", {"noise": os.urandom(1 << 20)})
    await statuses(shelf.images.push(f"{registry.host}/one:v1"))
    await shelf.images.tag(f"{registry.host}/one:v1", f"{registry.host}/two:v1")
    sent: list[str] = []
    upload = client._upload

    async def noted(reference, digest, *rest):
        sent.append(digest)
        await upload(reference, digest, *rest)

    monkeypatch.setattr(client, "_upload", noted)
    said = await statuses(shelf.images.push(f"{registry.host}/two:v1"))
    record = shelf.images.resolve(f"{registry.host}/two:v1")
    assert sent == [record.id]
    assert "Mounted from one" in said
    await shelf.images.remove(record.id, force=True)
    await statuses(shelf.images.pull(f"{registry.host}/two:v1"))
    assert shelf.images.resolve(f"{registry.host}/two:v1").id == record.id


@pytest.mark.parametrize(
    ("config", "layer", "words"),
    [
        ("application/vnd.cncf.helm.config.v1+json", OCI_LAYER_GZIP, "is not an image"),
        ("application/vnd.oci.empty.v1+json", "text/plain", "is not an image"),
        (OCI_CONFIG, "application/vnd.example+json", "a layer is of type"),
        (
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "a layer is of type",
        ),
    ],
)
async def test_what_is_no_image_is_refused_by_name_before_anything_is_downloaded(
    registry, shelf, client, monkeypatch, tmp_path, config, layer, words
):
    reference = parse_reference(f"{registry.host}/thing:v1")
    blobs = []
    for kind, data in ((config, b"{}"), (layer, b"some layer")):
        descriptor = Descriptor(media_type=kind, digest=digest_of(data), size=len(data))
        (tmp_path / "blob").write_bytes(data)
        await client.push_blob(reference, descriptor, tmp_path / "blob", None)
        blobs.append(descriptor)
    manifest = manifest_bytes(Manifest(config=blobs[0], layers=(blobs[1],)))
    await client.push_manifest(reference, manifest, OCI_MANIFEST, None)
    asked = counting(client, monkeypatch)
    with pytest.raises(UnsupportedError, match=words):
        await statuses(shelf.images.pull(str(reference)))
    assert asked == []
    assert await shelf.content.digests() == []


async def test_what_is_on_docker_hub_is_pulled_from_a_mirror_first(registry, shelf, tmp_path):
    mirrored = f"{registry.host}/library/mirrored:v1"
    image_id = await made(shelf, mirrored)
    async for _ in shelf.images.push(mirrored):
        pass
    await shelf.images.remove(mirrored, force=True)
    # The first mirror does not answer; the second has it.
    client = RegistryClient(QuickClock(), mirrors=("http://127.0.0.1:9", f"http://{registry.host}"))
    other = Shelf(tmp_path / "other", client)
    try:
        await other.images.start()
        await statuses(other.images.pull("mirrored:v1"))
        assert other.images.resolve("mirrored:v1").id == image_id
    finally:
        await other.layers.close()
        await client.close()
