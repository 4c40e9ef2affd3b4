import errno
import struct

import pytest

from stackctl.errors import HostError
from stackctl.host import netlink


def test_an_interface_name_must_fit_the_kernel():
    with pytest.raises(HostError, match="1 to 15 characters") as raised:
        netlink.bridge("a-name-of-sixteen")
    assert raised.value.errno == errno.EINVAL


def test_attributes_are_padded_to_four_bytes_and_read_back():
    message = netlink.bridge("br0", mac="02:00:00:00:00:01", mtu=1400)
    found = dict(netlink._attributes(message.body[16:]))
    assert found[3] == b"br0\0"
    assert found[1] == bytes.fromhex("020000000001")
    assert struct.unpack("=I", found[4]) == (1400,)
    assert len(message.body) % 4 == 0


def test_an_ipv4_address_comes_with_its_broadcast_address():
    found = dict(netlink._attributes(netlink.address("10.201.0.2", 24, 2).body[8:]))
    assert found[4] == bytes((10, 201, 0, 255))


def test_an_ipv6_address_is_not_probed_for_duplicates():
    family, prefix, flags, _, index = struct.unpack_from(
        "=BBBBI", netlink.address("fd00::2", 64, 5).body
    )
    assert (family, prefix, flags, index) == (10, 64, 2, 5)


def test_cut_answers_end_the_reading():
    assert list(netlink._attributes(b"\x08\0\x01\0ab")) == [(1, b"ab")]
    assert list(netlink._messages(b"\0" * 40)) == []
