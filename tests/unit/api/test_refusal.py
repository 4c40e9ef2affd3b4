"""The gRPC server that has one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api.refusal import PREFACE, Refusal


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


SETTINGS, PING, HEADERS, GOAWAY = 4, 6, 1, 7
CALL = (
    PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, b"\x82") + frame(PING, 0, 0, b"12345678")
)


def test_every_call_is_answered_with_the_status_and_its_text():
    refusal = Refusal("no: 100 % of it")
    answer = refusal.feed(CALL)
    head = (
        b"\x88\x00\x0ccontent-type\x10application/grpc\x00\x0bgrpc-status\x0212"
        b"\x00\x0cgrpc-message\x11no: 100 %25 of it"
    )
    assert answer == (
        frame(SETTINGS, 0, 0)
        + frame(SETTINGS, 1, 0)
        + frame(HEADERS, 5, 1, head)
        + frame(PING, 1, 0, b"12345678")
    )
    assert refusal.feed(frame(HEADERS, 5, 3, b"\x82")) == frame(HEADERS, 5, 3, head)
    assert not refusal.over
    assert refusal.feed(frame(GOAWAY, 0, 0, bytes(8))) == b""
    assert refusal.over


@given(st.lists(st.integers(1, 40)))
def test_the_answer_is_the_same_however_the_bytes_come(cuts):
    refusal, out, at = Refusal("no"), b"", 0
    for cut in cuts:
        out += refusal.feed(CALL[at : at + cut])
        at += cut
    assert out + refusal.feed(CALL[at:]) == Refusal("no").feed(CALL)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", PREFACE + b"\xff\xff\xff" + bytes(6)])
def test_what_is_no_http_2_ends_the_connection(data):
    refusal = Refusal("no")
    refusal.feed(data)
    assert refusal.over


def test_a_long_text_has_its_length_in_several_bytes():
    text = "x" * 300
    answer = Refusal(text).feed(CALL)
    assert b"\x0cgrpc-message\x7f\xad\x01" + text.encode() in answer
