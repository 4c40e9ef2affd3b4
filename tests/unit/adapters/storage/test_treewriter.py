"""Writing tar entries: what they mean, and that none leaves its root."""

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackctl.adapters.storage.tarreader import TarStream
from stackctl.adapters.storage.tarwriter import TreePacker, end
from stackctl.adapters.storage.treewriter import TreeWriter, clean_name
from stackctl.errors import InvalidInputError

ME = (os.getuid(), os.getgid())


def apply(data: bytes, target: Path, **options) -> None:
    stream = TarStream(io.BytesIO(data))
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        writer = TreeWriter(root, **options)
        try:
            for entry in stream:
                writer.apply(entry, stream)
            writer.finish()
        finally:
            writer.close()
    finally:
        os.close(root)


def packed(source: Path, **options) -> bytes:
    root = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return b"".join(TreePacker(**options).tree(root)) + end()
    finally:
        os.close(root)


def member(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields) -> tuple:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    info.uid, info.gid = ME
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as out:
        for info, data in members:
            out.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def jail(tmp_path):
    """A root beside files that no tar may touch; checked after the test."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("untouched")
    root = tmp_path / "root"
    root.mkdir()
    yield root
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "root"]
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "untouched"
    assert (outside / "secret").stat().st_nlink == 1


EVIL = {
    "dot-dot": [member("../outside/new", data=b"x")],
    "dot-dot in the middle": [member("a/../../outside/new", data=b"x")],
    "symlink up, then through it": [
        member("up", tarfile.SYMTYPE, linkname="../outside"),
        member("up/new", data=b"x"),
    ],
    "absolute symlink, then through it": [
        member("abs", tarfile.SYMTYPE, linkname="{outside}"),
        member("abs/new", data=b"x"),
    ],
    "symlink in place of a file": [
        member("f", tarfile.SYMTYPE, linkname="../outside/secret"),
        member("f", data=b"overwritten"),
    ],
    "hard link to the outside": [
        member("h", tarfile.LNKTYPE, linkname="../outside/secret"),
        member("h", data=b"overwritten"),
    ],
    "hard link through a symlink": [
        member("up", tarfile.SYMTYPE, linkname="../outside"),
        member("h", tarfile.LNKTYPE, linkname="up/secret"),
    ],
    "hard link to a symlink, then write": [
        member("s", tarfile.SYMTYPE, linkname="../outside/secret"),
        member("h", tarfile.LNKTYPE, linkname="s"),
        member("h", data=b"overwritten"),
    ],
    "directory replaced by a symlink": [
        member("d", tarfile.DIRTYPE, mode=0o755),
        member("d/a", data=b"x"),
        member("d", tarfile.SYMTYPE, linkname="../outside"),
        member("d/new", data=b"x"),
    ],
    "whiteout of the parent": [member("a/.wh...", data=b"")],
    "whiteout of itself": [member(".wh..", data=b"")],
    "whiteout without a name": [member("a/.wh.", data=b"")],
    "opaque through a symlink": [
        member("up", tarfile.SYMTYPE, linkname="../outside"),
        member("up/.wh..wh..opq", data=b""),
    ],
    "whiteout through a symlink": [
        member("up", tarfile.SYMTYPE, linkname="../outside"),
        member("up/.wh.secret", data=b""),
    ],
    "metadata of a directory that became a symlink": [
        member("d", tarfile.DIRTYPE, mode=0o777, mtime=1),
        member("d", tarfile.SYMTYPE, linkname="../outside"),
    ],
    "a chain of symlinks": [
        member("a", tarfile.SYMTYPE, linkname="."),
        member("a/b", tarfile.SYMTYPE, linkname=".."),
        member("b/outside/new", data=b"x"),
    ],
    "a file as a directory": [member("f", data=b"x"), member("f/new", data=b"x")],
}


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("whiteouts", [True, False])
def test_no_evil_tar_leaves_its_root(jail, name, whiteouts):
    before = (jail.parent / "outside").stat()
    entries = []
    for info, data in EVIL[name]:
        copy = tarfile.TarInfo.frombuf(info.tobuf(), "utf-8", "surrogateescape")
        copy.linkname = info.linkname.replace("{outside}", str(jail.parent / "outside"))
        entries.append((copy, data))
    try:
        apply(tar(*entries), jail, whiteouts=whiteouts)
    except (InvalidInputError, OSError):
        pass
    after = (jail.parent / "outside").stat()
    assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)


COMPONENT = st.sampled_from(["a", "b", "..", ".", "", "outside", ".wh.a", ".wh..wh..opq"])
ANY_PATH = st.lists(COMPONENT, min_size=1, max_size=5).map("/".join)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120, deadline=None
)
@given(
    st.lists(
        st.tuples(
            ANY_PATH,
            st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
            ANY_PATH,
        ),
        max_size=12,
    )
)
def test_no_order_of_entries_leaves_the_root(tmp_path_factory, entries):
    home = tmp_path_factory.mktemp("jail")
    (home / "outside").mkdir()
    (home / "outside/secret").write_text("untouched")
    (home / "root").mkdir()
    stamp = (home / "outside").stat().st_mtime_ns
    for path, kind, link in entries:
        data = b"x" if kind == tarfile.REGTYPE else b""
        try:
            raw = tar(member(path or ".", kind, data, linkname=link, mode=0o755))
            apply(raw, home / "root", whiteouts=os.getuid() == 0)
        except (InvalidInputError, OSError):
            continue
    assert sorted(path.name for path in home.iterdir()) == ["outside", "root"]
    assert (home / "outside").stat().st_mtime_ns == stamp
    assert (home / "outside/secret").read_text() == "untouched"


def test_a_symlinked_directory_of_the_layer_itself_is_followed_inside(jail):
    apply(
        tar(
            member("usr/lib", tarfile.DIRTYPE, mode=0o755),
            member("lib", tarfile.SYMTYPE, linkname="usr/lib"),
            member("lib/libc.so", data=b"x"),
            member("abs", tarfile.SYMTYPE, linkname="/usr/lib"),
            member("abs/libm.so", data=b"y"),
        ),
        jail,
    )
    assert (jail / "usr/lib/libc.so").read_bytes() == b"x"
    assert (jail / "usr/lib/libm.so").read_bytes() == b"y"
    assert (jail / "lib").is_symlink()


def test_a_later_entry_replaces_an_earlier_one_of_another_kind(jail):
    apply(
        tar(
            member("x/deep/file", data=b"1"),
            member("x", data=b"now a file"),
            member("y", data=b"1"),
            member("y", tarfile.DIRTYPE, mode=0o700),
            member("y/inside", data=b"2"),
        ),
        jail,
    )
    assert (jail / "x").read_bytes() == b"now a file"
    assert (jail / "y/inside").read_bytes() == b"2"


def test_a_hard_link_shares_its_file(jail):
    apply(tar(member("a", data=b"x"), member("d/b", tarfile.LNKTYPE, linkname="a")), jail)
    assert (jail / "a").stat().st_ino == (jail / "d/b").stat().st_ino


def test_a_hard_link_to_nothing_is_refused(jail):
    with pytest.raises(InvalidInputError, match='leads to "gone", which is not there'):
        apply(tar(member("a", tarfile.LNKTYPE, linkname="gone")), jail)


def test_modes_times_and_set_user_id_are_kept_whatever_the_umask(jail):
    before = os.umask(0o077)
    try:
        apply(
            tar(
                member("d", tarfile.DIRTYPE, mode=0o1777, mtime=1000),
                member("d/s", data=b"x", mode=0o4755, mtime=2000),
                member("implied/f", data=b"x", mode=0o644),
            ),
            jail,
        )
    finally:
        os.umask(before)
    assert stat.S_IMODE((jail / "d").stat().st_mode) == 0o1777
    assert (jail / "d").stat().st_mtime == 1000
    assert stat.S_IMODE((jail / "d/s").stat().st_mode) == 0o4755
    assert (jail / "d/s").stat().st_mtime == 2000
    assert stat.S_IMODE((jail / "implied").stat().st_mode) == 0o755


def test_a_directory_that_cannot_be_written_gets_its_files_all_the_same(jail):
    apply(tar(member("d", tarfile.DIRTYPE, mode=0o555), member("d/f", data=b"x")), jail)
    assert (jail / "d/f").read_bytes() == b"x"
    (jail / "d").chmod(0o755)


def test_kinds_are_kept_where_that_is_asked(jail):
    (jail / "dir").mkdir()
    (jail / "file").write_text("f")
    with pytest.raises(InvalidInputError, match="cannot overwrite directory"):
        apply(tar(member("dir", data=b"x")), jail, no_overwrite_dir_non_dir=True)
    with pytest.raises(InvalidInputError, match="cannot overwrite non-directory"):
        apply(tar(member("file", tarfile.DIRTYPE)), jail, no_overwrite_dir_non_dir=True)


def test_deep_trees_do_not_run_out_of_descriptors(jail):
    deep = "/".join(["d"] * 300)
    apply(
        tar(
            member(f"{deep}/f", data=b"x"),
            *(member(f"wide{number}/f", data=b"y") for number in range(300)),
            member(f"{deep}/g", tarfile.LNKTYPE, linkname=f"{deep}/f"),
        ),
        jail,
    )
    assert (jail / deep / "g").read_bytes() == b"x"


TREE = st.recursive(
    st.one_of(st.binary(max_size=300), st.text("abc/.", min_size=1, max_size=150)),
    lambda inner: st.dictionaries(
        st.text(
            st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"),
            min_size=1,
            max_size=60,
        ).filter(lambda name: name not in (".", "..") and not name.startswith(".wh.")),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


def plant(where: Path, tree) -> None:
    if isinstance(tree, dict):
        where.mkdir(exist_ok=True)
        for name, inner in tree.items():
            plant(where / name, inner)
        os.utime(where, (1000, 1000))
    elif isinstance(tree, bytes):
        where.write_bytes(tree)
        where.chmod(0o640)
        os.utime(where, (len(tree), len(tree)))
        os.link(where, f"{where}"[:-1] + "L") if len(tree) == 7 else None
    else:
        where.symlink_to(tree)


def snapshot(root: Path) -> dict:
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        body = os.readlink(path) if path.is_symlink() else b""
        if stat.S_ISREG(info.st_mode):
            body = path.read_bytes()
        when = int(info.st_mtime) if not stat.S_ISLNK(info.st_mode) else 0
        found[str(path.relative_to(root))] = (info.st_mode, info.st_uid, info.st_nlink, when, body)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(st.text("abcdé ", min_size=1, max_size=120), TREE, max_size=4))
def test_unpacking_what_was_packed_is_the_same_tree(tmp_path_factory, tree):
    home = tmp_path_factory.mktemp("tree")
    (home / "copy").mkdir()
    try:
        plant(home / "source", tree)
    except OSError:
        return  # two names that only differ beyond what the file system keeps
    data = packed(home / "source")
    apply(data, home / "copy")
    assert snapshot(home / "copy") == snapshot(home / "source")
    assert packed(home / "copy") == data


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a", b"a"), (b"./a/", b"a"), (b"/etc//x", b"etc/x"), (b"a/./b", b"a/b"),
        (b"a/../b", b"b"), (b"/", b""), (b"./", b""), (b"a/b/..", b"a"), (b"..a/b", b"..a/b"),
        (b"a/.hidden", b"a/.hidden"),
    ],
)  # fmt: skip
def test_names_are_cleaned(name, expected):
    assert clean_name(name) == expected


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../../b", b"/..", b"./.."])
def test_names_that_lead_out_are_refused(name):
    with pytest.raises(InvalidInputError, match="leads out of the root"):
        clean_name(name)
