"""Ways to the journal and to syslog daemons."""

import asyncio
import socket

import pytest

from stackctl.adapters.runtime import logsinks
from stackctl.adapters.runtime.logsinks import MachineLogSinks


def listener(kind, address, family=socket.AF_UNIX):
    sock = socket.socket(family, kind)
    sock.bind(address)
    sock.settimeout(10)
    return sock


async def test_the_journal_gets_datagrams(tmp_path):
    path = tmp_path / "journal"
    sinks = MachineLogSinks(journal=path)
    assert not sinks.has_journal()
    with listener(socket.SOCK_DGRAM, str(path)) as journal:
        assert sinks.has_journal()
        sink = sinks.journal()
        await sink.send(b"MESSAGE=x\n")
        assert journal.recv(100) == b"MESSAGE=x\n"
        await sink.close()


@pytest.mark.parametrize("scheme", ["unixgram", "", "udp", "tcp", "unix"])
async def test_syslog_is_reached_over_every_kind_of_socket(tmp_path, scheme):
    path = tmp_path / "log"
    if scheme in ("udp", "tcp"):
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        sock = listener(kind, ("127.0.0.1", 0), socket.AF_INET)
        address = f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
    else:
        kind = socket.SOCK_STREAM if scheme == "unix" else socket.SOCK_DGRAM
        sock = listener(kind, str(path))
        address = f"{scheme}://{path}" if scheme else ""
    with sock:
        sink = MachineLogSinks(syslog=path).syslog(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
            await sink.send(b"one")
            await sink.send(b"two")
            with sock.accept()[0] as other:
                assert other.recv(100) == b"one\ntwo\n"
        else:
            await sink.send(b"one")
            assert sock.recv(100) == b"one"
        await sink.close()


async def test_a_daemon_that_is_away_gets_the_message_when_it_is_back(tmp_path, monkeypatch):
    monkeypatch.setattr(logsinks, "_PAUSE", 0.01)
    path = tmp_path / "log"
    sink = MachineLogSinks(syslog=path).syslog("")
    sending = asyncio.ensure_future(sink.send(b"late"))
    await asyncio.sleep(0.05)
    assert not sending.done()
    with listener(socket.SOCK_DGRAM, str(path)) as back:
        await asyncio.wait_for(sending, 10)
        assert back.recv(100) == b"late"
    await sink.close()
