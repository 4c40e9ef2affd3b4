"""Files: atomic writes, locks, paths inside a root, removal."""

import os
import stat

import pytest

from stackctl.errors import ConflictError
from stackctl.host.files import (
    atomic_write,
    lock_exclusively,
    open_in_root,
    remove_tree,
    tree_usage,
)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "f"
    atomic_write(path, b"old")
    atomic_write(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError):
        atomic_write(tmp_path / "f", b"new")
    assert os.listdir(tmp_path) == ["f"]


def test_a_lock_is_held_by_one(tmp_path):
    held = lock_exclusively(tmp_path / "lock")
    with pytest.raises(ConflictError, match="is locked by another process"):
        lock_exclusively(tmp_path / "lock")
    os.close(held)
    os.close(lock_exclusively(tmp_path / "lock"))


@pytest.mark.parametrize(
    "path", ["/etc/f", "etc/f", "../../etc/f", "abs/f", "up/f", "/up/../etc/f"]
)
def test_a_path_is_resolved_inside_the_root(tmp_path, path):
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/f").write_text("inside")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/f").write_text("outside")
    (tmp_path / "root/abs").symlink_to("/etc")
    (tmp_path / "root/up").symlink_to("../../etc")
    root = os.open(tmp_path / "root", os.O_PATH)
    try:
        with open(open_in_root(root, path, os.O_RDONLY)) as file:
            assert file.read() == "inside"
    finally:
        os.close(root)


def test_removing_never_follows_a_link_and_twice_is_success(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/f").write_text("f")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "kept")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "tree")
    assert (tmp_path / "kept/f").read_text() == "f"


def test_usage_counts_hard_links_once_and_symlinks_by_their_target(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/c").write_bytes(b"1")
    (tmp_path / "l").symlink_to("four")
    assert tree_usage(tmp_path) == 10
