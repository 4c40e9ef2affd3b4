"""Keys that leave a container."""

import pytest

from stackctl.cli.terminal import parse_keys
from stackctl.errors import InvalidInputError


def test_keys_are_read_as_docker_writes_them():
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-],ctrl-@") == b"a\x1d\x00"
    assert parse_keys("") == b""


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "ü"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(InvalidInputError):
        parse_keys(text)
