"""docker-py, and requests of our own, against our socket."""

import asyncio
import http.client
import io
import json
import socket
import tarfile
import threading
import time

import aiohttp
import docker.errors
import pytest

from stackctl.api.framing import Decoder
from tests.compat.raw import connect

pytestmark = pytest.mark.root


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(dock, method, path, body=None, headers=None):
    connection = UnixConnection(dock.paths.socket)
    data = json.dumps(body) if isinstance(body, dict | list) else body
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_run_returns_the_output(sdk):
    assert sdk.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as caught:
        sdk.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"no\n")


def test_a_container_reads_back_as_it_was_made(sdk):
    made = sdk.containers.create(
        "busybox",
        ["sleep", "9"],
        name="back",
        environment={"A": "b"},
        labels={"l": "m"},
        mem_limit="64m",
        nano_cpus=500_000_000,
        cap_add=["NET_ADMIN"],
        tmpfs={"/run": "size=1m"},
        working_dir="/tmp",
        stop_signal="SIGINT",
        healthcheck={"test": ["CMD", "true"], "interval": 10**9},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        ulimits=[docker.types.Ulimit(name="nofile", soft=64, hard=64)],
    )
    attrs = sdk.containers.get("back").attrs
    assert attrs["Id"] == made.id
    assert "A=b" in attrs["Config"]["Env"]
    assert attrs["Config"]["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 10**9}
    assert attrs["Config"]["StopSignal"] == "SIGINT"
    host = attrs["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["CapAdd"]) == (
        64 * 2**20,
        500_000_000,
        ["NET_ADMIN"],
    )
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 64, "Hard": 64}]
    assert attrs["State"]["Status"] == "created"


def test_exec_splits_the_streams(sdk):
    box = sdk.containers.run("busybox", ["sleep", "100"], detach=True)
    code, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
    assert (code, out, err) == (4, b"o\n", b"e\n")
    assert box.exec_run("id -u", user="1000").output == b"1000\n"


def test_an_attached_socket_carries_input(sdk):
    box = sdk.containers.create("busybox", "cat", stdin_open=True)
    attached = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    box.start()
    attached._sock.sendall(b"ping\n")
    attached._sock.shutdown(socket.SHUT_WR)
    data = b""
    while chunk := attached._sock.recv(4096):
        data += chunk
    assert data == b"\x01\0\0\0\0\0\0\x05ping\n"
    attached._response.close()
    attached.close()
    assert box.wait(timeout=10)["StatusCode"] == 0


def test_archives_go_in_and_out_of_a_created_container(sdk):
    box = sdk.containers.create("busybox", ["cat", "/etc/added"])
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("added")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"words"))
    assert box.put_archive("/etc", packed.getvalue())
    chunks, stat = box.get_archive("/etc/added")
    assert (stat["name"], stat["size"]) == ("added", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.extractfile("added").read() == b"words"
    box.start()
    box.wait(timeout=10)
    assert box.logs() == b"words"


def test_logs_stream_until_the_end(sdk):
    box = sdk.containers.run(
        "busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done"], detach=True
    )
    assert b"".join(box.logs(stream=True, follow=True)) == b"1\n2\n3\n"


def test_events_arrive_as_they_happen(sdk):
    stream = sdk.events(decode=True, filters={"type": "container"})
    seen = []

    def listen():
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "die":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    time.sleep(0.3)
    sdk.containers.run("busybox", "true", remove=True)
    listener.join(20)
    stream.close()
    assert seen[:1] == ["create"]
    assert seen[-1] == "die"


def test_networks_and_volumes_have_their_shapes(sdk):
    network = sdk.networks.create(
        "shaped",
        labels={"a": "b"},
        ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.199.7.0/24")]),
    )
    network.reload()
    assert network.attrs["IPAM"]["Config"][0]["Subnet"] == "10.199.7.0/24"
    box = sdk.containers.create("busybox", ["sleep", "50"])
    network.connect(box, ipv4_address="10.199.7.77", aliases=["x"])
    box.start()
    box.reload()
    assert box.attrs["NetworkSettings"]["Networks"]["shaped"]["IPAddress"] == "10.199.7.77"
    box.remove(force=True)
    network.remove()
    volume = sdk.volumes.create("v1", labels={"k": "v"})
    assert volume.attrs["Labels"] == {"k": "v"}
    assert sdk.volumes.create("v1").id == "v1"
    volume.remove()


