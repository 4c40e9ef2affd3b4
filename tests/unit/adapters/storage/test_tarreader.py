"""The tar reader against Python's and GNU's writers, and against damage."""

import bz2
import contextlib
import gzip
import io
import lzma
import random
import subprocess
import tarfile
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from stackctl.adapters.storage.tarreader import TarStream, decompressed
from stackctl.adapters.storage.tarwriter import Owner, end, header, padding
from stackctl.errors import InvalidInputError


def read_all(data: bytes):
    stream = TarStream(io.BytesIO(data))
    found = []
    for entry in stream:
        body = b""
        while chunk := stream.read():
            body += chunk
        found.append((entry, body))
    return found


def written(entries, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=12).map("/".join)


@settings(deadline=None, max_examples=60)
@given(PATHS, st.binary(max_size=2000), st.integers(0, 2**31), st.integers(0, 2**40))
def test_what_tarfile_writes_is_read_back(name, data, uid, mtime):
    info = tarfile.TarInfo(name)
    info.size, info.uid, info.mtime, info.mode = len(data), uid, mtime, 0o4751
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        [(entry, body)] = read_all(written([(info, data)], form))
        assert entry.name == name.encode()
        assert (body, entry.uid, entry.mtime, entry.mode) == (data, uid, mtime * 10**9, 0o4751)


@settings(deadline=None, max_examples=60)
@given(PATHS, st.binary(max_size=2000), st.integers(0, 2**31), st.integers(-(2**40), 2**40), PATHS)
def test_what_we_write_is_read_by_us_and_by_tarfile(name, data, uid, mtime, link):
    xattrs = {b"user.k": b"a\nb=c"}
    raw = header(name.encode(), b"0", Owner(uid=uid, mtime=mtime), size=len(data), xattrs=xattrs)
    raw += data + padding(len(data)) + header(b"l", b"2", link=link.encode()) + end()
    (entry, body), (symlink, _) = read_all(raw)
    assert (entry.name, body, entry.uid, entry.xattrs) == (name.encode(), data, uid, xattrs)
    assert entry.mtime == mtime * 10**9
    assert symlink.link == link.encode()
    with tarfile.open(fileobj=io.BytesIO(raw), encoding="utf-8") as tar:
        first, second = tar.getmembers()
        assert (first.name, first.uid) == (name, uid)
        assert second.linkname == link


@pytest.mark.parametrize(
    "squeeze",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress, bytes],
)
def test_every_compression_is_told_by_its_first_bytes(squeeze):
    info = tarfile.TarInfo("a")
    info.size = 3 << 20
    plain = written([(info, bytes(range(256)) * 12288)])
    reader = decompressed(io.BytesIO(squeeze(plain)))
    parts = []
    while part := reader.read(1 << 20):
        parts.append(part)
    assert b"".join(parts) == plain


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files_of_gnu_tar_keep_their_holes(tmp_path, form):
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        for at in range(0, 40 << 20, 4 << 20):
            file.seek(at)
            file.write(b"x" * 4096)
        file.truncate(50 << 20)
    flags = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    raw = subprocess.run(
        ["tar", "-C", str(tmp_path), "-cS", *flags, "sparse"], capture_output=True, check=True
    ).stdout
    assert len(raw) < 1 << 20
    [(entry, body)] = read_all(raw)
    assert (entry.name, entry.real_size) == (b"sparse", 50 << 20)
    whole = bytearray(entry.real_size)
    at = 0
    for offset, length in entry.sparse:
        whole[offset : offset + length] = body[at : at + length]
        at += length
    assert bytes(whole) == sparse.read_bytes()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=3000))
def test_noise_is_refused_and_never_worse(data):
    try:
        read_all(data)
    except InvalidInputError:
        pass


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_tar_is_read_or_refused(data):
    info = tarfile.TarInfo("dir/" + "n" * 120)
    info.size, info.pax_headers = 600, {"SCHILY.xattr.user.a": "b"}
    raw = bytearray(written([(info, b"z" * 600)]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut])):
        try:
            read_all(damaged)
        except InvalidInputError:
            pass


def test_a_tar_cut_in_a_file_is_refused():
    info = tarfile.TarInfo("a")
    info.size = 5000
    with pytest.raises(InvalidInputError, match="ends in the middle"):
        read_all(written([(info, b"z" * 5000)])[:3000])


def test_a_cut_gzip_is_refused():
    info = tarfile.TarInfo("a")
    info.size = 50_000
    squeezed = gzip.compress(written([(info, b"z" * 50_000)]))
    with pytest.raises(InvalidInputError, match="decompress"):
        list(TarStream(decompressed(io.BytesIO(squeezed[:-20]))))


@pytest.mark.parametrize(
    "squeeze", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_damaged_compressed_data_is_refused_whatever_the_library_says(squeeze, at):
    info = tarfile.TarInfo("a")
    data = random.Random(1).randbytes(50_000)
    info.size = len(data)
    squeezed = bytearray(squeeze(written([(info, data)])))
    middle = int(len(squeezed) * at)
    squeezed[middle : middle + 64] = bytes(64)

    def everything():
        stream = TarStream(decompressed(io.BytesIO(bytes(squeezed))))
        for _ in stream:
            while stream.read():
                pass
        stream.drain()

    with contextlib.suppress(InvalidInputError):
        everything()


def test_xz_streams_may_follow_each_other_and_take_no_more_memory_than_allowed():
    info = tarfile.TarInfo("a")
    plain = written([(info, b"")])
    two = lzma.compress(plain[:700]) + bytes(8) + lzma.compress(plain[700:])
    assert [entry.name for entry in TarStream(decompressed(io.BytesIO(two)))] == [b"a"]
    # Only the header asks for the memory, so that making it here does not.
    head = bytearray(
        lzma.compress(plain, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    )
    at = head.index(b"\x21\x01", 12)
    head[at + 2] = 37  # 1.5 GiB
    size = (head[12] + 1) * 4
    head[12 + size - 4 : 12 + size] = zlib.crc32(bytes(head[12 : 12 + size - 4])).to_bytes(
        4, "little"
    )
    with pytest.raises(InvalidInputError, match="decompress"):
        list(TarStream(decompressed(io.BytesIO(bytes(head)))))


def test_a_bomb_ends_at_the_bound():
    squeezed = gzip.compress(bytes(64 << 20))
    stream = TarStream(decompressed(io.BytesIO(squeezed)), max_bytes=1 << 20)
    assert list(stream) == []
    with pytest.raises(InvalidInputError, match="larger than"):
        stream.drain()


def test_too_many_entries_are_refused():
    infos = [(tarfile.TarInfo(str(number)), b"") for number in range(20)]
    stream = TarStream(io.BytesIO(written(infos)), max_entries=10)
    with pytest.raises(InvalidInputError, match="more than 10 entries"):
        list(stream)


@pytest.mark.parametrize(
    "field", [slice(124, 136), slice(108, 116), slice(100, 108), slice(136, 148)]
)
def test_impossible_numbers_are_refused_or_bounded(field):
    raw = bytearray(header(b"a", b"0") + end())
    raw[field] = b"\xff" + b"\xff" * (field.stop - field.start - 1)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    try:
        [(entry, _)] = read_all(bytes(raw))
    except InvalidInputError:
        return
    assert 0 <= entry.uid < 1 << 32
    assert 0 <= entry.size < 1 << 50
