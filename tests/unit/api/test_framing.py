"""The multiplexed stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api.framing import Decoder, encode_frame, encode_frames
from stackctl.errors import InvalidInputError

FRAMES = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=50)), max_size=8)


@given(FRAMES, st.lists(st.integers(1, 40), min_size=1))
def test_any_cutting_decodes_alike(frames, cuts):
    data = b"".join(encode_frame(stream, payload) for stream, payload in frames)
    decoder, found, turn = Decoder(), [], 0
    while data:
        size = cuts[turn % len(cuts)]
        turn += 1
        found += decoder.feed(data[:size])
        data = data[size:]
    assert found == frames
    assert decoder.pending == 0


def test_the_header_is_dockers():
    assert encode_frame(2, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"


def test_half_a_frame_waits_for_the_rest():
    decoder = Decoder()
    assert list(decoder.feed(encode_frame(1, b"abc")[:10])) == []
    assert decoder.pending == 10
    assert list(decoder.feed(b"c")) == [(1, b"abc")]


@given(st.binary(min_size=8, max_size=64))
def test_noise_never_escapes_as_anything_but_invalid_input(data):
    try:
        list(Decoder().feed(data))
    except InvalidInputError:
        pass


def test_a_terminals_bytes_are_no_frames():
    with pytest.raises(InvalidInputError):
        list(Decoder().feed(b"hello world"))


def test_many_frames_are_the_frames_one_by_one():
    payloads = [b"", b"a", b"x" * 1023, b"y" * 1024, b"z" * 70_000]
    assert encode_frames(2, payloads) == b"".join(encode_frame(2, data) for data in payloads)
