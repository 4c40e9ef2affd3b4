"""What COPY takes, and the tar it makes."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from stackctl.builder import copying
from stackctl.builder.context import Digests, Tree
from stackctl.builder.copying import Destination, Ownership
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.ignore import Ignore


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "root"
    (root / "d/sub").mkdir(parents=True)
    (root / "d/f").write_text("f")
    (root / "d/sub/g").write_text("g")
    (root / "a.txt").write_text("a")
    (root / "up").symlink_to("../../../../etc")
    (root / "abs").symlink_to("/d/f")
    (tmp_path / "etc").mkdir()
    return Tree(root, Digests(), ours=True)


@pytest.mark.parametrize(
    "patterns", [(), ("d/sub",), ("**/g",), ("d", "!d/sub/g"), ("*",), ("a*", "up")]
)
@pytest.mark.parametrize("path", ["", "d"])
def test_the_quick_way_through_a_tree_sees_what_the_walk_sees(
    tree: Tree, patterns: tuple[str, ...], path: str
) -> None:
    made = Tree(Path(tree.root), Digests(), ignore=Ignore(patterns), ours=True)
    expected = [
        f"{node.path.removeprefix('d/' if path else '')}\0{made.fingerprint(node)}\0"
        for node in made.walk(path)
    ]
    assert "".join(made.fingerprints(path)) == "".join(expected)


def names(chunks) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {info.name: info for info in tar}


def place(path: str, *, directory: bool = False, exists: bool = False) -> Destination:
    return Destination(path=path, directory=directory, exists=exists)


def test_a_directorys_contents_are_copied(tree: Tree):
    found = names(copying.pack(copying.choose(tree, ["d"]), place("/x"), Ownership(uid=1, gid=2)))
    assert list(found) == ["x", "x/f", "x/sub", "x/sub/g"]
    assert {(info.uid, info.gid) for info in found.values()} == {(1, 2)}


def test_a_directory_that_exists_keeps_its_mode(tree: Tree):
    found = names(
        copying.pack(
            copying.choose(tree, ["d"]), place("/x", directory=True, exists=True), Ownership()
        )
    )
    assert list(found) == ["x/f", "x/sub", "x/sub/g"]


def test_wildcards_stop_at_slashes(tree: Tree):
    assert [source.name for source in copying.choose(tree, ["*.txt"])] == ["a.txt"]
    assert [source.name for source in copying.choose(tree, ["d/*"])] == ["f", "sub"]
    assert copying.choose(tree, ["*.none"]) == []
    with pytest.raises(NotFoundError):
        copying.choose(tree, ["none"])


def test_symlinks_never_lead_out_of_the_tree(tree: Tree):
    with pytest.raises(NotFoundError):
        tree.find("up")
    assert tree.find("abs").path == "d/f"
    assert tree.find("../../d/../a.txt").path == "a.txt"
    os.symlink("loop", tree.host_path("loop"))
    with pytest.raises(NotFoundError, match="too many levels"):
        tree.find("loop")


def test_a_fingerprint_knows_content_name_and_mode_but_no_time(tree: Tree):
    def now() -> str:
        return copying.fingerprint(copying.choose(tree, ["d"]))

    first = now()
    path = Path(tree.host_path("d/f"))
    os.utime(path, (1, 1))
    assert now() == first
    path.chmod(0o600)
    second = now()
    assert second != first
    path.write_text("other")
    assert now() not in (first, second)
    path.rename(path.with_name("h"))
    assert copying.fingerprint(copying.choose(tree, ["d"]), ["h", "sub"]) != second


@pytest.mark.parametrize(
    ("change", "mode", "is_dir", "result"),
    [
        ("755", 0o600, False, 0o755),
        ("0644", 0o777, True, 0o644),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("+x", 0o644, False, 0o755),
        ("go-rwx", 0o755, False, 0o700),
        ("a=r", 0o777, False, 0o444),
        ("", 0o640, False, 0o640),
        ("g=u", 0o644, False, 0o664),
        ("go=u-w", 0o644, False, 0o644),
        ("o+g", 0o750, True, 0o755),
        ("u-w+x", 0o644, False, 0o544),
        ("u+s,+t", 0o644, False, 0o5644),
        ("00755", 0, False, 0o755),
    ],
)
def test_modes_change_as_chmod_changes_them(change, mode, is_dir, result):
    assert copying.changed_mode(change, mode, is_dir=is_dir) == result


@pytest.mark.parametrize("change", ["rwx?", "17777", "8", "u", "x+r", "u=ug"])
def test_a_mode_that_is_none_is_refused(change):
    with pytest.raises(InvalidInputError):
        copying.changed_mode(change, 0, is_dir=False)


def test_an_archive_is_known_by_its_content(tree: Tree, tmp_path: Path):
    for kind in ("", "gz", "bz2", "xz"):
        with tarfile.open(tmp_path / f"t{kind}", f"w:{kind}") as tar:
            tar.add(tree.host_path("a.txt"), "a")
        assert copying.is_archive(str(tmp_path / f"t{kind}"))
    assert not copying.is_archive(tree.host_path("a.txt"))
