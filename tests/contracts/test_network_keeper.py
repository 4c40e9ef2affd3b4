"""The keeper as a process: small, out of its caller's reach, deaf to nonsense."""

import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stackctl.adapters.network.keeper import KeeperClient
from stackctl.contracts.container import PortBinding
from stackctl.contracts.network import Zone
from stackctl.errors import HostError

pytestmark = pytest.mark.root


@pytest.fixture
async def keeper(tmp_path: Path) -> AsyncIterator[KeeperClient]:
    client = KeeperClient(tmp_path / "keeper.sock", tmp_path / "keeper.log")
    assert await client.start()
    yield client
    await client.stop()


def said(path: Path, line: bytes) -> dict:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path / "keeper.sock"))
        sock.sendall(line + b"\n")
        return json.loads(sock.makefile().readline())


async def test_it_leaves_its_callers_session_directory_and_descriptors(
    keeper: KeeperClient, tmp_path: Path
) -> None:
    pid = said(tmp_path, b'{"call": "hello"}')["result"]["pid"]
    assert os.getsid(pid) == pid
    process = Path(f"/proc/{pid}")
    assert (process / "cwd").readlink() == Path("/")
    parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    targets = {str(entry.readlink()) for entry in (process / "fd").iterdir()}
    files = {target for target in targets if target.startswith("/")}
    assert files == {"/dev/null", str(tmp_path / "keeper.log")}
    assert not any(target.startswith("pipe:") for target in targets)


async def test_it_takes_less_than_ten_megabytes(keeper: KeeperClient, tmp_path: Path) -> None:
    pid = said(tmp_path, b'{"call": "hello"}')["result"]["pid"]
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss = next(line for line in text.splitlines() if line.startswith("Pss:"))
    assert int(pss.split()[1]) < 10 * 1024


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"17", b"\xff\xfe", b'{"call": []}', b'{"call": "serve"}', b'{"call": "nope"}',
     b'{"call": "reserve", "container": "c", "target": ["", ""], "ports": [[80, "tcp", "", 70000, 0]]}',
     b'{"call": "reserve", "container": "c", "target": [], "ports": []}',
     b"[" * 100_000],
)  # fmt: skip
async def test_nonsense_is_refused_and_changes_nothing(
    keeper: KeeperClient, tmp_path: Path, line: bytes
) -> None:
    before = said(tmp_path, b'{"call": "state"}')
    said(tmp_path, line)
    assert said(tmp_path, b'{"call": "state"}') == before


async def test_a_namespace_that_is_not_there_is_the_hosts_refusal(
    keeper: KeeperClient, tmp_path: Path
) -> None:
    with pytest.raises(HostError, match="opening namespace"):
        await keeper.serve(Zone(container_id="c", networks=()), tmp_path / "none")


async def test_an_address_that_the_host_lacks_cannot_be_listened_on(keeper: KeeperClient) -> None:
    binding = PortBinding(container_port=80, host_ip="192.0.2.99", host_port=8080)
    with pytest.raises(HostError, match=r"192\.0\.2\.99:8080/tcp: .*assign"):
        await keeper.reserve("c", [binding], "10.0.0.2", "")
    assert keeper.reserving() == []


async def test_a_second_client_learns_what_the_first_said(
    keeper: KeeperClient, tmp_path: Path
) -> None:
    await keeper.add_names("n", "c", ["10.0.0.2"], ["web"])
    await keeper.reserve("c", [PortBinding(container_port=80, host_ip="127.0.0.1")], "10.0.0.2", "")
    second = KeeperClient(tmp_path / "keeper.sock", tmp_path / "keeper.log")
    assert await second.start() is False
    assert second.reserving() == ["c"]
    await second.reset([])
    assert said(tmp_path, b'{"call": "state"}')["result"] == {"zones": [], "names": [], "ports": []}
    await second.close()
