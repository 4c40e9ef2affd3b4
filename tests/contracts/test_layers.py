"""LayerStore by overlayfs: real mounts, so root."""

import asyncio
import gzip
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard

from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.overlay import OverlayStore
from stackctl.contracts.storage import Change
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.host import mounts
from stackctl.oci.digest import chain_ids, digest_of
from tests.fakes.storage import chunks, tar_of

pytestmark = pytest.mark.root


class Stores:
    def __init__(self, home: Path, boot_id: str = "this boot") -> None:
        self.home = home
        self.content = BlobStore(home / "data/content")
        self.layers = OverlayStore(home / "data", home / "run", self.content, boot_id=boot_id)

    async def add(self, data: bytes, parents: list[str] = []) -> str:  # noqa: B006
        """Store and unpack a layer; return its chain ID. ``parents`` are diff IDs."""
        blob = await self.content.ingest(chunks(data))
        chain_id = chain_ids([*parents, digest_of(data)])[-1]
        await self.layers.unpack(chain_id, self.content.path(blob.digest), "", digest_of(data))
        return chain_id


@pytest.fixture
async def stores(tmp_path):
    made = Stores(tmp_path)
    yield made
    for key in await made.layers.snapshots():
        await made.layers.discard(key)
    await made.layers.close()
    mounted = [
        item.target for item in mounts.mount_table() if item.target.startswith(f"{tmp_path}/")
    ]
    assert mounted == []


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if not path.is_dir()
    }


BASE = {"etc": None, "etc/a": b"a", "etc/b": b"b", "dir": None, "dir/x": b"x", "dir/y": b"y"}


async def test_layers_stack_and_whiteouts_hide(stores):
    base = tar_of(BASE)
    top = tar_of({"etc/.wh.a": b"", "dir/.wh..wh..opq": b"", "dir/z": b"z", "new": b"n"})
    first = await stores.add(base)
    second = await stores.add(top, [digest_of(base)])
    async with stores.layers.view([first, second]) as root:
        assert tree(root) == {"etc/b": "b", "dir/z": "z", "new": "n"}
    async with stores.layers.view([first]) as root:
        assert tree(root) == {"etc/a": "a", "etc/b": "b", "dir/x": "x", "dir/y": "y"}
        with pytest.raises(OSError, match="Read-only"):
            (root / "etc/a").write_text("changed")


async def test_a_whiteout_and_its_name_in_one_layer_hide_what_is_below(stores):
    base = tar_of(BASE)
    first = await stores.add(base)
    for entries in (
        {"dir/": None, "dir/z": b"z", ".wh.dir": b""},
        {".wh.dir": b"", "dir": None, "dir/z": b"z"},
        {".wh.dir": b"", "dir/z": b"z"},
    ):
        top = await stores.add(tar_of(entries), [digest_of(base)])
        async with stores.layers.view([first, top]) as root:
            assert sorted(path.name for path in (root / "dir").iterdir()) == ["z"]


async def test_a_snapshot_is_written_mounted_again_and_kept_from_its_layers(stores):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("one", [first])
    await stores.layers.prepare("one", [first])
    root = await stores.layers.mount("one")
    assert await stores.layers.mount("one") == root
    (root / "etc/a").write_text("changed")
    (root / "etc/b").unlink()
    await stores.layers.unmount("one")
    await stores.layers.unmount("one")
    assert not mounts.is_mount_point(root)
    root = await stores.layers.mount("one")
    assert tree(root) == {"etc/a": "changed", "dir/x": "x", "dir/y": "y"}
    async with stores.layers.view([first]) as clean:
        assert (clean / "etc/a").read_text() == "a"
    await stores.layers.discard("one")
    await stores.layers.discard("one")
    assert await stores.layers.snapshots() == []
    with pytest.raises(NotFoundError):
        await stores.layers.mount("one")


async def test_a_new_daemon_finds_mounts_layers_and_snapshots(stores, tmp_path):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("one", [first])
    root = await stores.layers.mount("one")
    (root / "marker").write_text("m")
    again = Stores(tmp_path)
    await again.layers.recover()
    assert again.layers.has(first)
    assert await again.layers.size(first) == 4
    assert await again.layers.mount("one") == root
    assert (root / "marker").read_text() == "m"
    lines = [item for item in mounts.mount_table() if item.target == str(root)]
    assert len(lines) == 1
    await again.layers.close()


