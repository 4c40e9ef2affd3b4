import os
import shutil
import threading
import time

import pytest

from stackctl.errors import NotFoundError
from stackctl.host.inotify import DirectoryEvents
from stackctl.orchestrator.watch.changes import QUIET_BULK, Changes
from stackctl.orchestrator.watch.checkouts import Checkouts


@pytest.fixture
def watched(tmp_path):
    """Watch ``tmp_path/src`` but for what is called "skip", with real inotify."""
    root = tmp_path / "src"
    root.mkdir()
    opened = []

    def covers(path: str) -> bool:
        return path.startswith(f"{root}/") and "skip" not in path

    def enters(path: str) -> bool:
        return path == str(root) or covers(path)

    def start(events=None, **options) -> Changes:
        made = Changes(
            [str(root)], events or DirectoryEvents(), enters=enters, covers=covers, **options
        )
        opened.append(made)
        return made

    start.root = root
    yield start
    for changes in opened:
        changes.close()


def paths(changes: Changes, root) -> set[str]:
    """Everything that changed until now."""
    found: set[str] = set()
    while (batch := changes.next(0.05)) is not None:
        found |= {os.path.relpath(path, root) for path in batch.paths}
    return found


def test_a_path_that_is_not_there_is_refused(tmp_path):
    events = DirectoryEvents()
    with pytest.raises(NotFoundError):
        Changes([str(tmp_path / "no")], events, enters=bool, covers=bool)
    events.close()


def test_written_replaced_and_deleted_files_are_told(watched):
    (watched.root / "old").write_text("o")
    changes = watched()
    (watched.root / "a").write_text("a")
    (watched.root / "tmp").write_text("b")
    (watched.root / "tmp").rename(watched.root / "b")
    (watched.root / "old").unlink()
    assert paths(changes, watched.root) == {"a", "b", "old"}


def test_a_new_tree_is_told_whole_and_watched_from_then_on(watched):
    changes = watched()
    (watched.root / "x" / "y").mkdir(parents=True)
    (watched.root / "x" / "y" / "f").write_text("f")
    assert paths(changes, watched.root) == {"x", "x/y", "x/y/f"}
    (watched.root / "x" / "y" / "g").write_text("g")
    assert paths(changes, watched.root) == {"x/y/g"}


def test_a_moved_directory_is_gone_there_new_here_and_still_watched(watched):
    (watched.root / "x" / "y").mkdir(parents=True)
    (watched.root / "x" / "y" / "f").write_text("f")
    changes = watched()
    (watched.root / "x").rename(watched.root / "z")
    assert paths(changes, watched.root) == {"x", "x/y", "x/y/f", "z", "z/y", "z/y/f"}
    (watched.root / "z" / "y" / "f").write_text("g")
    assert paths(changes, watched.root) == {"z/y/f"}
    (watched.root / "z").rename(watched.root.parent / "outside")
    assert paths(changes, watched.root) == {"z", "z/y", "z/y/f"}
    (watched.root.parent / "outside" / "new").write_text("n")
    assert paths(changes, watched.root) == set()


def test_the_root_itself_may_be_replaced(watched):
    (watched.root / "f").write_text("f")
    changes = watched()
    shutil.rmtree(watched.root)
    watched.root.mkdir()
    (watched.root / "g").write_text("g")
    assert {"f", "g"} <= paths(changes, watched.root)
    (watched.root / "h").write_text("h")
    assert paths(changes, watched.root) == {"h"}


def test_what_is_ignored_is_not_even_watched(watched):
    (watched.root / "skip" / "deep").mkdir(parents=True)
    (watched.root / "kept").mkdir()
    added = []

    class Counting(DirectoryEvents):
        def add(self, path: str) -> int:
            added.append(os.path.relpath(path, watched.root))
            return super().add(path)

    changes = watched(Counting())
    assert sorted(added) == [".", "..", "kept"]
    (watched.root / "skip" / "f").write_text("f")
    assert paths(changes, watched.root) == set()


