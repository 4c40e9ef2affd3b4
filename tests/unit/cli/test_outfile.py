"""Files that commands write for their user."""

import contextlib
import os
import stat
import threading

import pytest

from stackctl.builder.build import _write_tar
from stackctl.cli import outfile
from stackctl.errors import InvalidInputError


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    place = tmp_path / "out"
    place.write_text("before")
    with outfile.whole(str(place)) as file:
        file.write(b"after")
        file.flush()
        assert place.read_text() == "before"
    assert place.read_text() == "after"
    assert os.listdir(tmp_path) == ["out"]


def test_a_file_that_fails_halfway_leaves_what_was_there(tmp_path):
    place = tmp_path / "out"
    place.write_text("before")
    with contextlib.suppress(RuntimeError), outfile.whole(str(place)) as file:
        file.write(b"half")
        raise RuntimeError
    assert place.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]


def test_a_link_is_followed_and_the_mode_is_kept_to(tmp_path):
    (tmp_path / "link").symlink_to("real")
    with outfile.whole(str(tmp_path / "link"), mode=0o600) as file:
        file.write(b"text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"text"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_said(tmp_path):
    said = pytest.raises(InvalidInputError, match=r"cannot write .*: No such file")
    with said, outfile.whole(str(tmp_path / "no" / "out")):
        pass


def listening(pipe):
    """Read a pipe to its end on a thread; the list gets what came."""
    got = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    thread.start()
    return thread, got


def test_a_device_or_pipe_stays_what_it_is(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, got = listening(pipe)
    with outfile.whole(str(pipe)) as file:
        file.write(b"archive")
    thread.join()
    assert got == [b"archive"]
    assert pipe.is_fifo()


async def test_a_build_that_goes_to_a_device_or_pipe_leaves_it_there(tmp_path):
    async def chunks():
        yield b"arch"
        yield b"ive"

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, got = listening(pipe)
    await _write_tar(pipe, chunks())
    thread.join()
    assert got == [b"archive"]
    assert pipe.is_fifo()
