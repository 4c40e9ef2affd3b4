"""Where a context that comes in is unpacked: in memory when it is plain and not large, else on the disk."""

import contextlib
import gzip
from concurrent.futures import ThreadPoolExecutor

import pytest

from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.builder import receiving
from stackctl.builder.context import Digests
from stackctl.builder.receiving import Receiver
from stackctl.errors import HostError, InvalidInputError
from tests.fakes.storage import chunks, tar_of

PLAIN = tar_of({"Dockerfile": b"FROM x\n", "a": b"1" * 1000})


class Full(OpenAtRootTree):
    """Says once that there is no space left."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    async def unpack(self, root, path, chunks, **options):
        self.tried += 1
        if self.tried == 1:
            raise HostError("No space left on device")
        await super().unpack(root, path, chunks, **options)


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(receiving, "_has_room", lambda memory: True)
    return tmp_path / "disk", tmp_path / "memory"


@pytest.mark.parametrize(
    ("data", "where"), [(PLAIN, "memory"), (gzip.compress(PLAIN), "disk")], ids=["plain", "gzip"]
)
async def test_a_plain_tar_goes_to_memory_and_a_compressed_one_to_the_disk(places, data, where):
    receiver = Receiver(OpenAtRootTree(), Digests(), *places)
    context = await receiver.receive(chunks(data))
    assert context.root.parent.name == where
    assert context.read("Dockerfile") == "FROM x\n"
    context.close()
    assert not context.root.exists()
    assert not places[1].exists()


async def test_a_large_one_goes_to_the_disk_whole(places, monkeypatch):
    monkeypatch.setattr(receiving, "_LARGEST", 2000)
    receiver = Receiver(OpenAtRootTree(), Digests(), *places)
    context = await receiver.receive(chunks(PLAIN, 512))
    assert context.root.parent.name == "disk"
    assert (context.root / "a").read_bytes() == b"1" * 1000
    context.close()


async def test_no_space_in_memory_is_no_failure(places):
    receiver = Receiver(Full(), Digests(), *places)
    context = await receiver.receive(chunks(PLAIN))
    assert context.root.parent.name == "disk"
    assert context.read("a") == "1" * 1000
    context.close()
    assert not places[1].exists()


async def test_what_is_no_tar_and_what_a_killed_daemon_left_leave_nothing(places):
    for place in places:
        (place / "context-old").mkdir(parents=True)
    receiver = Receiver(OpenAtRootTree(), Digests(), *places)
    with pytest.raises(InvalidInputError):
        await receiver.receive(chunks(b"no tar" * 200))
    assert not places[1].exists()
    assert list(places[0].iterdir()) == []


async def test_two_at_a_time_are_in_memory(places):
    receiver = Receiver(OpenAtRootTree(), Digests(), *places)
    receiver._in_memory = 2
    context = await receiver.receive(chunks(PLAIN))
    assert context.root.parent.name == "disk"
    context.close()


def test_contexts_that_come_while_others_go_find_their_directory(tmp_path):
    parent = tmp_path / "contexts"

    def come_and_go() -> None:
        for _ in range(300):
            path = receiving._new_directory(parent)
            path.rmdir()
            with contextlib.suppress(OSError):
                parent.rmdir()

    with ThreadPoolExecutor(4) as pool:
        for made in [pool.submit(come_and_go) for _ in range(4)]:
            made.result()