def test_stats_have_what_the_formulas_need(sdk):
    box = sdk.containers.run("busybox", ["sleep", "100"], detach=True)
    stats = box.stats(stream=False)
    assert stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"] > 0
    assert stats["memory_stats"]["usage"] > 0
    assert stats["pids_stats"]["current"] >= 1


def test_errors_have_their_kinds(sdk):
    with pytest.raises(docker.errors.ImageNotFound, match="No such image: ghost:latest"):
        sdk.api.create_container("ghost")
    sdk.containers.create("busybox", "true", name="twice")
    with pytest.raises(docker.errors.APIError, match="Conflict") as caught:
        sdk.containers.create("busybox", "true", name="twice")
    assert caught.value.status_code == 409


def test_wait_answers_its_headers_before_the_container_ends(sdk, dock):
    box = sdk.containers.create("busybox", ["sh", "-c", "exit 5"])
    connection = UnixConnection(dock.paths.socket)
    connection.request("POST", f"/v1.44/containers/{box.id}/wait?condition=next-exit")
    answer = connection.getresponse()
    assert answer.status == 200
    box.start()
    assert json.loads(answer.read())["StatusCode"] == 5
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/containers/create", b"{", 400),
        ("POST", "/containers/create", b"[]", 400),
        ("POST", "/containers/create", {"Image": 5}, 400),
        ("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Binds": "x"}}, 400),
        (
            "POST",
            "/containers/create",
            {"Image": "busybox", "HostConfig": {"PortBindings": {"x": None}}},
            400,
        ),
        ("POST", "/containers/create?name=a%20b", {"Image": "busybox"}, 400),
        ("POST", "/containers/create", {"Image": "BAD NAME"}, 400),
        ("GET", "/containers/json?filters=%7B", None, 400),
        ("GET", "/containers/json?limit=x", None, 400),
        ("GET", "/containers/ghost/logs?stdout=1", None, 404),
        ("POST", "/containers/ghost/wait?condition=bogus", None, 400),
        ("POST", "/networks/create", {"Name": ""}, 400),
        (
            "POST",
            "/networks/create",
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "nonsense"}]}},
            400,
        ),
        ("POST", "/networks/create", {"Name": "x", "Driver": "overlay"}, None),
        ("POST", "/volumes/create", {"Name": "../x"}, 400),
        ("POST", "/volumes/create", {"Name": "x", "Driver": 4}, 400),
        ("POST", "/exec/ghost/start", {}, 404),
        ("POST", "/images/create", None, 400),
        ("POST", "/build?buildargs=%7B", b"", 400),
        ("GET", "/events?since=yesterday", None, 400),
        ("POST", "/auth", b"nope", 400),
    ],
)
def test_bad_requests_are_refused_by_name(dock, method, path, body, status):
    answer, content = ask(dock, method, path, body)
    message = json.loads(content)["message"]
    assert message
    assert 400 <= answer.status < 502
    assert answer.status != 500
    assert status in (None, answer.status), message


def test_plugins_are_an_empty_list_and_unknown_paths_say_so(dock):
    assert json.loads(ask(dock, "GET", "/plugins")[1]) == []
    answer, content = ask(dock, "GET", "/v1.44/bogus")
    assert (answer.status, json.loads(content)) == (404, {"message": "page not found"})


def test_the_extension_tells_who_serves(dock):
    body = json.loads(ask(dock, "GET", "/_stackctl/v1/info")[1])
    assert body["Pid"] == dock.process.pid
    assert body["EngineID"] == dock.paths.engine_id


def test_many_connections_come_and_go(dock):
    sockets = []
    for _ in range(200):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(dock.paths.socket))
        client.sendall(b"GET /containers/json HTTP/1.1\r\nHost: x\r\n")
        sockets.append(client)
    for client in sockets:
        client.close()
    assert ask(dock, "GET", "/_ping")[1] == b"OK"


