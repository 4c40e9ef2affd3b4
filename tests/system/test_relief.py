"""One container takes the place of another: its ports and names change hands, and nobody is turned away."""

import http.client
import json
import socket
import threading
import time
import urllib.request

import pytest

from tests.conftest import free_port

pytestmark = pytest.mark.root


class Api:
    """The engine's socket, one connection a call."""

    def __init__(self, engine) -> None:
        self.engine = engine

    def __call__(self, method: str, path: str, content: dict | None = None):
        connection = http.client.HTTPConnection("docker", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.settimeout(60)
            connection.sock.connect(str(self.engine.paths.socket))
            data = None if content is None else json.dumps(content)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def create(self, name: str, content: dict) -> None:
        assert self("POST", f"/v1.47/containers/create?name={name}", content)[0] == 201

    def start(self, name: str) -> None:
        assert self("POST", f"/v1.47/containers/{name}/start")[0] == 204

    def aside(self, name: str) -> None:
        assert self("POST", f"/_stackctl/v1/containers/{name}/start-aside")[0] == 204

    def relieve(self, name: str, donor: str):
        return self("POST", f"/_stackctl/v1/containers/{name}/relieve", {"From": donor})

    def drain(self, name: str, seconds: int) -> int:
        status, found = self("POST", f"/_stackctl/v1/containers/{name}/drain?t={seconds}")
        assert status == 200
        return found["Open"]

    def settings(self, name: str) -> dict:
        return self("GET", f"/v1.47/containers/{name}/json")[1]["NetworkSettings"]

    def address(self, name: str) -> str:
        return self.settings(name)["Networks"]["pair"]["IPAddress"]

    def listens(self, name: str) -> bool:
        check = ("wget", "-q", "-O", "/dev/null", "http://127.0.0.1/")
        return self.engine.docker("exec", name, *check, check=False).returncode == 0

    def resolved(self, name: str) -> str:
        return self.engine.docker("exec", name, "nslookup", "web", check=False).stdout


@pytest.fixture
def api(engine):
    engine.import_busybox()
    engine.docker("network", "create", "pair")
    yield Api(engine)
    engine.docker("rm", "-f", "old", "new")
    engine.docker("network", "rm", "pair")


def body(port: int, text: str) -> dict:
    command = f"mkdir -p /www; echo {text} > /www/index.html; exec httpd -f -p 80 -h /www"
    return {
        "Image": "busybox",
        "Cmd": ["sh", "-c", command],
        "StopSignal": "SIGKILL",
        "HostConfig": {
            "NetworkMode": "pair",
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": str(port)}]},
        },
        "NetworkingConfig": {"EndpointsConfig": {"pair": {"Aliases": ["web"]}}},
    }


def page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        return answer.read().decode().strip()


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_ports_and_names_change_hands_without_a_refused_connection(api, engine):
    assert "containers.relieve" in api("GET", "/_stackctl/v1/info")[1]["Features"]
    port = free_port()
    for name, text in (("old", "one"), ("new", "two")):
        api.create(name, body(port, text))
    api.start("old")
    api.aside("new")
    wait_for(lambda: api.listens("old") and api.listens("new"))
    assert page(port) == "one"
    assert api.settings("new")["Ports"].get("80/tcp") in (None, [])
    assert api.address("old") in api.resolved("old")
    assert api.address("new") not in api.resolved("old")

    open_before = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    open_before.connect()
    failures: list[str] = []
    seen: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                seen.append(page(port))
            except OSError as error:
                failures.append(repr(error))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for one in clients:
        one.start()
    wait_for(lambda: len(seen) > 20)
    assert api.relieve("new", "old")[0] == 204
    wait_for(lambda: seen[-1] == "two")
    # An open connection stays with the old one, which is waited for.
    assert api.drain("old", 0) == 1
    open_before.request("GET", "/")
    assert open_before.getresponse().read() == b"one\n"
    open_before.close()
    assert api.drain("old", 30) == 0
    engine.docker("stop", "old")
    count = len(seen)
    wait_for(lambda: len(seen) > count + 20)
    over.set()
    for one in clients:
        one.join()
    assert failures == []
    assert api.address("new") in api.resolved("new")
    assert engine.docker("port", "new").stdout.count(f":{port}") == 2


def test_the_place_can_be_taken_back_and_survives_a_new_daemon(api, engine):
    port = free_port()
    for name, text in (("old", "one"), ("new", "two")):
        api.create(name, body(port, text))
    api.start("old")
    api.aside("new")
    assert api.relieve("new", "old")[0] == 204
    assert api.relieve("new", "old")[0] == 204
    engine.stackctl("engine", "restart")
    wait_for(lambda: api.listens("old") and api.listens("new"))
    assert page(port) == "two"
    assert api.address("old") not in api.resolved("old")
    assert api.relieve("old", "new")[0] == 204
    assert page(port) == "one"
    assert api.address("new") not in api.resolved("old")


def test_a_third_ones_port_is_not_taken_and_nothing_changes(api, engine):
    port = free_port()
    api.create("old", body(port, "one"))
    api.start("old")
    wait_for(lambda: api.listens("old"))
    with socket.create_server(("0.0.0.0", 0)) as third:
        other = str(third.getsockname()[1])
        both = body(port, "two")
        both["HostConfig"]["PortBindings"]["81/tcp"] = [{"HostIp": "", "HostPort": other}]
        api.create("new", both)
        api.aside("new")
        status, answer = api.relieve("new", "old")
    assert status == 409
    assert "already in use" in answer["message"]
    assert page(port) == "one"
    engine.docker("stop", "old")
    status, answer = api.relieve("old", "new")
    assert status == 409
    assert "not running" in answer["message"]
    assert api.relieve("new", "new")[0] == 400
    assert api.relieve("new", "nobody")[0] == 404
