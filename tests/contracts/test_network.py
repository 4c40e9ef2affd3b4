"""The promises of NetworkDriver and Keeper on a real kernel: namespaces, packets, names, ports."""

import asyncio
import contextlib
import hashlib
import ipaddress
import itertools
import json
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from stackctl.adapters.network.bridge import BridgeNetworks
from stackctl.adapters.network.keeper import KeeperClient
from stackctl.contracts.container import Endpoint, PortBinding
from stackctl.contracts.network import NetworkState, Zone
from stackctl.contracts.state import NetworkRecord, Subnet
from stackctl.errors import ConflictError, PortTakenError, UnsupportedError
from stackctl.host import namespaces, netlink
from stackctl.host.nftables import Nftables, nftables
from stackctl.paths import EnginePaths, engine_paths

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@dataclass
class Lab:
    paths: EnginePaths
    keeper: KeeperClient
    driver: BridgeNetworks
    servers: list["Server"]
    block: int
    """The second byte of its networks' addresses, 10.BLOCK.x.x: free on this machine, whatever engines run here."""

    def restarted(self) -> "Lab":
        """What a new daemon over the same run files would have."""
        keeper = KeeperClient(self.paths.keeper_socket, self.paths.run_root / "keeper.log")
        return Lab(self.paths, keeper, BridgeNetworks(self.paths, keeper), self.servers, self.block)

    def network(self, number: int, *, ipv6: bool = False, **fields) -> NetworkRecord:
        base = self.block
        subnets = [Subnet(subnet=f"10.{base}.{number}.0/24", gateway=f"10.{base}.{number}.1")]
        if ipv6:
            subnets.append(
                Subnet(subnet=f"fd5c:{base}:{number}::/64", gateway=f"fd5c:{base}:{number}::1")
            )
        return NetworkRecord(
            id=hashlib.sha256(f"{self.paths.run_root}{number}".encode()).hexdigest(),
            name=f"net{number}",
            created=0.0,
            bridge=f"{self.paths.bridge_prefix}b{number}",
            subnets=tuple(subnets),
            enable_ipv6=ipv6,
            **fields,
        )

    def endpoint(self, network: NetworkRecord, number: int) -> Endpoint:
        prefix = network.subnets[0].gateway.rpartition(".")[0]
        ipv6 = network.subnets[1].gateway if network.enable_ipv6 else ""
        return Endpoint(
            network_id=network.id,
            network_name=network.name,
            endpoint_id=hashlib.sha256(f"{network.id}{number}".encode()).hexdigest(),
            ipv4_address=f"{prefix}.{number}",
            ipv4_prefix=24,
            gateway=f"{prefix}.1",
            ipv6_address=f"{ipv6.removesuffix('1')}{number}" if ipv6 else "",
            ipv6_prefix=64 if ipv6 else 0,
            ipv6_gateway=ipv6,
            dns_names=(f"c{number}",),
        )

    async def container(self, name: str, network: NetworkRecord, number: int) -> Endpoint:
        """A sandbox on the network with an echo server on port 80, TCP and UDP."""
        await self.driver.create_sandbox(name)
        endpoint = self.endpoint(network, number)
        await self.driver.connect(name, network, endpoint, default_route=True)
        self.servers.append(Server(name, self.path(name)))
        return endpoint

    def path(self, name: str) -> str:
        return str(self.driver.sandbox_path(name))