class Lossy(DirectoryEvents):
    """Loses all events while ``losing``, and says so afterwards, as the kernel does."""

    losing = False

    def read(self, timeout):
        found = super().read(timeout)
        if self.losing and found:
            self.losing = False
            return [(-1, 0x4000, "")]
        return found


def test_lost_events_make_everything_be_compared(watched):
    for name in ("same", "changed", "gone"):
        (watched.root / name).write_text(name)
    (watched.root / "d").mkdir()
    (watched.root / "d" / "in").write_text("in")
    events = Lossy()
    changes = watched(events)
    events.losing = True
    (watched.root / "changed").write_text("other")
    (watched.root / "gone").unlink()
    (watched.root / "new").mkdir()
    (watched.root / "new" / "f").write_text("f")
    shutil.rmtree(watched.root / "d")
    batch = changes.next(1)
    assert batch.rescanned
    found = {os.path.relpath(path, watched.root) for path in batch.paths}
    assert found == {"changed", "gone", "new", "new/f", "d", "d/in"}


def test_a_batch_takes_all_of_a_burst(watched):
    changes = watched()
    for number in range(500):
        (watched.root / f"f{number}").write_text("x")
    batch = changes.next(1)
    assert len(batch.paths) == 500


def test_a_checkout_is_one_batch_however_often_it_pauses(watched):
    lock = watched.root.parent / ".git" / "index.lock"
    lock.parent.mkdir()
    lock.touch()
    checkouts = Checkouts([str(watched.root)])
    changes = watched(unfinished=checkouts.under_way)

    def check_out():
        for number in range(300):
            (watched.root / f"f{number}").write_text("x")
            if number % 100 == 99:
                time.sleep(3 * QUIET_BULK)
        lock.unlink()

    thread = threading.Thread(target=check_out)
    thread.start()
    batch = changes.next(10)
    thread.join()
    assert len(batch.paths) == 300


def test_a_lock_of_long_ago_and_a_worktree_s_own_are_told_apart(tmp_path):
    tree = tmp_path / "tree"
    (tree / "src").mkdir(parents=True)
    git = tmp_path / "main" / ".git" / "worktrees" / "tree"
    git.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {git}\n")
    checkouts = Checkouts([str(tree / "src")])
    assert not checkouts.under_way()
    lock = git / "index.lock"
    lock.touch()
    assert checkouts.under_way()
    os.utime(lock, (0, 0))
    assert not checkouts.under_way()


def test_everything_lists_what_is_known_below(watched):
    (watched.root / "x").mkdir()
    (watched.root / "x" / "f").write_text("f")
    (watched.root / "skip").write_text("s")
    changes = watched()
    names = {os.path.relpath(path, watched.root) for path in changes.everything(str(watched.root))}
    assert names == {".", "x", "x/f"}


def test_wake_ends_the_wait(watched):
    changes = watched()
    changes.wake()
    assert changes.next(30) is None


def test_without_inotify_any_change_is_found_by_comparing(watched):
    from stackctl.orchestrator.watch.portable import AnyChange

    (watched.root / "a").write_text("a")
    changes = watched(AnyChange())
    assert changes.next(0.01) is None
    (watched.root / "a").write_text("other")
    (watched.root / "b").write_text("b")
    found: set[str] = set()
    while (batch := changes.next(0.3)) is not None:
        found |= {os.path.relpath(path, watched.root) for path in batch.paths}
    assert found == {"a", "b"}


def test_a_directory_made_anew_while_events_were_lost_is_watched_again(watched):
    (watched.root / "d").mkdir()
    events = Lossy()
    changes = watched(events)
    events.losing = True
    (watched.root / "d").rmdir()
    (watched.root / "d").mkdir()
    changes.next(0.2)
    (watched.root / "d" / "f").write_text("f")
    assert paths(changes, watched.root) == {"d/f"}
