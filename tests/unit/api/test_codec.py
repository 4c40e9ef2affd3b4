"""Reading request bodies."""

import pytest

from stackctl.api.codec import Reader, encode_object, parse_object
from stackctl.errors import InvalidInputError


def test_an_empty_body_reads_as_an_empty_object():
    assert parse_object(b" \n") == {}


@pytest.mark.parametrize("data", [b"{", b"[]", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_object_is_refused(data):
    with pytest.raises(InvalidInputError):
        parse_object(data)


def test_an_error_names_the_field_by_its_whole_path():
    body = Reader({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": {}}]}}})
    entry = body.child("HostConfig").child("PortBindings").children("80/tcp")[0]
    with pytest.raises(
        InvalidInputError,
        match=r"HostConfig\.PortBindings\.80/tcp\[0\]\.HostPort: expected a string, got an object",
    ):
        entry.text("HostPort")


def test_null_reads_as_absent():
    body = Reader({"Env": None, "Tty": None, "Memory": None, "Labels": None, "HostConfig": None})
    assert body.texts("Env") == ()
    assert body.boolean("Tty", default=True)
    assert body.integer("Memory", 7) == 7
    assert body.text_map("Labels") == {}
    assert not body.child("HostConfig").has("Binds")


def test_field_names_match_in_any_case():
    assert Reader({"hostconfig": {"memory": 5}}).child("HostConfig").integer("Memory") == 5


def test_a_command_may_be_one_string():
    assert Reader({"Cmd": "sh"}).words("Cmd") == ("sh",)
    assert Reader({"Cmd": []}).words("Cmd") == ()
    assert Reader({}).words("Cmd") is None


@pytest.mark.parametrize("value", [True, 1.5, "1", [1], 2**63])
def test_an_integer_is_an_integer(value):
    with pytest.raises(InvalidInputError, match="Memory"):
        Reader({"Memory": value}).integer("Memory")


def test_whole_floats_pass_as_integers():
    assert Reader({"Memory": 3.0}).integer("Memory") == 3


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("text", 1),
        ("boolean", 1),
        ("texts", "x"),
        ("texts", [1]),
        ("text_map", []),
        ("text_map", {"a": 1}),
        ("child", []),
        ("children", {}),
        ("children", [1]),
    ],
)
def test_wrong_types_are_refused_by_name(method, value):
    with pytest.raises(InvalidInputError, match="Field"):
        getattr(Reader({"Field": value}), method)("Field")


def test_an_answer_ends_with_a_line_feed_and_survives_odd_text():
    assert encode_object({"a": "ü"}) == '{"a":"ü"}\n'.encode()
    assert encode_object("\ud800") == b'"?"\n'


def test_half_a_surrogate_pair_is_read_as_a_replacement_character():
    assert parse_object(b'{"a": "x\\ud800y", "b": "\\ud83d\\ude00"}') == {"a": "x�y", "b": "😀"}


def test_a_null_character_is_refused_and_its_spelling_is_not():
    with pytest.raises(InvalidInputError, match="null character"):
        parse_object(b'{"a": ["x\\u0000"]}')
    assert parse_object(b'{"a": "\\\\u0000"}') == {"a": "\\u0000"}
