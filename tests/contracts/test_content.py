"""ContentStore: nothing unverified is ever visible."""

import asyncio
import gzip
import hashlib
import io
import tarfile

import pytest

from stackctl.adapters.storage.content import BlobStore
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.oci.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from stackctl.oci.digest import digest_of
from tests.fakes.storage import chunks, collected, tar_of


@pytest.fixture
def store(tmp_path):
    return BlobStore(tmp_path / "content")


def described(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(
        media_type="x/y", digest=digest_of(data), size=len(data) if size is None else size
    )


async def test_what_was_stored_is_read_back(store):
    data = b"data" * 700_000
    found = await store.ingest(chunks(data), described(data))
    assert found == described(data)
    assert store.has(found.digest)
    assert store.path(found.digest).read_bytes() == data
    assert await store.digests() == [found.digest]


@pytest.mark.parametrize("wrong", [b"other data", b"data and more", b"dat", b""])
async def test_what_does_not_match_its_digest_or_size_is_never_seen(store, wrong, tmp_path):
    with pytest.raises(InvalidInputError):
        await store.ingest(chunks(wrong), described(b"data"))
    with pytest.raises(InvalidInputError):
        await store.ingest(chunks(wrong), described(b"data", size=-1))
    assert await store.digests() == []
    assert list((tmp_path / "content/ingest").iterdir()) == []


async def test_a_stream_without_end_is_cut_at_the_size_it_should_have(store):
    async def endless():
        while True:
            yield bytes(65_536)

    with pytest.raises(InvalidInputError, match="larger than the 100000 bytes"):
        await asyncio.wait_for(store.ingest(endless(), described(b"x", size=100_000)), 10)


async def test_a_sender_that_dies_leaves_nothing(store, tmp_path):
    async def dying():
        yield b"da"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await store.ingest(dying(), described(b"data"))
    assert list((tmp_path / "content/ingest").iterdir()) == []


async def test_a_digest_of_the_other_algorithm_is_verified_too(store):
    digest = f"sha512:{hashlib.sha512(b'data').hexdigest()}"
    wanted = Descriptor(media_type="x/y", digest=digest, size=4)
    assert (await store.ingest(chunks(b"data"), wanted)).digest == digest
    assert store.path(digest).read_bytes() == b"data"
    with pytest.raises(InvalidInputError):
        await store.ingest(chunks(b"dota"), wanted)


async def test_storing_twice_at_once_is_success(store):
    found = await asyncio.gather(*(store.ingest(chunks(b"data")) for _ in range(8)))
    assert {item.digest for item in found} == {digest_of(b"data")}


async def test_deleting_is_success_whether_it_is_there_or_not(store):
    found = await store.put(b"data", "x/y")
    await store.delete(found.digest)
    await store.delete(found.digest)
    with pytest.raises(NotFoundError):
        store.path(found.digest)


@pytest.mark.parametrize("name", ["sha256:../../etc/passwd", "sha256:" + "A" * 64, "", "md5:x"])
async def test_a_name_that_is_no_digest_is_refused(store, name):
    assert not store.has(name)
    with pytest.raises(InvalidInputError):
        store.path(name)


async def test_leftovers_of_a_crash_are_removed_at_the_start(store, tmp_path):
    store.new_file().write_bytes(b"half")
    await store.recover()
    assert list((tmp_path / "content/ingest").iterdir()) == []


async def test_a_compressed_tar_is_kept_plain_under_its_diff_id(store):
    plain = tar_of({"a": b"x" * 100_000})
    found = await store.ingest_tar(chunks(gzip.compress(plain)))
    assert found == Descriptor(media_type=OCI_LAYER, digest=digest_of(plain), size=len(plain))


async def test_what_is_no_tar_is_refused(store):
    with pytest.raises(InvalidInputError, match="not a tar"):
        await store.ingest_tar(chunks(b"no tar at all" * 100))
    assert await store.digests() == []


async def test_compressing_gives_the_same_bytes_every_time(store):
    plain = tar_of({"a": b"x" * 100_000})
    stored = await store.ingest_tar(chunks(plain))
    first = await store.compress(stored.digest)
    assert first == await store.compress(stored.digest)
    assert first.media_type == OCI_LAYER_GZIP
    assert gzip.decompress(store.path(first.digest).read_bytes()) == plain


async def test_an_archive_comes_apart_into_blobs_links_included(store):
    layer = tar_of({"f": b"x"})
    data = tar_of({"a/layer.tar": layer, "b/layer.tar": "../a/layer.tar", "manifest.json": b"[]"})
    files = await store.ingest_archive(chunks(data))
    assert set(files) == {"a/layer.tar", "b/layer.tar", "manifest.json"}
    assert files["b/layer.tar"] == files["a/layer.tar"]
    assert files["a/layer.tar"].media_type == OCI_LAYER
    assert await store.read(files["manifest.json"].digest) == b"[]"


async def test_an_archive_that_stops_short_is_refused(store):
    data = tar_of({"a": b"x" * 5000})
    with pytest.raises(InvalidInputError):
        await store.ingest_archive(chunks(data[:3000]))


async def test_archives_are_tars_of_blobs_and_bytes(store):
    stored = await store.put(b"blob" * 1000, "x/y")
    data = await collected(store.archive([("d/blob", stored.digest), ("text", b"hello")], 1000))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["d", "d/blob", "text"]
        assert tar.extractfile("d/blob").read() == b"blob" * 1000
        assert tar.getmember("text").mtime == 1000


async def test_a_cancelled_ingest_has_stopped_writing_when_it_ends(store, tmp_path):
    async def slow():
        while True:
            yield bytes(1 << 20)
            await asyncio.sleep(0)

    for pause in (0.0, 0.001, 0.003, 0.01, 0.02):
        task = asyncio.create_task(store.ingest(slow()))
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list((tmp_path / "content/ingest").iterdir()) == []
        # A thread still at work would write into whatever file got the descriptor next.
        with open(tmp_path / "next", "wb") as file:
            file.write(b"mine")
            file.flush()
            await asyncio.sleep(0.02)
        assert (tmp_path / "next").read_bytes() == b"mine"