class Server:
    """Answers "NAME PEER" on port 80 inside a namespace (or on the host), TCP and UDP, IPv4 and IPv6."""

    def __init__(self, name: str, path: str = "", *, port: int = 80, host: str = "::") -> None:
        self.name = name
        self.sockets = (
            namespaces.in_netns(path, lambda: self._open(host, port))
            if path
            else self._open(host, port)
        )
        for sock, serve in zip(self.sockets, (self._tcp, self._udp), strict=True):
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    def _open(self, host: str, port: int) -> list[socket.socket]:
        sockets = []
        with contextlib.ExitStack() as undo:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
                undo.callback(sock.close)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((host, port))
                sockets.append(sock)
            undo.pop_all()
        sockets[0].listen(64)
        return sockets

    def _tcp(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, peer = listener.accept()
                client.sendall(f"{self.name} {peer[0].removeprefix('::ffff:')}".encode())
                client.close()

    def _udp(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                _, peer = sock.recvfrom(512)
                if peer is None:  # shut down
                    return
                sock.sendto(f"{self.name} {peer[0].removeprefix('::ffff:')}".encode(), peer)

    def close(self) -> None:
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def tcp(host: str, port: int, path: str = "", *, timeout: float = 10.0) -> str:
    """What a server says to a TCP client on the host or in a namespace; "" when it cannot be reached."""

    def ask() -> str:
        try:
            with socket.create_connection((host, port), timeout) as sock:
                return sock.recv(200).decode()
        except OSError:
            return ""

    return namespaces.in_netns(path, ask) if path else ask()


def blocked(host: str, port: int, path: str = "") -> bool:
    return tcp(host, port, path, timeout=0.4) == ""


def udp(
    host: str, port: int, path: str = "", *, data: bytes = b"x", timeout: float = 10.0
) -> bytes:
    def ask() -> bytes:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            try:
                sock.connect((host, port))
                sock.send(data)
                return sock.recv(4096)
            except OSError:
                return b""

    return namespaces.in_netns(path, ask) if path else ask()


def query(name: str, kind: int = 1, *, identifier: int = 7) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return (
        struct.pack(">HHHHHH", identifier, 0x100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack(">HH", kind, 1)
    )


def resolve(lab: Lab, container: str, name: str, kind: int = 1) -> tuple[int, list[str]]:
    """The rcode and addresses that 127.0.0.11 gives inside a container; rcode -1 when nobody answers."""
    answer = udp("127.0.0.11", 53, lab.path(container), data=query(name, kind), timeout=2.0)
    return decode(answer, kind)


def decode(answer: bytes, kind: int) -> tuple[int, list[str]]:
    if not answer:
        return -1, []
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", answer)
    offset = answer.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        _, _, _, _, size = struct.unpack_from(">HHHIH", answer, offset)
        content = answer[offset + 12 : offset + 12 + size]
        found.append(socket.inet_ntop(socket.AF_INET6 if kind == 28 else socket.AF_INET, content))
        offset += 12 + size
    return flags & 15, found


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def free_block() -> int:
    with netlink.Netlink() as host:
        taken = [ipaddress.ip_network(subnet) for subnet, _ in host.routes(socket.AF_INET)]
    blocks = list(range(1, 200))  # engines take theirs above
    random.shuffle(blocks)
    return next(
        block
        for block in blocks
        if not any(ipaddress.ip_network(f"10.{block}.0.0/16").overlaps(one) for one in taken)
    )


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with laboratory(tmp_path / "run") as made:
        yield made


@contextlib.asynccontextmanager
async def laboratory(run_root: Path) -> AsyncIterator[Lab]:
    paths = engine_paths(
        {"STACKCTL_RUN_ROOT": str(run_root), "STACKCTL_DATA_ROOT": str(run_root / "data")}, uid=0
    )
    run_root.mkdir(parents=True)
    keeper = KeeperClient(paths.keeper_socket, run_root / "keeper.log")
    lab = Lab(paths, keeper, BridgeNetworks(paths, keeper), [], free_block())
    assert await keeper.start()
    await lab.driver.start()
    try:
        yield lab
    finally:
        for server in lab.servers:
            server.close()
        for name in await lab.driver.sandboxes():
            await lab.driver.unpublish(name)
            await lab.driver.remove_sandbox(name)
        for bridge in await lab.driver.networks():
            with netlink.Netlink() as host:
                host.run([netlink.link_delete(bridge)])
        await lab.driver.stop()
        await lab.keeper.stop()


@pytest.fixture
def lan(lab: Lab) -> Iterator[tuple[str, str]]:
    """Another host on a LAN: (path of its namespace, this host's address there)."""
    path = str(lab.paths.run_root / "lan")
    link = f"skl{lab.paths.engine_id}"
    number = int(lab.paths.engine_id, 16) % 250
    here, there = f"198.18.{number}.1", f"198.18.{number}.2"
    namespaces.make_netns(path)
    descriptor = os.open(path, os.O_RDONLY)
    with netlink.Netlink() as host:
        host.run([netlink.veth(link, peer="eth0", peer_index=2, peer_netns=descriptor)])
        host.run([netlink.address(here, 24, netlink.index_of(link))])
    os.close(descriptor)

    def configure() -> None:
        with netlink.Netlink() as own:
            own.run(
                [netlink.link_up(index=1), netlink.link_up(index=2), netlink.address(there, 24, 2)]
            )
            own.run([netlink.default_route(here, 2)])

    namespaces.in_netns(path, configure)
    server = Server("lan", path)
    yield path, here
    server.close()
    with netlink.Netlink() as host:
        host.run([netlink.link_delete(link)])
    namespaces.remove_netns(path)


async def test_published_ports_are_reached_from_everywhere(lab: Lab, lan: tuple[str, str]) -> None:
    outside, here = lan
    first, second = lab.network(0), lab.network(1)
    for network in (first, second):
        await lab.driver.create_network(network)
    web = await lab.container("web", first, 2)
    await lab.container("sibling", first, 3)
    await lab.container("other", second, 2)
    ports = await lab.driver.publish(
        "web", web, [PortBinding(container_port=80), PortBinding(container_port=80, protocol="udp")]
    )
    port = ports[0].host_port
    assert [(p.host_ip, p.host_port) for p in ports[:2]] == [("0.0.0.0", port), ("::", port)]
    gateway, other_gateway = web.gateway, second.subnets[0].gateway
    for host in ("127.0.0.1", "127.0.0.5", gateway, other_gateway, here, "::1"):
        assert tcp(host, port).startswith("web"), f"host to {host}"
    assert tcp(web.ipv4_address, 80).startswith("web")
    assert tcp(here, port, outside) == f"web {here.rpartition('.')[0]}.2", (
        "the LAN's address is seen"
    )
    for name in ("web", "sibling"):
        for host in (gateway, here, other_gateway):
            assert tcp(host, port, lab.path(name)).startswith("web"), f"{name} to {host}"
    assert tcp(web.ipv4_address, 80, lab.path("sibling")).startswith("web")
    for host in (gateway, other_gateway, here):
        assert tcp(host, port, lab.path("other")).startswith("web"), f"other bridge to {host}"
    datagram = ports[2].host_port
    for host in ("127.0.0.1", gateway, here, "::1"):
        assert udp(host, datagram).startswith(b"web"), f"UDP to {host}"
    assert udp(here, datagram, outside).startswith(b"web")
    assert udp(gateway, datagram, lab.path("web")).startswith(b"web")


async def test_networks_are_closed_to_one_another_and_to_the_outside(
    lab: Lab, lan: tuple[str, str]
) -> None:
    outside, here = lan
    there = f"{here.rpartition('.')[0]}.2"
    first, second, closed = lab.network(0), lab.network(1), lab.network(2, internal=True)
    for network in (first, second, closed):
        await lab.driver.create_network(network)
    web = await lab.container("web", first, 2)
    other = await lab.container("other", second, 2)
    shut = await lab.container("shut", closed, 2)
    await lab.container("shut2", closed, 3)
    assert tcp(there, 80, lab.path("web")) == f"lan {here}", "outgoing is masqueraded"
    assert blocked(other.ipv4_address, 80, lab.path("web"))
    assert blocked(web.ipv4_address, 80, lab.path("other"))
    assert blocked(there, 80, lab.path("shut"))
    assert blocked(web.ipv4_address, 80, lab.path("shut"))
    assert blocked(shut.ipv4_address, 80, lab.path("web"))
    assert blocked(web.ipv4_address, 80, outside)
    assert blocked(shut.ipv4_address, 80, outside)
    assert tcp(shut.ipv4_address, 80, lab.path("shut2")).startswith("shut ")
    assert tcp(shut.ipv4_address, 80).startswith("shut ")


async def test_a_port_published_on_loopback_is_for_the_host_alone(
    lab: Lab, lan: tuple[str, str]
) -> None:
    outside, here = lan
    network = lab.network(0)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    (port,) = await lab.driver.publish(
        "web", web, [PortBinding(container_port=80, host_ip="127.0.0.1")]
    )
    assert tcp("127.0.0.1", port.host_port).startswith("web")
    assert blocked(here, port.host_port)
    assert blocked(here, port.host_port, outside)
    assert blocked(web.gateway, port.host_port, lab.path("web"))

    def route_loopback() -> None:
        """What an attacker on the LAN does: 127.0.0.1 by way of this host."""
        netlink.write_sysctl("net/ipv4/conf/eth0/route_localnet", "1")
        with netlink.Netlink() as own:
            own.run([netlink.link_delete("nothing-here")])

    namespaces.in_netns(outside, route_loopback)
    assert not forged_syn_is_answered(outside, "127.0.0.1", port.host_port, here)


def forged_syn_is_answered(path: str, target: str, port: int, gateway: str) -> bool:
    """Send a hand-made SYN for the target by way of the gateway's hardware address; was there any answer?"""
    udp(gateway, 9, path, timeout=0.1)  # resolves the hardware address

    def shoot() -> bool:
        with open("/proc/thread-self/net/arp") as file:
            mac = next(row.split()[3] for row in file if row.startswith(f"{gateway} "))
        with netlink.Netlink() as host:
            own = next(link for link in host.links() if link.name == "eth0")
        with open("/proc/thread-self/net/fib_trie") as file:
            source = own_address(file.read(), gateway)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as sock:
            sock.bind(("eth0", 0x0800))
            sock.settimeout(0.5)
            frame = (
                bytes.fromhex(mac.replace(":", ""))
                + bytes.fromhex(own.mac.replace(":", ""))
                + b"\x08\x00"
            )
            sock.send(frame + syn(source, target, 40001, port))
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                try:
                    data = sock.recv(2000)
                except OSError:
                    return False
                # A TCP packet to port 40001 is an answer, whatever address it comes from.
                if (
                    data[12:14] == b"\x08\x00"
                    and data[23] == 6
                    and data[36:38] == struct.pack(">H", 40001)
                ):
                    return True
        return False

    return namespaces.in_netns(path, shoot)


def own_address(trie: str, gateway: str) -> str:
    prefix = gateway.rpartition(".")[0]
    lines = trie.splitlines()
    return next(
        line.split()[1]
        for line, after in itertools.pairwise(lines)
        if line.strip().startswith(f"|-- {prefix}.") and "/32 host LOCAL" in after
    )


def syn(source: str, target: str, source_port: int, port: int) -> bytes:
    def checksum(data: bytes) -> int:
        total = sum(struct.unpack(f">{len(data) // 2}H", data))
        total = (total & 0xFFFF) + (total >> 16)
        return ~(total + (total >> 16)) & 0xFFFF

    src, dst = socket.inet_aton(source), socket.inet_aton(target)
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 1, 0, 64, 6, 0, src, dst)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    body = struct.pack(">HHIIBBHHH", source_port, port, 1, 0, 0x50, 2, 8192, 0, 0)
    pseudo = src + dst + struct.pack(">BBH", 0, 6, len(body))
    return head + body[:16] + struct.pack(">H", checksum(pseudo + body)) + body[18:]


async def test_a_forged_packet_does_not_reach_the_hosts_loopback(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    secret = Server("secret", host="127.0.0.1", port=0)
    reachable = Server("reachable", host="0.0.0.0", port=0)
    try:
        port = secret.sockets[0].getsockname()[1]
        assert tcp("127.0.0.1", port).startswith("secret")
        # The probe itself works: a service on all addresses does answer a hand-made packet. One may be lost.
        open_port = reachable.sockets[0].getsockname()[1]
        assert any(
            forged_syn_is_answered(lab.path("web"), web.gateway, open_port, web.gateway)
            for _ in range(20)
        )
        for _ in range(3):
            assert not forged_syn_is_answered(lab.path("web"), "127.0.0.1", port, web.gateway)
    finally:
        secret.close()
        reachable.close()


async def test_ipv6_endpoints_reach_one_another_and_are_published(lab: Lab) -> None:
    network = lab.network(0, ipv6=True)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    await lab.container("sibling", network, 3)
    assert tcp(web.ipv6_address, 80, lab.path("sibling")).startswith("web")
    assert tcp(web.ipv6_address, 80).startswith("web")
    ports = await lab.driver.publish("web", web, [PortBinding(container_port=80)])
    for host in ("::1", web.ipv6_gateway):
        assert tcp(host, ports[0].host_port).startswith("web"), host
    assert tcp(web.ipv6_gateway, ports[0].host_port, lab.path("web")).startswith("web")
    plain = lab.network(1)
    await lab.driver.create_network(plain)
    await lab.container("four", plain, 2)

    def addresses() -> str:
        return Path("/proc/thread-self/net/if_inet6").read_text()

    assert "eth0" not in namespaces.in_netns(lab.path("four"), addresses)


async def test_a_udp_client_that_goes_on_sending_reaches_whoever_has_the_port(
    lab: Lab, lan: tuple[str, str]
) -> None:
    outside, here = lan
    network = lab.network(0)
    await lab.driver.create_network(network)
    web, db = await lab.container("web", network, 2), await lab.container("db", network, 3)
    client = namespaces.in_netns(outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("0.0.0.0", 0))
        port = free.getsockname()[1]
        client.settimeout(1)

        def ask() -> bytes:
            client.sendto(b"x", (here, port))
            return client.recv(100)

        client.sendto(b"x", (here, port))
        assert free.recv(10) == b"x", "the flow is tracked before the port is published"
        free.close()
        wanted = [PortBinding(container_port=80, protocol="udp", host_port=port)]
        await lab.driver.publish("web", web, wanted)
        # The client's own address is seen: translated, not proxied by the keeper.
        there = f"{here.rpartition('.')[0]}.2"
        assert ask() == f"web {there}".encode()
        await lab.driver.unpublish("web")
        await lab.driver.publish("db", db, wanted)
        assert ask() == f"db {there}".encode()


async def test_a_second_network_is_joined_and_left_and_the_default_route_moves(lab: Lab) -> None:
    first, second = lab.network(0), lab.network(1)
    for network in (first, second):
        await lab.driver.create_network(network)
    await lab.container("web", first, 2)
    end = lab.endpoint(second, 9)
    assert await lab.driver.connect("web", second, end, default_route=False) == "eth1"
    assert await lab.driver.connect("web", second, end, default_route=False) == "eth1"
    db = await lab.container("db", second, 2)
    assert tcp(db.ipv4_address, 80, lab.path("web")) == f"db {end.ipv4_address}"

    def default() -> str:
        rows = [row.split() for row in Path("/proc/thread-self/net/route").read_text().splitlines()]
        return " ".join(row[0] for row in rows if row[1] == "00000000")

    assert namespaces.in_netns(lab.path("web"), default) == "eth0"
    await lab.driver.set_default_route("web", end)
    assert namespaces.in_netns(lab.path("web"), default) == "eth1"
    for _ in range(2):
        await lab.driver.disconnect("web", second, end)
    assert blocked(db.ipv4_address, 80, lab.path("web"))
    assert await lab.driver.connect("web", second, end, default_route=False) == "eth1"


MODE = "com.docker.network.bridge.gateway_mode_ipv"


def pinged(address: str, path: str) -> bool:
    """Whether an address answers an ICMP echo request from inside a namespace."""

    def ask() -> bool:
        netlink.write_sysctl("net/ipv4/ping_group_range", "0 2147483647")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
            sock.settimeout(0.5)
            sock.sendto(struct.pack(">BBHHH", 8, 0, 0, 0, 1), (address, 0))
            with contextlib.suppress(OSError):
                return sock.recv(200)[:1] == b"\0"
            return False

    return namespaces.in_netns(path, ask)


@pytest.mark.parametrize(
    ("mode", "lan_gets", "others_get", "mapped", "pings", "hidden"),
    [
        # What a host on the LAN and another network reach of the ports 80 (published) and 81, as Docker 28 has it.
        ("routed", {80}, {80}, False, True, False),
        ("nat-unprotected", {80, 81}, set(), True, False, True),
    ],
)
async def test_a_gateway_mode_lets_in_what_it_says(
    lab: Lab, lan: tuple[str, str], mode: str, lan_gets: set, others_get: set, mapped: bool,
    pings: bool, hidden: bool,
) -> None:  # fmt: skip
    outside, here = lan
    there = f"{here.rpartition('.')[0]}.2"
    network, second = lab.network(0, options={f"{MODE}4": mode}), lab.network(1)
    for one in (network, second):
        await lab.driver.create_network(one)
    web = await lab.container("web", network, 2)
    lab.servers.append(Server("more", lab.path("web"), port=81))
    await lab.container("sibling", network, 3)
    await lab.container("other", second, 2)
    ports = await lab.driver.publish("web", web, [PortBinding(container_port=80)])
    ipv6_port = ports[1].host_port
    shown = [(port.host_ip, port.host_port) for port in ports]
    assert shown == [("0.0.0.0", ipv6_port if mapped else 0), ("::", ipv6_port)]
    address, shut = web.ipv4_address, {80, 81}
    for port in (80, 81):
        assert tcp(address, port), "the host"
        assert tcp(address, port, lab.path("sibling")), "the network itself"
    for path, reached in ((outside, lan_gets), (lab.path("other"), others_get)):
        for port in reached:
            assert tcp(address, port, path)
        for port in shut - reached:
            assert blocked(address, port, path)
    if mapped:
        assert tcp(here, ipv6_port, outside).startswith("web")
    assert tcp("::1", ipv6_port).startswith("web"), "the other family is translated"
    assert pinged(address, outside) == (pings or mode == "nat-unprotected")
    assert pinged(address, lab.path("other")) == pings
    assert tcp(there, 80, lab.path("web")) == f"lan {here if hidden else address}"
    # Another daemon finds it as it was, and what is withdrawn is shut.
    again = lab.restarted()
    await again.driver.restore(
        [network, second],
        [NetworkState(container_id="web", endpoints=(web,), ports=tuple(ports))],
    )
    assert [port for port in (80, 81) if tcp(address, port, outside, timeout=0.4)] == sorted(
        lan_gets
    )
    await again.driver.unpublish("web")
    assert bool(tcp(address, 80, outside, timeout=0.4)) == (mode == "nat-unprotected")
    await again.keeper.close()


async def test_an_isolated_network_is_without_its_host(lab: Lab) -> None:
    network = lab.network(0, internal=True, options={f"{MODE}4": "isolated"})
    network = replace(network, subnets=(replace(network.subnets[0], gateway=""),))
    await lab.driver.create_network(network)
    ends = []
    for number, name in ((1, "one"), (2, "two")):
        await lab.driver.create_sandbox(name)
        end = Endpoint(
            network_id=network.id, network_name=network.name, ipv4_prefix=24,
            endpoint_id=hashlib.sha256(f"{network.id}{number}".encode()).hexdigest(),
            ipv4_address=network.subnets[0].subnet.replace("0/24", str(number)),
        )  # fmt: skip
        await lab.driver.connect(name, network, end, default_route=True)
        lab.servers.append(Server(name, lab.path(name)))
        ends.append(end)
    assert tcp(ends[0].ipv4_address, 80, lab.path("two")).startswith("one")
    assert blocked(ends[0].ipv4_address, 80)
    assert netlink.index_of(network.bridge)


async def test_a_taken_port_names_its_holder(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    web, db = await lab.container("web", network, 2), await lab.container("db", network, 3)
    foreign = Server("foreign", host="0.0.0.0", port=0)
    try:
        port = foreign.sockets[0].getsockname()[1]
        with pytest.raises(
            ConflictError,
            match=rf"0\.0\.0\.0:{port}/tcp: address already in use .*pid {os.getpid()}",
        ):
            await lab.driver.publish("web", web, [PortBinding(container_port=80, host_port=port)])
        assert tcp("127.0.0.1", port).startswith("foreign")
    finally:
        foreign.close()
    wanted = PortBinding(container_port=80, host_port=port)
    assert await lab.driver.publish("web", web, [wanted])
    assert await lab.driver.publish("web", web, [wanted]), "a repeated call is answered as before"
    with pytest.raises(PortTakenError, match="already in use") as taken:
        await lab.driver.publish("db", db, [PortBinding(container_port=81), wanted])
    assert taken.value.holder == "web"
    with pytest.raises(OSError, match="in use"):
        Server("late", host="0.0.0.0", port=port)
    ranged = PortBinding(container_port=80, host_port=port, host_port_end=min(port + 20, 65535))
    (chosen, _) = await lab.driver.publish("db", db, [ranged])
    assert port < chosen.host_port <= port + 20
    assert tcp("127.0.0.1", chosen.host_port).startswith("db")
    for _ in range(2):
        await lab.driver.unpublish("web")
    assert blocked("127.0.0.1", port)
    Server("late", host="0.0.0.0", port=port).close()


async def test_names_mean_what_the_askers_networks_say(lab: Lab) -> None:
    first, second = lab.network(0), lab.network(1)
    for network in (first, second):
        await lab.driver.create_network(network)
    web, db = await lab.container("web", first, 2), await lab.container("db", first, 3)
    hidden = await lab.container("hidden", second, 2)
    await lab.keeper.serve(
        Zone(container_id="web", networks=(first.id,), links={"database": "db"}),
        Path(lab.path("web")),
    )
    await lab.keeper.add_names(first.id, "web", [web.ipv4_address], ["web", "app"])
    await lab.keeper.add_names(first.id, "db", [db.ipv4_address], ["db", "app"])
    await lab.keeper.add_names(second.id, "hidden", [hidden.ipv4_address], ["hidden"])
    assert resolve(lab, "web", "DB") == (0, [db.ipv4_address])
    assert resolve(lab, "web", "database") == (0, [db.ipv4_address])
    assert resolve(lab, "web", "db", 28) == (0, [])
    assert resolve(lab, "web", "hidden") == (3, [])
    firsts = {resolve(lab, "web", "app")[1][0] for _ in range(4)}
    assert firsts == {web.ipv4_address, db.ipv4_address}
    await lab.keeper.remove_names(first.id, "db")
    assert resolve(lab, "web", "db") == (3, [])

    def over_tcp() -> bytes:
        with socket.create_connection(("127.0.0.11", 53), 2) as sock:
            asked = query("web")
            sock.sendall(struct.pack(">H", len(asked)) + asked)
            return sock.recv(600)[2:]

    assert decode(namespaces.in_netns(lab.path("web"), over_tcp), 1) == (0, [web.ipv4_address])
    # A program that serves names itself can have port 53 on all addresses.
    Server("dns", lab.path("web"), port=53).close()


async def test_unknown_names_are_asked_of_the_hosts_servers(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    await lab.container("web", network, 2)
    upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    address = f"127.77.{int(lab.paths.engine_id, 16) % 250}.1"
    upstream.bind((address, 53))

    def answer() -> None:
        with contextlib.suppress(OSError):
            data, client = upstream.recvfrom(512)
            record = struct.pack(">HHHIH4s", 0xC00C, 1, 1, 60, 4, bytes((192, 0, 2, 77)))
            upstream.sendto(
                data[:2] + b"\x81\x80" + data[4:6] + b"\0\1" + data[8:] + record, client
            )

    thread = threading.Thread(target=answer)
    thread.start()
    # The first server refuses (nobody listens there), so the second is asked at once.
    zone = Zone(container_id="web", networks=(network.id,), upstream=("127.77.0.250", address))
    await lab.keeper.serve(zone, Path(lab.path("web")))
    assert resolve(lab, "web", "example.org") == (0, ["192.0.2.77"])
    upstream.close()
    thread.join()
    assert resolve(lab, "web", "example.org") == (2, [])


async def test_names_and_ports_outlive_the_daemon_and_are_adopted(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    gone = await lab.container("gone", network, 3)
    await lab.keeper.serve(Zone(container_id="web", networks=(network.id,)), Path(lab.path("web")))
    await lab.keeper.add_names(network.id, "web", [web.ipv4_address], ["web"])
    ports = tuple(await lab.driver.publish("web", web, [PortBinding(container_port=80)]))
    lost = (await lab.driver.publish("gone", gone, [PortBinding(container_port=80)]))[0].host_port
    stray = lab.network(7)
    await lab.driver.create_network(stray)
    await lab.keeper.close()
    assert resolve(lab, "web", "web") == (0, [web.ipv4_address])
    assert tcp("::1", ports[0].host_port).startswith("web")
    new = lab.restarted()
    assert await new.keeper.start() is False
    await new.driver.start()
    state = NetworkState(container_id="web", endpoints=(web,), ports=ports)
    for _ in range(2):
        await new.driver.restore([network], [state])
    await new.keeper.reset(["web"])
    assert resolve(lab, "web", "web") == (0, [web.ipv4_address])
    for host in ("127.0.0.1", "::1"):
        assert tcp(host, ports[0].host_port).startswith("web"), host
        assert blocked(host, lost)
    assert list(await new.driver.networks()) == [network.bridge]
    assert sorted(await new.driver.sandboxes()) == ["gone", "web"]
    with pytest.raises(OSError, match="in use"):
        Server("late", host="0.0.0.0", port=ports[0].host_port)
    await new.driver.unpublish("web")
    assert blocked("127.0.0.1", ports[0].host_port)
    lab.keeper, lab.driver = new.keeper, new.driver


async def test_a_killed_keeper_comes_back_with_all_it_knew(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    await lab.keeper.serve(Zone(container_id="web", networks=(network.id,)), Path(lab.path("web")))
    await lab.keeper.add_names(network.id, "web", [web.ipv4_address], ["web"])
    ports = await lab.driver.publish("web", web, [PortBinding(container_port=80)])
    # What a daemon learned from the keeper is as good as what it told it.
    await lab.keeper.close()
    new = lab.restarted()
    lab.keeper, lab.driver = new.keeper, new.driver
    assert await lab.keeper.start() is False
    os.kill(keeper_pid(lab.paths), signal.SIGKILL)

    async def is_back() -> bool:
        return await asyncio.to_thread(resolve, lab, "web", "web") == (0, [web.ipv4_address])

    async with asyncio.timeout(60):
        while not await is_back():
            await asyncio.sleep(0.02)
    assert await asyncio.to_thread(tcp, "::1", ports[0].host_port)
    with pytest.raises(OSError, match="in use"):
        Server("late", host="0.0.0.0", port=ports[0].host_port)


def keeper_pid(paths: EnginePaths) -> int:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(paths.keeper_socket))
        sock.sendall(b'{"call": "hello"}\n')
        return json.loads(sock.recv(1000))["result"]["pid"]


async def last_word(lab: Lab, network: NetworkRecord) -> tuple[str, int]:
    """Remove two namespaces with a connection between them, one after the other; return the second one's link.

    What the second one says last is never confirmed. So its socket lives on, and with it its namespace.
    """
    for name, number in (("one", 2), ("two", 3)):
        await lab.driver.create_sandbox(name)
        await lab.driver.connect(name, network, lab.endpoint(network, number), default_route=True)
    listener = namespaces.in_netns(
        lab.path("one"), lambda: socket.create_server((lab.endpoint(network, 2).ipv4_address, 80))
    )
    talker = namespaces.in_netns(
        lab.path("two"), lambda: socket.create_connection(listener.getsockname(), 10)
    )
    links = [
        f"{lab.paths.veth_prefix}{lab.endpoint(network, number).endpoint_id}"[:15]
        for number in (2, 3)
    ]
    index = netlink.index_of(links[1])
    assert index
    accepted, _ = listener.accept()
    accepted.close()
    assert talker.recv(1) == b""
    listener.close()
    await lab.driver.remove_sandbox("one")
    await lab.driver.finish()
    assert not netlink.index_of(links[0])
    talker.close()
    await lab.driver.remove_sandbox("two")
    return links[1], index


async def test_a_connection_that_never_ended_keeps_no_link(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    link, _ = await last_word(lab, network)
    async with asyncio.timeout(20):
        while netlink.index_of(link):
            await asyncio.sleep(0.02)


async def test_ending_at_once_keeps_no_link_either(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    link, _ = await last_word(lab, network)
    await lab.driver.finish()
    assert not netlink.index_of(link)


async def test_the_link_of_a_new_namespace_is_not_swept_with_the_former_one(lab: Lab) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    link, former = await last_word(lab, network)
    await lab.driver.create_sandbox("two")
    await lab.driver.connect("two", network, lab.endpoint(network, 3), default_route=True)
    now = netlink.index_of(link)
    assert now not in (0, former)
    await asyncio.sleep(1.0)
    await lab.driver.finish()
    assert netlink.index_of(link) == now


async def test_everything_removed_leaves_nothing(tmp_path: Path) -> None:
    async with laboratory(tmp_path / "run") as lab:
        network = lab.network(0)
        await lab.driver.create_network(network)
        web = await lab.container("web", network, 2)
        await lab.driver.publish("web", web, [PortBinding(container_port=80)])
        pid = await asyncio.to_thread(keeper_pid, lab.paths)
        for _ in range(2):
            await lab.driver.unpublish("web")
            await lab.driver.disconnect("web", network, web)
            await lab.driver.remove_sandbox("web")
            await lab.driver.remove_network(network)
        assert await lab.driver.sandboxes() == []
    with netlink.Netlink() as host:
        own = (lab.paths.bridge_prefix, lab.paths.veth_prefix)
        assert eventually(lambda: not any(link.name.startswith(own) for link in host.links()))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    with nftables() as nft:
        assert lab.paths.nft_table not in nft.run("list tables\n")
    assert eventually(lambda: not Path(f"/proc/{pid}").exists())
    assert not lab.paths.keeper_socket.exists()


async def test_two_engines_do_not_disturb_each_other(lab: Lab, tmp_path: Path) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    web = await lab.container("web", network, 2)
    (port, _) = await lab.driver.publish("web", web, [PortBinding(container_port=80)])
    async with laboratory(tmp_path / "second") as other:
        theirs = other.network(3)
        await other.driver.create_network(theirs)
        db = await other.container("db", theirs, 2)
        assert blocked(web.ipv4_address, 80, other.path("db"))
        assert blocked(db.ipv4_address, 80, lab.path("web"))
        assert tcp(theirs.subnets[0].gateway, port.host_port, other.path("db")).startswith("web")
        await other.driver.restore([], [])
        assert list(await other.driver.networks()) == []
        assert list(await lab.driver.networks()) == [network.bridge]
    assert tcp("127.0.0.1", port.host_port).startswith("web")


async def test_a_forward_policy_of_drop_does_not_stop_our_packets(lab: Lab) -> None:
    network = lab.network(0)
    table = f"strange-{lab.paths.engine_id}"
    with Nftables() as nft:
        nft.run(
            f"add table ip {table}\nadd chain ip {table} DOCKER-USER\n"
            f"add chain ip {table} FORWARD {{ type filter hook forward priority 0; policy drop; }}\n"
        )
        try:
            await lab.driver.create_network(network)
            web = await lab.container("web", network, 2)
            await lab.container("sibling", network, 3)
            assert tcp(web.ipv4_address, 80, lab.path("sibling")).startswith("web")
            await lab.driver.create_network(network)
            text = nft.run(f"list table ip {table}\n")
            assert text.count(f'comment "{lab.paths.nft_table}"') == 4
            await lab.driver.stop()
            assert lab.paths.nft_table not in nft.run(f"list table ip {table}\n")
        finally:
            nft.run(f"delete table ip {table}\n")


async def test_the_hosts_subnets_are_told_and_ours_are_not(lab: Lab, lan: tuple[str, str]) -> None:
    network = lab.network(0)
    await lab.driver.create_network(network)
    subnets = await lab.driver.host_subnets()
    assert f"{lan[1].rpartition('.')[0]}.0/24" in subnets
    assert network.subnets[0].subnet not in subnets
    with pytest.raises(UnsupportedError, match="macvlan"):
        await lab.driver.create_network(replace(network, driver="macvlan"))


async def test_sysctls_hold_inside_only(lab: Lab) -> None:
    before = netlink.read_sysctl("net/ipv4/ip_default_ttl")
    await lab.driver.create_sandbox("web", {"net.ipv4.ip_default_ttl": "77"})
    inside = namespaces.in_netns(
        lab.path("web"), lambda: netlink.read_sysctl("net/ipv4/ip_default_ttl")
    )
    assert (inside, netlink.read_sysctl("net/ipv4/ip_default_ttl")) == ("77", before)
