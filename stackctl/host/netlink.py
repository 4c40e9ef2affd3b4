"""rtnetlink: links, addresses and routes, without a library and without an `ip` process.

A message is made by a pure function (``bridge``, ``veth``, ``address`` …) and sent with others in one batch by
``Netlink.run``, which reads every acknowledgement. Formats are those of rtnetlink(7), <linux/if_link.h> and
<linux/if_addr.h>. A ``Netlink`` stays in the network namespace of the thread that opened it.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from stackctl.errors import HostError

_NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK = 10, 11
_REQUEST, _ACK, _DUMP, _CREATE, _EXCL, _REPLACE = 0x1, 0x4, 0x300, 0x400, 0x200, 0x100
_ACK_TLVS = 0x200
_ERROR, _DONE = 2, 3
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NESTED = 0x8000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_PROTINFO = 20, 28, 12
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_BRPORT_MODE = 4
_IFF_UP = 1
_RTA_DST, _RTA_GATEWAY, _RTA_OIF, _RTA_PRIORITY, _RTA_TABLE = 1, 5, 4, 6, 15
_FLAG_NODAD = 0x02
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")


class Message:
    """One request: its type, flags, body, what it does in words, and the errors that mean "already so"."""

    __slots__ = ("body", "flags", "ignored", "kind", "what")

    def __init__(
        self, kind: int, flags: int, body: bytes, what: str, ignored: tuple[int, ...] = ()
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what
        self.ignored = ignored


class Link:
    """One interface as the kernel lists it."""

    __slots__ = ("alias", "index", "kind", "mac", "master", "name", "up")

    def __init__(self, index: int, flags: int, attributes: dict[int, bytes]) -> None:
        self.index = index
        self.up = bool(flags & _IFF_UP)
        self.name = _text(attributes.get(_IFLA_IFNAME, b""))
        self.alias = _text(attributes.get(_IFLA_IFALIAS, b""))
        self.mac = attributes.get(_IFLA_ADDRESS, b"").hex(":")
        master = attributes.get(_IFLA_MASTER)
        self.master = struct.unpack("=I", master)[0] if master else 0
        info = dict(_attributes(attributes.get(_IFLA_LINKINFO, b"")))
        self.kind = _text(info.get(_INFO_KIND, b""))


def bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """Make a bridge; one that exists is success."""
    body = _ifinfo() + _attribute(_IFLA_IFNAME, _name(name))
    if mac:
        body += _attribute(_IFLA_ADDRESS, _mac(mac))
    if mtu:
        body += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
    body += _nested(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"bridge"))
    return Message(_NEWLINK, _CREATE | _EXCL, body, f"making bridge {name}", (errno.EEXIST,))


def veth(
    name: str,
    *,
    peer: str,
    peer_netns: int,
    peer_mac: str = "",
    peer_index: int = 0,
    master: int = 0,
    mtu: int = 0,
) -> Message:
    """Make a veth pair, its peer directly inside the namespace of the descriptor ``peer_netns``.

    The near end joins bridge ``master`` and is up. The peer must not be up in this message (ENOTCONN).
    """
    inner = _ifinfo(index=peer_index) + _attribute(_IFLA_IFNAME, _name(peer))
    inner += _attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_netns))
    outer = _ifinfo(flags=_IFF_UP, change=_IFF_UP) + _attribute(_IFLA_IFNAME, _name(name))
    if peer_mac:
        inner += _attribute(_IFLA_ADDRESS, _mac(peer_mac))
    if mtu:
        inner += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        outer += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
    if master:
        outer += _attribute(_IFLA_MASTER, struct.pack("=I", master))
    pair = _nested(_INFO_DATA, _attribute(_VETH_PEER, inner))
    outer += _nested(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"veth") + pair)
    return Message(_NEWLINK, _CREATE | _EXCL, outer, f"making link {name}")


def link_up(*, name: str = "", index: int = 0) -> Message:
    body = _ifinfo(index=index, flags=_IFF_UP, change=_IFF_UP)
    if name:
        body += _attribute(_IFLA_IFNAME, _name(name))
    return Message(_NEWLINK, 0, body, f"setting {name or index} up")


def link_alias(name: str, alias: str) -> Message:
    """Label a link; the label is how links are known to be of one engine."""
    body = _ifinfo() + _attribute(_IFLA_IFNAME, _name(name))
    body += _attribute(_IFLA_IFALIAS, alias.encode())
    return Message(_SETLINK, 0, body, f"labelling {name}")


def hairpin(name: str) -> Message:
    """Let a bridge port send a frame back where it came from.

    A container reaches its own published port this way.
    """
    body = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, _index(name), 0, 0)
    body += _nested(_IFLA_PROTINFO, _attribute(_BRPORT_MODE, b"\x01"))
    return Message(_SETLINK, 0, body, f"setting hairpin mode on {name}")


def link_delete(name: str = "", *, index: int = 0) -> Message:
    """Remove an interface by its name or index; success when it is gone."""
    body = _ifinfo(index=index) + (_attribute(_IFLA_IFNAME, _name(name)) if name else b"")
    what = f"removing link {name or index}"
    return Message(_DELLINK, 0, body, what, (errno.ENODEV, errno.ENOENT))


def address(text: str, prefix: int, index: int) -> Message:
    """Give an interface an address; there already is success. No duplicate address detection for IPv6."""
    family, packed = _packed(text)
    flags = _FLAG_NODAD if family == socket.AF_INET6 else 0
    body = struct.pack("=BBBBI", family, prefix, flags, 0, index)
    body += _attribute(1, packed) + _attribute(2, packed)
    if family == socket.AF_INET and prefix < 31:
        mask = (1 << (32 - prefix)) - 1
        broadcast = int.from_bytes(packed, "big") | mask
        body += _attribute(4, broadcast.to_bytes(4, "big"))
    return Message(
        _NEWADDR, _CREATE | _EXCL, body, f"adding address {text}/{prefix}", (errno.EEXIST,)
    )


def default_route(gateway: str, index: int) -> Message:
    """Make the gateway the way out through the interface; replaces a former default route of the family."""
    family, packed = _packed(gateway)
    # rtm: family, dst_len, src_len, tos, table main, protocol boot, scope universe, type unicast, flags
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 3, 0, 1, 0)
    body += _attribute(_RTA_GATEWAY, packed) + _attribute(_RTA_OIF, struct.pack("=I", index))
    return Message(_NEWROUTE, _CREATE | _REPLACE, body, f"routing by {gateway}", (errno.EEXIST,))


def default_route_delete(family: int) -> Message:
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 0, 255, 1, 0)
    return Message(
        _DELROUTE,
        0,
        body,
        "removing the default route",
        (errno.ESRCH, errno.ENOENT, errno.EAFNOSUPPORT),
    )


class Netlink:
    """A netlink socket in the network namespace of the thread that opens it; not shared between threads."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE
            )
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        except OSError as error:
            raise HostError(f"opening netlink: {error.strerror}", errno=error.errno or 0) from error
        self._sequence = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def run(self, messages: Sequence[Message]) -> None:
        """Send the batch and read every answer.

        The kernel goes on after a refused message. Raises HostError (with errno) for the first that was refused
        for a reason that the message does not count as success.
        """
        pending: dict[int, Message] = {}
        batch = b""
        for message in messages:
            self._sequence += 1
            pending[self._sequence] = message
            batch += _HEADER.pack(
                _HEADER.size + len(message.body), message.kind,
                _REQUEST | _ACK | message.flags, self._sequence, 0,
            ) + message.body  # fmt: skip
        if not batch:
            return
        self._socket.send(batch)
        failure: HostError | None = None
        while pending:
            for kind, flags, sequence, payload in _messages(self._socket.recv(65536)):
                sent = pending.pop(sequence, None) if kind == _ERROR else None
                if sent is None:
                    continue
                number = -struct.unpack_from("=i", payload)[0]
                if number and number not in sent.ignored and failure is None:
                    failure = _failure(sent.what, number, flags, payload)
        if failure:
            raise failure

    def links(self, prefix: str = "") -> list[Link]:
        """Return the interfaces whose names start with the prefix."""
        found = []
        for payload in self._dump(_GETLINK, _ifinfo()):
            _, _, index, flags, _ = _IFINFO.unpack_from(payload)
            link = Link(index, flags, dict(_attributes(payload[_IFINFO.size :])))
            if link.name.startswith(prefix):
                found.append(link)
        return found

    def routes(self, family: int) -> list[tuple[str, int]]:
        """Return (subnet as CIDR, interface index) of every unicast route of the main table, default excluded."""
        found = []
        for payload in self._dump(_GETROUTE, struct.pack("=BBBBBBBBI", family, *[0] * 8)):
            length, table, kind = payload[1], payload[4], payload[7]
            attributes = dict(_attributes(payload[12:]))
            destination = attributes.get(_RTA_DST)
            if destination is None or length == 0 or kind != 1 or table != 254:
                continue
            index = attributes.get(_RTA_OIF, b"\0\0\0\0")
            text = socket.inet_ntop(family, destination)
            found.append((f"{text}/{length}", int(struct.unpack("=I", index)[0])))
        return found

    def _dump(self, kind: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            for answer, flags, sequence, payload in _messages(self._socket.recv(1 << 18)):
                if sequence != self._sequence:
                    continue
                if answer == _ERROR:
                    number = -struct.unpack_from("=i", payload)[0]
                    raise _failure("listing", number, flags, payload)
                if answer == _DONE:
                    return
                yield payload


def index_of(name: str) -> int:
    """Return the index of an interface in this thread's namespace, 0 when there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def is_index(index: int) -> bool:
    """Tell whether an interface in this thread's namespace has the index."""
    try:
        return bool(socket.if_indextoname(index))
    except OSError:
        return False


def write_sysctl(key: str, value: str) -> None:
    """Write /proc/sys/KEY (slashes or dots; slashes where a name has dots) in this thread's network namespace.

    Raises HostError when there is no such key or it cannot be written.
    """
    path = f"/proc/sys/{key if '/' in key else key.replace('.', '/')}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HostError(
            f"setting sysctl {key} to {value}: {error.strerror}", errno=error.errno or 0
        ) from error


def read_sysctl(key: str) -> str:
    """Return /proc/sys/KEY's text, "" when there is no such key."""
    try:
        with open(f"/proc/sys/{key}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _ifinfo(*, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _failure(what: str, number: int, flags: int, payload: bytes) -> HostError:
    reason = os.strerror(number)
    if flags & _ACK_TLVS:
        # With NETLINK_CAP_ACK the answer holds the request's header only, then the attributes; 1 is the text.
        detail = dict(_attributes(payload[4 + _HEADER.size :])).get(1)
        if detail:
            reason += f" ({_text(detail)})"
    return HostError(f"{what}: {reason}", errno=number)


def _name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) < 16:
        raise HostError(f"interface name {name!r} must have 1 to 15 characters", errno=errno.EINVAL)
    return encoded + b"\0"


def _index(name: str) -> int:
    index = index_of(name)
    if not index:
        raise HostError(f"there is no interface {name}", errno=errno.ENODEV)
    return index


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", "").replace("-", ""))


def _packed(text: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return family, socket.inet_pton(family, text)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