async def test_layers_that_were_not_flushed_are_gone_after_a_reboot(stores, tmp_path):
    lost = await stores.add(tar_of({"a": b"1"}))
    later = Stores(tmp_path, boot_id="next boot")
    await later.layers.recover()
    assert not later.layers.has(lost)
    kept = await later.add(tar_of({"b": b"2"}))
    await later.layers.close()
    last = Stores(tmp_path, boot_id="third boot")
    await last.layers.recover()
    assert last.layers.has(kept)


async def test_changes_are_what_docker_diff_shows(stores):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("one", [first])
    root = await stores.layers.mount("one")
    (root / "etc/a").write_text("changed")
    (root / "etc/b").unlink()
    (root / "new/sub").mkdir(parents=True)
    (root / "new/sub/f").write_text("f")
    subprocess.run(["rm", "-r", str(root / "dir")], check=True)
    (root / "dir").mkdir()
    (root / "dir/z").write_text("z")
    assert await stores.layers.changes("one") == [
        Change(path="/dir", kind=0),
        Change(path="/dir/x", kind=2),
        Change(path="/dir/y", kind=2),
        Change(path="/dir/z", kind=1),
        Change(path="/etc", kind=0),
        Change(path="/etc/a", kind=0),
        Change(path="/etc/b", kind=2),
        Change(path="/new", kind=1),
        Change(path="/new/sub", kind=1),
        Change(path="/new/sub/f", kind=1),
    ]
    assert await stores.layers.usage("one") == len("changed") + len("f") + len("z")


@pytest.mark.parametrize("consume", [False, True])
async def test_a_commit_is_a_layer_that_shows_the_same_files(stores, consume):
    base = tar_of(BASE)
    first = await stores.add(base)
    await stores.layers.prepare("one", [first])
    root = await stores.layers.mount("one")
    (root / "etc/b").unlink()
    subprocess.run(["rm", "-r", str(root / "dir")], check=True)
    (root / "dir").mkdir()
    (root / "dir/z").write_text("z")
    os.link(root / "dir/z", root / "dir/hard")
    os.symlink("z", root / "dir/soft")
    os.mkfifo(root / "dir/fifo")
    os.chown(root / "dir/z", 1000, 1001)
    os.setxattr(root / "dir/z", b"user.note", b"hello")
    (root / "dir/z").chmod(0o4755)
    packed = await stores.layers.commit("one", [first], consume=consume)
    assert packed.diff_id == packed.blob.digest
    assert packed.chain_id == chain_ids([digest_of(base), packed.diff_id])[-1]
    async with stores.layers.view([first, packed.chain_id]) as seen:
        assert sorted(os.listdir(seen / "dir")) == ["fifo", "hard", "soft", "z"]
        assert os.listdir(seen / "etc") == ["a"]
        info = (seen / "dir/z").stat()
        assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1000, 1001, 0o4755)
        assert info.st_nlink == 2
        assert os.getxattr(seen / "dir/z", b"user.note") == b"hello"
        assert os.readlink(seen / "dir/soft") == "z"
    # The tar says the same as the directory: unpacked elsewhere, it is the same layer.
    with tarfile.open(stores.content.path(packed.diff_id)) as tar:
        names = tar.getnames()
    assert names == sorted(names)
    assert {"dir/.wh..wh..opq", "etc/.wh.b"} <= set(names)
    assert (await stores.layers.snapshots() == []) is consume
    if not consume:
        assert (root / "dir/z").read_text() == "z"


async def test_committing_twice_gives_the_same_layer(stores):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("one", [first])
    (await stores.layers.mount("one") / "new").write_text("n")
    one = await stores.layers.commit("one", [first])
    assert await stores.layers.commit("one", [first]) == one


async def test_nothing_changed_is_no_layer(stores):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("one", [first])
    await stores.layers.mount("one")
    assert await stores.layers.commit("one", [first]) is None


@pytest.mark.parametrize("squeeze", [gzip.compress, zstandard.ZstdCompressor().compress])
async def test_compressed_layers_are_verified_by_what_is_in_them(stores, squeeze):
    plain = tar_of({"big": os.urandom(2 << 20)})
    blob = await stores.content.ingest(chunks(squeeze(plain)))
    path = stores.content.path(blob.digest)
    with pytest.raises(InvalidInputError, match="but the image says"):
        await stores.layers.unpack(digest_of(b"other"), path, "", digest_of(b"other"))
    assert await stores.layers.layers() == ()
    await stores.layers.unpack(digest_of(plain), path, "", digest_of(plain))
    assert await stores.layers.size(digest_of(plain)) == 2 << 20
    assert list((stores.home / "data/tmp").iterdir()) == [stores.home / "data/tmp/empty"]


