"""VolumeStore by directories."""

import asyncio
import os
import stat

import pytest

from stackctl.adapters.storage.volumes import DirectoryVolumes
from stackctl.errors import InvalidInputError
from stackctl.host import mounts


@pytest.fixture
def volumes(tmp_path):
    return DirectoryVolumes(tmp_path / "volumes")


@pytest.fixture
def source(tmp_path):
    """A directory of an image."""
    root = tmp_path / "image"
    (root / "sub").mkdir(parents=True)
    (root / "sub/file").write_text("content")
    (root / "sub/file").chmod(0o640)
    (root / "link").symlink_to("/etc/passwd")
    root.chmod(0o1770)
    return root


async def test_creating_twice_keeps_what_is_in_it(volumes):
    path = await volumes.create("data", {})
    (path / "f").write_text("12345")
    assert await volumes.create("data", {}) == path
    assert await volumes.usage("data") == 5
    await volumes.remove("data")
    await volumes.remove("data")
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 300])
async def test_impossible_names_are_refused(volumes, name):
    with pytest.raises(InvalidInputError, match="includes invalid characters"):
        await volumes.create(name, {})


async def test_an_empty_volume_is_filled_from_the_image(volumes, source):
    path = await volumes.create("data", {})
    await volumes.copy_up(path, source)
    assert (path / "sub/file").read_text() == "content"
    assert stat.S_IMODE((path / "sub/file").stat().st_mode) == 0o640
    assert stat.S_IMODE(path.stat().st_mode) == 0o1770
    assert os.readlink(path / "link") == "/etc/passwd"


async def test_a_volume_that_holds_something_is_left_alone(volumes, source):
    path = await volumes.create("data", {})
    (path / "mine").write_text("m")
    await volumes.copy_up(path, source)
    assert os.listdir(path) == ["mine"]


async def test_two_containers_filling_one_volume_fill_it_once(volumes, source):
    path = await volumes.create("data", {})
    await asyncio.gather(*(volumes.copy_up(path, source) for _ in range(4)))
    assert sorted(os.listdir(path)) == ["link", "sub"]


@pytest.mark.root
async def test_owners_and_attributes_come_along(volumes, source):
    os.chown(source, 70, 71)
    os.chown(source / "sub/file", 70, 71)
    os.setxattr(source / "sub/file", b"user.k", b"v")
    path = await volumes.create("data", {})
    await volumes.copy_up(path, source)
    assert (path.stat().st_uid, path.stat().st_gid) == (70, 71)
    assert (path / "sub/file").stat().st_uid == 70
    assert os.getxattr(path / "sub/file", b"user.k") == b"v"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"what": "x"}, 'invalid option: "what"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"device": "x"}, 'missing required option: "type"'),
    ],
)
async def test_bad_options_are_refused_as_docker_does(volumes, options, text):
    with pytest.raises(InvalidInputError, match=text):
        await volumes.create("data", options)


@pytest.mark.root
async def test_a_tmpfs_volume_is_mounted_once_and_gone_when_removed(volumes):
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,noexec"}
    path = await volumes.create("data", options)
    assert await volumes.create("data", options) == path
    try:
        [entry] = [item for item in mounts.mount_table() if item.target == str(path)]
        assert (entry.type, "noexec" in entry.options) == ("tmpfs", True)
    finally:
        await volumes.remove("data")
    assert not path.exists()


@pytest.mark.root
async def test_a_volume_bound_to_a_directory_never_removes_what_is_there(volumes, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "f").write_text("f")
    options = {"type": "none", "o": "bind", "device": str(mine)}
    path = await volumes.create("data", options)
    assert await volumes.create("data", options) == path
    assert (path / "f").read_text() == "f"
    assert len([item for item in mounts.mount_table() if item.target == str(path)]) == 1
    mounts.bind(mine, path)
    await volumes.remove("data")
    assert not path.exists()
    assert (mine / "f").read_text() == "f"


@pytest.mark.root
async def test_a_volume_bound_to_nothing_says_so(volumes, tmp_path):
    options = {"type": "none", "o": "bind", "device": str(tmp_path / "gone")}
    with pytest.raises(InvalidInputError, match="no such file or directory"):
        await volumes.create("data", options)
