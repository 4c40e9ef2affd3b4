"""Versions, credentials, path stats and detach keys."""

import base64
import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.api.auth import AuthConfig, decode_auth, decode_config, encode_auth
from stackctl.api.detach import DEFAULT_KEYS, Detector, parse_keys
from stackctl.api.pathstat import decode_stat, encode_stat, go_mode, unix_mode
from stackctl.api.versions import MAXIMUM, split_path
from stackctl.errors import InvalidInputError


def test_a_path_without_version_means_the_newest():
    assert split_path("/containers/json") == (MAXIMUM, "/containers/json")
    assert split_path("/v1.44/containers/json") == ((1, 44), "/containers/json")
    assert split_path("/v1.24") == ((1, 24), "/")
    assert split_path("/version") == (MAXIMUM, "/version")


@pytest.mark.parametrize(
    ("path", "words"),
    [("/v1.12/info", "too old"), ("/v1.99/info", "too new"), ("/v2.0/info", "too new")],
)
def test_a_version_that_is_not_served_is_refused_in_dockers_words(path, words):
    with pytest.raises(InvalidInputError, match=words):
        split_path(path)


def test_credentials_survive_the_header():
    auth = AuthConfig(username="u", password="p:~ÿ", server_address="r.example")
    assert decode_auth(encode_auth(auth)) == auth


def test_the_anonymous_header_holds_nothing():
    assert decode_auth("e30=") is None
    assert decode_auth("") is None


def test_the_combined_field_is_split():
    text = json.dumps({"auth": base64.b64encode(b"me:se:cret").decode()})
    found = decode_auth(base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))
    assert found == AuthConfig(username="me", password="se:cret")


def test_credentials_do_not_show_in_a_representation():
    assert "geheim" not in repr(AuthConfig(username="u", password="geheim"))


@pytest.mark.parametrize(
    "header", ["%%%", base64.b64encode(b"[]").decode(), base64.b64encode(b"{").decode()]
)
def test_a_broken_header_is_refused(header):
    with pytest.raises(InvalidInputError, match="X-Registry-Auth"):
        decode_auth(header)


def test_build_credentials_come_by_registry():
    text = json.dumps({"r.example": {"username": "u", "password": "p"}, "empty": {}})
    found = decode_config(base64.urlsafe_b64encode(text.encode()).decode())
    assert found == {"r.example": AuthConfig(username="u", password="p")}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFDIR | 0o755, 1 << 31 | 0o755),
        (stat.S_IFLNK | 0o777, 1 << 27 | 0o777),
        (stat.S_IFREG | stat.S_ISUID | 0o755, 1 << 23 | 0o755),
        (stat.S_IFDIR | stat.S_ISVTX | 0o777, 1 << 31 | 1 << 20 | 0o777),
        (stat.S_IFCHR | 0o666, 1 << 26 | 1 << 21 | 0o666),
    ],
)
def test_modes_are_in_gos_layout_and_back(mode, expected):
    assert go_mode(mode) == expected
    assert unix_mode(expected) == mode


def test_a_path_stat_survives_the_header():
    header = encode_stat(
        name="x", size=5, st_mode=stat.S_IFDIR | 0o755, mtime="2006-01-01T00:00:00Z", link_target=""
    )
    reader = decode_stat(header)
    assert (reader.text("name"), reader.integer("size")) == ("x", 5)
    assert unix_mode(reader.integer("mode")) == stat.S_IFDIR | 0o755


def test_detach_keys_read_as_dockers():
    assert parse_keys("") == DEFAULT_KEYS
    assert parse_keys("ctrl-a,d") == b"\x01d"
    assert parse_keys("ctrl-@,ctrl-]") == b"\x00\x1d"
    with pytest.raises(InvalidInputError, match="detachKeys"):
        parse_keys("ctrl-ä")


@given(st.lists(st.binary(max_size=6).filter(lambda part: b"\x10" not in part), max_size=5))
def test_what_is_typed_passes_unchanged(parts):
    detector = Detector(DEFAULT_KEYS)
    assert b"".join(detector.feed(part) for part in parts) == b"".join(parts)
    assert not detector.detached


def test_the_sequence_is_found_however_it_is_cut():
    detector = Detector(DEFAULT_KEYS)
    assert detector.feed(b"ab\x10") == b"ab"
    assert not detector.detached
    assert detector.feed(b"\x11") == b""
    assert detector.detached


def test_half_a_sequence_is_given_back_when_it_goes_on_otherwise():
    detector = Detector(DEFAULT_KEYS)
    assert detector.feed(b"\x10") + detector.feed(b"x") == b"\x10x"