@pytest.mark.parametrize("padding", [0, 3 << 20])
async def test_an_evil_layer_is_refused_in_a_thread_and_in_a_process(stores, padding, tmp_path):
    evil = tar_of({"pad": os.urandom(padding), "up": "../../../..", "up/escaped": b"x"})
    blob = await stores.content.ingest(chunks(evil))
    worse = tar_of({"pad": os.urandom(padding), "../escaped": b"x"})
    bad = await stores.content.ingest(chunks(worse))
    with pytest.raises(InvalidInputError, match="leads out of the root"):
        await stores.layers.unpack(bad.digest, stores.content.path(bad.digest), "", bad.digest)
    await stores.layers.unpack(blob.digest, stores.content.path(blob.digest), "", blob.digest)
    assert not list(tmp_path.rglob("escaped")) or [
        path.relative_to(stores.home / "data/layers").parts[1:]
        for path in tmp_path.rglob("escaped")
    ] == [("fs", "escaped")]


async def test_devices_and_marks_of_overlayfs_in_a_tar(stores):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        device = tarfile.TarInfo("null")
        device.type, device.devmajor, device.devminor, device.mode = tarfile.CHRTYPE, 1, 3, 0o666
        tar.addfile(device)
        directory = tarfile.TarInfo("dir")
        directory.type = tarfile.DIRTYPE
        directory.pax_headers = {
            "SCHILY.xattr.trusted.overlay.redirect": "/etc",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.user.kept": "yes",
        }
        tar.addfile(directory)
    base = tar_of(BASE)
    first = await stores.add(base)
    second = await stores.add(buffer.getvalue(), [digest_of(base)])
    async with stores.layers.view([first, second]) as root:
        info = (root / "null").stat()
        assert (stat.S_ISCHR(info.st_mode), info.st_rdev) == (True, os.makedev(1, 3))
        assert sorted(os.listdir(root / "dir")) == ["x", "y"]
        assert os.getxattr(root / "dir", b"user.kept") == b"yes"


async def test_unpacking_one_layer_many_times_at_once_unpacks_it_once(stores):
    data = tar_of(BASE)
    blob = await stores.content.ingest(chunks(data))
    path = stores.content.path(blob.digest)
    await asyncio.gather(
        *(stores.layers.unpack(blob.digest, path, "", blob.digest) for _ in range(6))
    )
    assert await stores.layers.layers() == (blob.digest,)


async def test_two_hundred_layers_mount(stores):
    diff_ids: list[str] = []
    chain: list[str] = []
    for number in range(200):
        data = tar_of({f"f{number}": b"x", "top": str(number).encode()})
        chain.append(await stores.add(data, diff_ids))
        diff_ids.append(digest_of(data))
    await stores.layers.prepare("many", chain)
    root = await stores.layers.mount("many")
    assert len(os.listdir(root)) == 201
    assert (root / "top").read_text() == "199"


async def test_without_the_new_mount_api_short_links_do(stores, monkeypatch):
    diff_ids: list[str] = []
    chain: list[str] = []
    for number in range(100):
        data = tar_of({f"f{number}": b"x"})
        chain.append(await stores.add(data, diff_ids))
        diff_ids.append(digest_of(data))
    mounts._no_new_api.set()
    before = Path.cwd()
    try:
        await stores.layers.prepare("many", chain)
        root = await stores.layers.mount("many")
        assert len(os.listdir(root)) == 100
    finally:
        mounts._no_new_api.clear()
    assert Path.cwd() == before


async def test_a_volatile_snapshot_mounts_again_after_a_crash(stores):
    first = await stores.add(tar_of(BASE))
    await stores.layers.prepare("step", [first], volatile=True)
    root = await stores.layers.mount("step")
    (root / "f").write_text("f")
    await stores.layers.unmount("step")
    assert (await stores.layers.mount("step") / "f").read_text() == "f"


async def test_a_snapshot_on_nothing_is_an_empty_root(stores):
    await stores.layers.prepare("scratch", [])
    root = await stores.layers.mount("scratch")
    assert os.listdir(root) == []
    (root / "f").write_text("f")
    packed = await stores.layers.commit("scratch", [])
    assert packed.chain_id == packed.diff_id


async def test_the_loop_answers_while_a_large_layer_is_unpacked(stores):
    files = {f"d{number % 50}/f{number}": b"x" * 100 for number in range(6000)}
    data = tar_of(files)
    blob = await stores.content.ingest(chunks(data))
    worst = 0.0
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        nonlocal worst
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            worst = max(worst, loop.time() - before - 0.005)

    watcher = asyncio.create_task(watch())
    await stores.layers.unpack(blob.digest, stores.content.path(blob.digest), "", blob.digest)
    watcher.cancel()
    assert worst < 0.5