def test_a_broken_request_head_is_refused(dock):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(dock.paths.socket))
        client.sendall(b"NONSENSE\r\n\r\n")
        assert b" 400 " in client.recv(4096).split(b"\r\n")[0] + b" "


def test_a_websocket_carries_both_ways(sdk, dock):
    async def talk():
        connector = aiohttp.UnixConnector(path=str(dock.paths.socket))
        async with aiohttp.ClientSession(connector=connector) as session:
            address = f"http://x/v1.45/containers/{box.id}/attach/ws?stdin=1&stdout=1&stream=1"
            async with session.ws_connect(address) as ws:
                await asyncio.to_thread(box.start)
                await ws.send_bytes(b"ping\n")
                message = await ws.receive(timeout=10)
                return message.data

    box = sdk.containers.create("busybox", "cat", stdin_open=True)
    assert asyncio.run(talk()) == b"ping\n"
    box.kill()


def test_slow_readers_of_a_log_do_not_hold_the_container(sdk, dock):
    box = sdk.containers.create("busybox", ["sh", "-c", "yes 0123456789 | head -n 400000; exit 5"])
    box.start()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(dock.paths.socket))
        path = f"/v1.45/containers/{box.id}/logs?stdout=1&follow=1"
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert box.wait(timeout=30)["StatusCode"] == 5
    # Nothing is lost for who reads at leisure.
    lines = sum(chunk.count(b"\n") for chunk in box.logs(stream=True, follow=True))
    assert lines == 400_000


def test_a_log_is_rotated_and_loses_no_line(sdk):
    words = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; sleep 2"]
    config = docker.types.LogConfig(config={"max-size": "50k", "max-file": "30"})
    box = sdk.containers.run("busybox", words, log_config=config, detach=True)
    seen = b"".join(box.logs(stream=True, follow=True)).splitlines()
    assert seen == [f"line {number}".encode() for number in range(30_000)]
    assert box.logs().count(b"\n") == 30_000


def test_rotation_keeps_what_max_file_says_and_a_slow_follower_misses_nothing(sdk, dock):
    # Forty bursts of five thousand lines: faster than anybody reads, and rotated many times on the way.
    script = "i=0; while [ $i -lt 40 ]; do seq $((i*5000)) $((i*5000+4999)); usleep 60000; i=$((i+1)); done"
    config = docker.types.LogConfig(config={"max-size": "64k", "max-file": "3", "compress": "true"})
    box = sdk.containers.create("busybox", ["sh", "-c", script], log_config=config)
    box.start()
    with connect(dock.paths.socket, 60) as sock:
        sock.sendall(
            f"GET /containers/{box.id}/logs?stdout=1&follow=1 HTTP/1.0\r\nHost: x\r\n\r\n".encode()
        )
        # Nothing is read until the container has ended and most of what it said was removed.
        box.wait()
        data = b""
        while piece := sock.recv(1 << 20):
            data += piece
    body = data.partition(b"\r\n\r\n")[2]
    seen = b"".join(payload for _, payload in Decoder().feed(body)).splitlines()
    assert seen == [b"%d" % number for number in range(200_000)]
    kept = [int(line) for line in box.logs().splitlines()]
    assert kept == list(range(kept[0], 200_000))
    assert kept[0] > 0
    parts = (dock.home / "data/containers" / box.id).glob("log*")
    assert sorted(path.name for path in parts) == ["log", "log.1.gz", "log.2.gz"]


def test_variables_without_a_value_are_taken_away(sdk):
    box = sdk.containers.create("busybox", ["env"], environment=["HOSTNAME", "A=b"])
    box.reload()
    assert box.attrs["Config"]["Env"][:2] == ["HOSTNAME", "A=b"]
    box.start()
    box.wait()
    lines = box.logs().splitlines()
    assert b"A=b" in lines
    assert not any(line.startswith(b"HOSTNAME=") for line in lines)


def test_changes_tell_what_the_container_did_and_where_it_mounts(sdk):
    box = sdk.containers.run(
        "busybox", ["sh", "-c", "touch /made"], volumes={"somewhere": {"bind": "/vol"}}, detach=True
    )
    box.wait()
    assert box.diff() == [{"Path": "/made", "Kind": 1}, {"Path": "/vol", "Kind": 1}]
