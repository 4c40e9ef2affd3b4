"""Connection tracking: forgetting the flows of an address (ctnetlink, <linux/netfilter/nfnetlink_conntrack.h>)."""

import socket
import struct

_NETLINK_NETFILTER = 12
_DELETE = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK = 0x1 | 0x4
_TUPLE_ORIG, _TUPLE_REPLY, _FILTER = 1, 2, 25
_NESTED = 0x8000


def forget_flows(address: str) -> bool:
    """Delete the tracked flows that begin at the address or were forwarded to it; False when the kernel refused.

    A flow that stays would send packets of a long-lived UDP client to an address that another container has by
    then. The kernel filters (Linux 5.8); before that this does nothing rather than flush every flow of the host.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(5)
        done = True
        for number, direction in enumerate((_TUPLE_ORIG, _TUPLE_REPLY), start=1):
            netlink.send(_request(family, packed, direction, number))
            answer = netlink.recv(4096)
            done = done and struct.unpack_from("=i", answer, 16)[0] == 0
    return done


def _request(family: int, packed: bytes, direction: int, sequence: int) -> bytes:
    source = 3 if family == socket.AF_INET6 else 1  # CTA_IP_V6_SRC, CTA_IP_V4_SRC
    addresses = _attribute(_NESTED | 1, _attribute(source, packed))  # CTA_TUPLE_IP
    only_source, nothing = struct.pack("=I", 1), struct.pack("=I", 0)  # CTA_FILTER_F_CTA_IP_SRC
    original, reply = (only_source, nothing) if direction == _TUPLE_ORIG else (nothing, only_source)
    body = struct.pack("=BBH", family, 0, 0) + _attribute(_NESTED | direction, addresses)
    body += _attribute(_NESTED | _FILTER, _attribute(1, original) + _attribute(2, reply))
    return struct.pack("=IHHII", 16 + len(body), _DELETE, _REQUEST_ACK, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)
