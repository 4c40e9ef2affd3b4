"""The library on the real thing: what a program does with a stack."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from stackctl import AsyncStack, Stack
from stackctl.errors import (
    ConflictError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    StackctlError,
    StackFileError,
)

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
YAML = """
name: lib
services:
  web:
    image: busybox
    command: [sh, -c, 'echo ready to serve on $$PORT; echo trouble >&2; exec httpd -f -p 8000 -h /data']
    environment: {PORT: "8000", WHO: "${WHO:-nobody}"}
    stop_signal: SIGKILL
    ports: ["127.0.0.1::8000"]
    volumes: [data:/data]
    healthcheck: {test: [CMD-SHELL, "netstat -ltn | grep -q :8000"], interval: 1s, start_interval: 50ms, start_period: 20s}
  cache:
    image: busybox
    ports: ["127.0.0.1::9"]
    command: [sleep, "1000"]
    stop_signal: SIGKILL
volumes:
  data: {}
"""


@pytest.fixture
def env(engine, monkeypatch):
    engine.import_busybox()
    for name in ("DOCKER_HOST", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    yield engine
    assert _left(engine) == []


def _left(engine) -> list[str]:
    names = engine.docker("ps", "-aq").stdout.split()
    names += engine.docker("volume", "ls", "-q").stdout.split()
    nets = engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    return [*names, *(name for name in nets if name not in ("bridge", "host", "none"))]


def fetch(address, path: str) -> str:
    return urllib.request.urlopen(f"http://{address}{path}", timeout=10).read().decode()


def test_a_stack_comes_up_is_used_and_goes(env):
    with Stack(yaml=YAML, environment={"WHO": "me"}) as stack:
        web = stack.service("web")
        assert stack.services == ("cache", "web")
        host, port = web.port(8000)
        assert host == "127.0.0.1"
        done = web.exec(
            "sh", "-c", "echo $WHO $MORE; echo x >&2; id -u", environment={"MORE": "1"}, user="1000"
        )
        assert (done.stdout, done.stderr, done.exit_code) == ("me 1\n1000\n", "x\n", 0)
        web.exec("sh", "-c", "echo hello > index.html", workdir="/data")
        assert fetch(web.port(8000), "/index.html") == "hello\n"
        assert web.wait_for_log(r"serve on \d+") == "ready to serve on 8000"
        assert web.wait_for_log("trouble") == "trouble"
        assert web.logs(tail=5).splitlines()[0] in ("ready to serve on 8000", "trouble")
        assert set(stack.logs()) == {"web-1", "cache-1"}
        assert web.inspect()["Config"]["Image"] == "busybox"
        with socket.create_connection((host, port), timeout=5):
            pass
        lease = json.loads(_ask(env, "/_stackctl/v1/leases"))[0]
        assert lease["Pid"] == os.getpid()
    assert json.loads(_ask(env, "/_stackctl/v1/leases")) == []


def _ask(engine, path: str) -> str:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(engine.paths.socket))
        link.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        data = b"".join(iter(lambda: link.recv(65536), b""))
    return data.partition(b"\r\n\r\n")[2].decode()


def test_two_of_the_same_stack_do_not_meet_and_data_is_made_anew_on_request(env):
    with Stack(yaml=YAML) as one, Stack(yaml=YAML) as two:
        assert one.name != two.name
        for number, stack in enumerate((one, two)):
            stack.service("web").exec("sh", "-c", f"echo {number} > /data/n")
        assert [fetch(stack.service("web").port(8000), "/n") for stack in (one, two)] == [
            "0\n",
            "1\n",
        ]
        cache = one.service("cache").inspect()["Id"]
        address = one.service("web").port(8000)
        one.reset()
        assert one.service("web").port(8000) == address
        assert one.service("web").exec("ls", "/data").stdout == ""
        assert one.service("cache").inspect()["Id"] == cache
        assert fetch(two.service("web").port(8000), "/n") == "1\n"
        # A second time is no different, and nothing is to be done afterwards.
        one.reset()
        web = one.service("web").inspect()["Id"]
        one.up()
        assert one.service("web").inspect()["Id"] == web
        two.service("web").kill()
        with pytest.raises((ConflictError, StackctlError), match="running"):
            two.service("web").exec("true")
        two.up()
        assert two.service("web").exec("cat", "/data/n").stdout == "1\n"


def test_a_named_stack_is_the_one_the_command_line_sees(env, tmp_path):
    (tmp_path / "stack.yaml").write_text(YAML)
    stack = Stack(tmp_path / "stack.yaml", isolate=False, lease=False)
    assert stack.name == "lib"
    stack.up("cache")
    assert env.stackctl("ps", "--services", cwd=tmp_path).stdout == "cache\n"
    stack.down()
    stack.down()


def test_ports_that_somebody_took_meanwhile_are_new_ones(env, monkeypatch):
    with Stack(yaml=YAML) as stack:
        before = stack.service("web").port(8000)
        taker = socket.socket()
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        apply, taken = Stack._apply, []

        def take(self, plan) -> None:
            apply(self, plan)
            if not taken:
                taker.bind(before)
                taker.listen()
                taken.append(before)

        monkeypatch.setattr(Stack, "_apply", take)
        with taker:
            stack.reset()
        assert stack.service("web").port(8000) != before
        assert stack.service("web").exec("ls", "/data").stdout == ""


async def test_the_same_for_asyncio(env):
    async with AsyncStack(yaml=YAML) as stack:
        web, cache = stack.service("web"), stack.service("cache")
        done, line = await asyncio.gather(cache.exec("echo", "x"), web.wait_for_log("ready"))
        assert (done.stdout, line) == ("x\n", "ready to serve on 8000")
        await web.restart()
        assert (await web.port(8000)).host == "127.0.0.1"
        assert set(await stack.logs(tail=1)) == {"web-1", "cache-1"}


async def test_a_cancelled_entry_leaves_nothing(env):
    async def enter() -> None:
        async with AsyncStack(yaml=YAML):
            pytest.fail("it was cancelled before")

    task = asyncio.create_task(enter())
    while not env.docker("ps", "-aq").stdout:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_stack_that_does_not_come_up_goes_again_and_its_logs_are_in_the_error(env):
    broken = YAML.replace("exec httpd -f -p 8000 -h /data", "exit 9")
    with pytest.raises(StackctlError, match="web") as caught, Stack(yaml=broken):
        pytest.fail("it came up")
    assert "ready to serve" in "".join(caught.value.__notes__)


def test_a_program_that_is_killed_leaves_nothing(env, tmp_path):
    (tmp_path / "stack.yaml").write_text(YAML)
    code = "import time; from stackctl import Stack; Stack('stack.yaml').up(); print('up', flush=True); time.sleep(1000)"
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**env.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout.readline() == "up\n"
        program.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _left(env):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_wrong_is_named(env, tmp_path):
    with pytest.raises(StackFileError, match="no stack file"):
        Stack(directory=tmp_path)
    with pytest.raises(StackFileError, match="nope"):
        Stack(tmp_path / "nope.yaml")
    with pytest.raises(InvalidInputError, match="from a file or from YAML"):
        Stack("stack.yaml", yaml=YAML)
    with pytest.raises(InvalidInputError, match="line breaks"):
        Stack(YAML)
    with pytest.raises(InvalidInputError, match="cannot have its name"):
        Stack(yaml=YAML, project="lib")
    stack = Stack(yaml=YAML)
    with pytest.raises(NotFoundError, match="no service wbe") as caught:
        stack.service("wbe")
    assert caught.value.hint == 'did you mean "web"?'
    with pytest.raises(NotFoundError, match="has no container"):
        stack.service("web").port(8000)
    with stack:
        web = stack.service("web")
        with pytest.raises(NotFoundError, match="does not publish 9/tcp"):
            web.port(9)
        with pytest.raises(NotFoundError, match="number 2"):
            web.port(8000, index=2)
        with pytest.raises(
            DeadlineError, match=r"did not say 'never' within 0.3 s(?s:.*)ready to serve"
        ):
            web.wait_for_log("never", timeout=0.3)
        with pytest.raises(InvalidInputError, match="no regular expression"):
            web.wait_for_log("(")
        with pytest.raises(StackctlError, match="exited with code 3: oops"):
            web.exec("sh", "-c", "echo oops; exit 3")
        assert web.exec("false", check=False).exit_code == 1
        with pytest.raises(InvalidInputError, match="no command"):
            web.exec()


def test_importing_stackctl_costs_nothing():
    code = "import sys, stackctl; print([n for n in sys.modules if n.startswith('stackctl.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"


def test_an_example_of_unittest_runs(env, tmp_path):
    (tmp_path / "stack.yaml").write_text(YAML)
    (tmp_path / "test_it.py").write_text(
        "import unittest\n"
        "from stackctl import Stack\n"
        "class It(unittest.TestCase):\n"
        "    @classmethod\n"
        "    def setUpClass(cls):\n"
        "        cls.stack = cls.enterClassContext(Stack('stack.yaml'))\n"
        "    def test_it(self):\n"
        "        self.assertEqual(self.stack.service('web').exec('echo', 'x').stdout, 'x\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest", "test_it"],
        cwd=tmp_path, env={**env.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
