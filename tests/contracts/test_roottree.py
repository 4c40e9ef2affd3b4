"""RootTree: a root whose owner is hostile."""

import bz2
import contextlib
import ctypes
import gzip
import io
import lzma
import os
import tarfile
import threading

import pytest
import zstandard

from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.errors import InvalidInputError, NotFoundError
from tests.fakes.storage import chunks, collected, tar_of


@pytest.fixture
def files():
    return OpenAtRootTree()


@pytest.fixture
def root(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "etc/d").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0")
    (root / "etc/d/f").write_text("f")
    (root / "rel").symlink_to("../../outside/secret")
    (root / "abs").symlink_to(outside / "secret")
    (root / "dir").symlink_to("/etc")
    (root / "updir").symlink_to("../../../outside")
    (root / "loop").symlink_to("loop")
    yield root
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


async def test_stat_tells_files_directories_and_links(files, root):
    found = await files.stat(root, "/etc/passwd")
    assert (found.name, found.size, found.link_target) == ("passwd", 10, "")
    assert (await files.stat(root, "dir")).link_target == "/etc"
    assert (await files.stat(root, "dir", follow=True)).link_target == ""
    assert (await files.stat(root, "/")).name == "/"
    assert (await files.stat(root, "dir/passwd")).size == 10


@pytest.mark.parametrize("path", ["rel", "abs", "updir/secret", "loop", "../outside/secret", "/no"])
async def test_no_path_leaves_the_root(files, root, path):
    with pytest.raises(NotFoundError):
        await files.stat(root, path, follow=True)
    with pytest.raises(NotFoundError):
        await files.read(root, path, limit=100)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc", ["etc", "etc/d", "etc/d/f", "etc/passwd"]),
        ("etc/", ["etc", "etc/d", "etc/d/f", "etc/passwd"]),
        ("/etc/.", [".", "./d", "./d/f", "./passwd"]),
        ("/etc/passwd", ["passwd"]),
        ("dir", ["dir"]),
        ("dir/", ["dir", "dir/d", "dir/d/f", "dir/passwd"]),
    ],
)
async def test_the_top_entry_has_the_base_name(files, root, path, expected):
    assert names(await collected(files.pack(root, path))) == expected


async def test_the_whole_root_is_packed_with_bare_names_for_export(files, root):
    found = names(await collected(files.pack(root, "")))
    assert found == ["abs", "dir", "etc", "etc/d", "etc/d/f", "etc/passwd", "loop", "rel", "updir"]


async def test_packing_what_is_not_there_is_said_before_the_first_byte(files, root):
    with pytest.raises(NotFoundError, match="Could not find the file /nothing in container"):
        await anext(files.pack(root, "/nothing"))


@pytest.mark.parametrize(
    "squeeze",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
)
async def test_a_tar_is_unpacked_whatever_its_compression(files, root, squeeze):
    data = squeeze(tar_of({"new": None, "new/f": b"x" * 300_000, "passwd": b"changed"}))
    await files.unpack(root, "/dir", chunks(data))
    assert (root / "etc/new/f").stat().st_size == 300_000
    assert (root / "etc/passwd").read_text() == "changed"
    assert (root / "etc/d/f").read_text() == "f"


async def test_entries_through_links_of_the_root_stay_inside(files, root):
    data = tar_of({"updir/new": b"x"})
    with pytest.raises(InvalidInputError):
        await files.unpack(root, "/", chunks(data))
    await files.unpack(root, "/", chunks(tar_of({"dir/new": b"x"})))
    assert (root / "etc/new").read_text() == "x"
    await files.unpack(root, "/", chunks(tar_of({"abs": b"replaced"})))
    assert not (root / "abs").is_symlink()


async def test_the_place_must_be_a_directory_that_is_there(files, root):
    with pytest.raises(NotFoundError):
        await files.unpack(root, "/nothing", chunks(tar_of({"a": b"a"})))
    with pytest.raises(InvalidInputError, match="extraction point is not a directory"):
        await files.unpack(root, "/etc/passwd", chunks(tar_of({"a": b"a"})))
    with pytest.raises(InvalidInputError, match="not a tar"):
        await files.unpack(root, "/etc", chunks(b"no tar" * 1000))


async def test_kinds_are_kept_where_that_is_asked(files, root):
    with pytest.raises(InvalidInputError, match='cannot overwrite non-directory "passwd"'):
        await files.unpack(
            root, "/etc", chunks(tar_of({"passwd": None})), no_overwrite_dir_non_dir=True
        )


@pytest.mark.root
async def test_everything_can_be_given_to_one_owner(files, root):
    data = tar_of({"new": None, "new/f": b"x"})
    await files.unpack(root, "/etc", chunks(data), copy_uid_gid=True, owner=(70, 71))
    assert ((root / "etc/new/f").stat().st_uid, (root / "etc/new").stat().st_gid) == (70, 71)


async def test_reading_is_bounded_and_never_waits_on_a_fifo(files, root):
    os.mkfifo(root / "etc/fifo")
    assert await files.read(root, "/etc/passwd", limit=4) == b"root"
    with pytest.raises(NotFoundError, match="not a regular file"):
        await files.read(root, "/etc/fifo", limit=4)


async def test_a_sender_that_dies_ends_the_unpacking(files, root):
    async def dying():
        yield tar_of({"a": b"x" * 100_000})[:50_000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await files.unpack(root, "/etc", dying())


async def test_a_component_exchanged_for_a_link_gains_nothing(files, root, tmp_path):
    (root / "swap").mkdir()
    (root / "other").symlink_to(tmp_path / "outside")
    stop = threading.Event()
    libc = ctypes.CDLL(None)
    exchange_flag, here = 2, -100

    def exchange() -> None:
        pair = (os.fsencode(root / "swap"), os.fsencode(root / "other"))
        while not stop.is_set():
            libc.renameat2(here, pair[0], here, pair[1], exchange_flag)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(150):
            with contextlib.suppress(InvalidInputError, NotFoundError):
                await files.unpack(root, "/", chunks(tar_of({"swap/new": b"x"})))
            with contextlib.suppress(NotFoundError):
                assert b"secret" not in await collected(files.pack(root, "/swap/"))
    finally:
        stop.set()
        thread.join()
