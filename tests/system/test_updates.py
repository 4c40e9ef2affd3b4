"""Rolling updates: deploy.update_config on the built-in engine, under load, and what a bad new version does."""

import http.client
import threading
import time
import urllib.request
from dataclasses import dataclass, field

import pytest

from tests.conftest import free_port

pytestmark = pytest.mark.root


@pytest.fixture
def stack(engine, tmp_path):
    """Write a stack file and type commands beside it; the stack is gone afterwards."""
    engine.import_busybox()

    class Stack:
        def write(self, text: str) -> None:
            (tmp_path / "stack.yaml").write_text("name: u\n" + text)

        def __call__(self, *argv, **options):
            return engine.stackctl(*argv, cwd=tmp_path, **options)

        def containers(self) -> dict[str, str]:
            """Return the IDs of the running containers by name; none is there that does not run."""
            form = "{{.Names}} {{.ID}} {{.State}}"
            found = [
                line.split()
                for line in engine.docker("ps", "-a", "--format", form).stdout.splitlines()
            ]
            assert {state for _, _, state in found} <= {"running"}
            return {name: identity for name, identity, _ in found}

    yield Stack()
    engine.stackctl("-p", "u", "down", "-v", "-t", "0", cwd=tmp_path)


@dataclass
class Load:
    """Clients that fetch a page of the host without a pause, each request on a connection of its own."""

    port: int
    pages: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=30) as answer:
                    self.pages.append(answer.read().decode().strip())
            except OSError as error:
                self.failures.append(repr(error))

    def __enter__(self) -> "Load":
        self.threads = [threading.Thread(target=self.run) for _ in range(3)]
        for thread in self.threads:
            thread.start()
        self.wait_for(1)
        return self

    def wait_for(self, more: int) -> None:
        wanted, end = len(self.pages) + more, time.monotonic() + 60
        while len(self.pages) < wanted:
            assert time.monotonic() < end, self.failures
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


# The server needs a while before it serves; what it serves is its version.
WEB = """
services:
  web:
    image: busybox
    command: [sh, -c, "sleep 0.4; mkdir /www; echo $$VERSION > /www/index.html; COMMAND"]
    environment: {VERSION: "one"}
    stop_signal: SIGKILL
    ports: ["PORT:80"]
    x-ready: {http: 80, interval: 50ms, timeout: 5s}
    deploy:
      update_config: {order: start-first, failure_action: rollback}
  client:
    image: busybox
    command: [sh, -c, "while :; do wget -q -O - http://web/ || echo failed; sleep 0.01; done"]
    stop_signal: SIGKILL
    depends_on: [web]
"""


def test_no_request_fails_while_a_service_is_updated(stack):
    port = free_port()
    text = WEB.replace("PORT", str(port)).replace("COMMAND", "exec httpd -f -p 80 -h /www")
    stack.write(text)
    stack("up", "-d")
    before = stack.containers()
    with Load(port) as load:
        # A connection that is open before goes on with the old one, whatever its version.
        open_before = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        open_before.connect()
        stack.write(text.replace('"one"', '"two"'))
        plan = stack("plan").stdout
        assert "± update container u-web-1: definition changed" in plan
        assert 'environment.VERSION: "one" -> "two"' in plan
        assert "start-first, 1 at a time, on failure rollback" in plan
        finish = threading.Timer(3, lambda: open_before.request("GET", "/"))
        finish.start()
        stack("up", "-d")
        assert open_before.getresponse().read() == b"one\n"
        open_before.close()
        load.wait_for(20)
    assert load.failures == []
    assert set(load.pages) == {"one", "two"}
    assert set(load.pages[-15:]) == {"two"}
    seen = stack("logs", "--no-log-prefix", "client").stdout.split()
    assert set(seen) == {"one", "two"}
    after = stack.containers()
    assert after["u-client-1"] == before["u-client-1"]
    assert after["u-web-1"] != before["u-web-1"]
    assert "Nothing to do" in stack("plan").stdout


def test_a_new_version_that_does_not_get_ready_rolls_back_by_itself(stack):
    port = free_port()
    text = WEB.replace("PORT", str(port)).replace("timeout: 5s", "timeout: 1s")
    good = text.replace("COMMAND", "exec httpd -f -p 80 -h /www")
    stack.write(good)
    stack("up", "-d")
    before = stack.containers()
    with Load(port) as load:
        stack.write(text.replace("COMMAND", "echo no socket; sleep 1000"))
        done = stack("up", "-d", check=False)
        load.wait_for(20)
    assert done.returncode == 1
    assert "service 'web' was not ready within 1 s" in done.stderr
    assert "last probe: http: " in done.stderr
    assert "no socket" in done.stderr
    assert "left as it was: u-web-1" in done.stderr
    assert load.failures == []
    assert set(load.pages) == {"one"}
    assert stack.containers() == before
    stack.write(good)
    assert "Nothing to do" in stack("plan").stdout
