"""Connection tracking: forgetting the flows to a port (ctnetlink, <linux/netfilter/nfnetlink_conntrack.h>)."""

import socket
import struct

_NETLINK_NETFILTER = 12
_DELETE = (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK = 0x1 | 0x4
_NESTED = 0x8000
_TUPLE_ORIG, _FILTER, _TUPLE_PROTO = 1, 25, 2
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM, …_DST_PORT


def forget_udp_flows(port: int) -> bool:
    """Delete the tracked UDP flows that were sent to the port; False when the kernel refused.

    A flow that stays is not translated anew: a client that goes on sending would reach the former container, or
    the host. The kernel filters (Linux 5.8); an older one refuses, and no other flow of the host is touched.
    """
    done = True
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.settimeout(5)
        for number, family in enumerate((socket.AF_INET, socket.AF_INET6), start=1):
            netlink.send(_request(family, port, number))
            done = struct.unpack_from("=i", netlink.recv(4096), 16)[0] == 0 and done
    return done


def _request(family: int, port: int, sequence: int) -> bytes:
    protocol = _attribute(_PROTO_NUM, struct.pack("=B", socket.IPPROTO_UDP))
    protocol += _attribute(_PROTO_DST_PORT, struct.pack(">H", port))
    matched = _attribute(1, struct.pack("=I", _BY_PROTOCOL_AND_PORT))
    matched += _attribute(2, struct.pack("=I", 0))
    body = struct.pack("=BBH", family, 0, 0)
    body += _attribute(_NESTED | _TUPLE_ORIG, _attribute(_NESTED | _TUPLE_PROTO, protocol))
    body += _attribute(_NESTED | _FILTER, matched)
    return struct.pack("=IHHII", 16 + len(body), _DELETE, _REQUEST_ACK, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)
