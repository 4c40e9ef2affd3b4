import io
import json
import os

import pytest

from stackctl.adapters.storage.treesync import TreeSync
from stackctl.errors import InvalidInputError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return root


def send(root, *entries: tuple[dict, bytes] | dict):
    stream = b""
    for entry in entries:
        head, data = entry if isinstance(entry, tuple) else (entry, b"")
        if head.get("type") == "file":
            head = {**head, "size": len(data)}
        stream += json.dumps(head).encode() + b"\n" + data
    return raw(root, stream)


def raw(root, stream: bytes):
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return TreeSync(fd).apply(io.BytesIO(stream))
    finally:
        os.close(fd)


def test_files_directories_and_symlinks_are_written_with_missing_parents(root):
    result = send(
        root,
        (
            {
                "path": "/a/b/c",
                "type": "file",
                "mode": 0o755,
                "mtime": 1_700_000_000_000_000_000,
            },
            b"hello",
        ),
        {"path": "/a/link", "type": "symlink", "link": "b/c"},
        {"path": "/a/empty", "type": "directory", "mode": 0o700},
        ({"path": "/a/after", "type": "file"}, b""),
    )
    assert (result.written, result.deleted, result.size, result.failures) == (4, 0, 5, ())
    assert (root / "a/b/c").read_bytes() == b"hello"
    assert (root / "a/b/c").stat().st_mode & 0o7777 == 0o755
    assert (root / "a/b/c").stat().st_mtime == 1_700_000_000
    assert os.readlink(root / "a/link") == "b/c"
    assert (root / "a/empty").stat().st_mode & 0o7777 == 0o700
    assert sorted(os.listdir(root / "a")) == ["after", "b", "empty", "link"]


def test_a_file_is_replaced_as_a_whole_and_keeps_its_mode_where_none_is_given(root):
    (root / "f").write_text("a long old content")
    (root / "f").chmod(0o640)
    with open(root / "f") as reader:
        send(root, ({"path": "/f", "type": "file"}, b"new"))
        assert reader.read() == "a long old content"
    assert (root / "f").read_text() == "new"
    assert (root / "f").stat().st_mode & 0o7777 == 0o640


def test_deleting_takes_what_is_below_and_what_is_not_there_is_no_failure(root):
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_text("f")
    result = send(root, {"path": "/d", "type": "deleted"}, {"path": "/nosuch/x", "type": "deleted"})
    assert (result.deleted, result.failures) == (1, ())
    assert os.listdir(root) == []


def test_a_directory_is_not_replaced_by_a_file_and_the_rest_of_the_batch_is_applied(root):
    (root / "d").mkdir()
    (root / "d" / "precious").write_text("p")
    result = send(
        root, ({"path": "/d", "type": "file"}, b"12345"), ({"path": "/e", "type": "file"}, b"e")
    )
    assert result.failures == (("/d", "a directory is in its place"),)
    assert (root / "e").read_text() == "e"
    assert (root / "d" / "precious").exists()


def test_symlinks_of_the_root_do_not_lead_out_of_it(root, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("v")
    (root / "up").symlink_to("../outside")
    (root / "absolute").symlink_to(tmp_path / "outside")
    send(
        root,
        ({"path": "/up/file", "type": "file"}, b"x"),
        {"path": "/absolute/victim", "type": "deleted"},
        {"path": "/up", "type": "deleted"},
    )
    assert os.listdir(tmp_path / "outside") == ["victim"]


def test_a_directory_where_the_container_has_a_link_to_one_leaves_the_link(root):
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    send(
        root,
        {"path": "/link", "type": "directory", "mode": 0o755},
        ({"path": "/link/f", "type": "file"}, b"x"),
    )
    assert os.readlink(root / "link") == "real"
    assert (root / "real" / "f").read_text() == "x"


@pytest.mark.parametrize(
    "stream",
    [
        b"{",
        b"[]\n",
        b'{"path": "/a", "type": "device"}\n',
        b'{"path": "/", "type": "deleted"}\n',
        b'{"path": "/a/../..", "type": "deleted"}\n',
        b'{"path": "/a", "type": "symlink"}\n',
        b'{"path": "/a", "type": "file", "size": -1}\n',
        b'{"path": "/a", "type": "file", "size": 10}\nabc',
        b'{"path": "/a", "type": "file", "mtime": "x"}\n',
        b"x" * 100_000,
    ],
)
def test_a_batch_that_is_not_well_formed_is_refused_and_leaves_nothing_half_written(root, stream):
    with pytest.raises(InvalidInputError):
        raw(root, stream)
    assert os.listdir(root) == []


def test_long_files_come_whole_whatever_the_pieces_they_arrive_in(root):
    data = os.urandom(3_000_000)

    class Dribble(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 4099))

    head = json.dumps({"path": "/f", "type": "file", "size": len(data)}).encode() + b"\n"
    last = b'{"path": "/g", "type": "directory"}\n'
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        TreeSync(fd).apply(Dribble(head + data + last))
    finally:
        os.close(fd)
    assert (root / "f").read_bytes() == data
    assert (root / "g").is_dir()


def test_hundreds_of_replaced_and_removed_files_are_let_go_of(root):
    def files(text: bytes):
        return [({"path": f"/d/f{number}", "type": "file"}, text) for number in range(700)]

    send(root, *files(b"old"))
    before = set(os.listdir("/proc/self/fd"))
    assert send(root, *files(b"new")).written == 700
    assert (root / "d" / "f699").read_bytes() == b"new"
    assert send(root, {"path": "/d", "type": "deleted"}).deleted == 1
    assert os.listdir(root) == []
    assert set(os.listdir("/proc/self/fd")) == before
