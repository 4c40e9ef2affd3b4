"""When a service is ready: x-ready, healthchecks and jobs, as those that depend on them see it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.peers import EVERY_ENGINE
from tests.system.stackfolder import StackFolder

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def engine(any_engine):
    return any_engine


@pytest.fixture
def stack(engine, tmp_path):
    """Write a stack file and type commands beside it; the stack is gone afterwards."""
    engine.import_busybox()

    class Stack(StackFolder):
        def begin(self, *argv) -> subprocess.Popen:
            """Type a command and let it go on."""
            child = subprocess.Popen(
                [sys.executable, "-m", "stackctl", *engine.globals, *argv],
                cwd=tmp_path,
                env={**engine.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            begun.append(child)
            return child

        def state(self, service: str) -> str:
            form, name = "{{.State.Status}}", f"r-{service}-1"
            return engine.docker("inspect", "-f", form, name, check=False).stdout.strip()

        def until(self, condition) -> None:
            end = time.monotonic() + 60
            while not condition():
                assert time.monotonic() < end, "it did not come to pass"
                time.sleep(0.05)

    begun: list[subprocess.Popen] = []
    yield Stack(engine, tmp_path, "r")
    for child in begun:
        child.kill()
        child.communicate()
    engine.stackctl("-p", "r", "down", "-v", "-t", "0", cwd=tmp_path)


# It begins to serve, and says so, when it finds the file; nothing of it is published.
SERVER = """
    image: busybox
    command: [sh, -c, "until [ -e /go ]; do sleep 0.05; done; mkdir /www; echo ok > /www/health;
      httpd -p 80 -h /www; echo now serving; sleep 1000"]
    stop_signal: SIGKILL
"""
PROBES = {
    "tcp": "{tcp: 80}",
    "http": "{http: 80/health}",
    "status": "{http: {port: 80, path: health, status: 200-299}}",
    "log": "{log: '^now serv'}",
    "exec": "{exec: [test, -e, /www/health]}",
    "all": "{tcp: 80, http: 80/health, log: serving, exec: test -e /www/health, interval: 50ms}",
    # Without a network of its own it is looked at from inside.
    "inside": "{tcp: 80, http: 80/health}",
}


def test_dependents_start_when_every_probe_has_succeeded(stack, engine):
    text = "services:\n"
    for name, probe in PROBES.items():
        text += f"  {name}:{SERVER}    x-ready: {probe}\n"
        text += "    network_mode: none\n" if name == "inside" else ""
        text += (
            f"  after-{name}: {{image: busybox, command: [sleep, '1000'], stop_signal: SIGKILL, "
            f"depends_on: [{name}]}}\n"
        )
    stack.write(text)
    up = stack.begin("up", "-d")
    for name in PROBES:
        stack.until(lambda name=name: stack.state(name) == "running")
        assert stack.state(f"after-{name}") == "created"
    for name in PROBES:
        stack("exec", "-T", name, "touch", "/go")
        stack.until(lambda name=name: stack.state(f"after-{name}") == "running")
    assert up.wait(60) == 0
    plan = stack("plan").stdout
    assert "Nothing to do" in plan


def test_a_service_that_does_not_get_ready_says_what_its_probe_saw_and_who_waited(stack):
    stack.write(f"""
services:
  db:{SERVER}
    x-ready: {{http: 80/health, timeout: 60s}}
  app:
    image: busybox
    command: [sleep, "1000"]
    depends_on:
      db: {{condition: service_healthy, x-timeout: 700ms}}
  web: {{image: busybox, command: [sleep, "1000"], depends_on: [app]}}
""")
    plan = stack("plan").stdout
    assert "wait service db to be healthy within 0.7 s: others depend on it" in plan
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    assert "service 'db' was not healthy within 0.7 s" in done.stderr
    assert "last probe: http: " in done.stderr
    assert "Connection refused" in done.stderr
    assert "waited for it: app, web" in done.stderr


def test_wait_heeds_probes_and_shows_the_last_log_lines(stack):
    stack.write("""
services:
  db:
    image: busybox
    command: [sh, -c, "echo no disk; sleep 1000"]
    stop_signal: SIGKILL
    x-ready: {log: "accept connections", timeout: 500ms}
""")
    done = stack("up", "-d", "--wait", check=False)
    assert done.returncode == 1
    assert 'log: no line of its log matches "accept connections" yet' in done.stderr
    assert "last log lines:\n    no disk" in done.stderr
    stack.write("""
services:
  db:
    image: busybox
    command: [sh, -c, "echo no disk; sleep 1000"]
    stop_signal: SIGKILL
    x-ready: {log: "no (disk|tape)"}
""")
    assert "Nothing to do" in stack("plan").stdout  # how it is probed is no part of its container
    stack("up", "-d", "--wait")
    crash = SERVER.replace("sleep 1000", "exit 3")
    stack.write(f"services:\n  other:{crash}    x-ready: {{tcp: 81}}\n")
    up = stack.begin("up", "-d", "--wait")
    stack.until(lambda: stack.state("other") == "running")
    stack("exec", "-T", "other", "touch", "/go")
    assert up.wait(60) == 1
    assert "ended with exit code 3" in up.stderr.read()


JOB = """
services:
  migrate:
    image: busybox
    command: [sh, -c, 'echo step $$STEP; cat /seed; echo run >> /data/runs; exit $$(cat /data/code)']
    environment: {STEP: "1"}
    env_file: job.env
    configs: [{source: seed, target: /seed}]
    volumes: [data:/data]
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: [data:/data]
    depends_on:
      migrate: {condition: service_completed_successfully}
configs:
  seed: {file: ./seed.txt}
volumes: {data: {}}
"""


def test_a_job_runs_once_for_each_definition_and_input(stack):
    def runs() -> int:
        return len(stack("exec", "-T", "app", "cat", "/data/runs").stdout.splitlines())

    (stack.folder / "job.env").write_text("A=1\n")
    (stack.folder / "seed.txt").write_text("first\n")
    stack.write(JOB.replace("; exit $$(cat /data/code)", ""))
    stack("up", "-d")
    assert runs() == 1
    for _ in range(2):
        assert "Nothing to do" in stack("plan").stdout
        stack("up", "-d", "--wait")
    assert runs() == 1
    for number, change in enumerate(("job.env", "seed.txt", "definition"), start=2):
        if change == "definition":
            stack.write(JOB.replace("; exit $$(cat /data/code)", "").replace('"1"', '"2"', 1))
        else:
            (stack.folder / change).write_text("A=2\n")
        plan = stack("plan").stdout
        assert "recreate container r-migrate-1" in plan
        assert "app" not in plan
        stack("up", "-d")
        assert runs() == number, change
        assert "Nothing to do" in stack("plan").stdout


def test_a_failing_job_fails_up_with_its_log_and_runs_again_until_it_succeeds(stack):
    (stack.folder / "job.env").write_text("A=1\n")
    (stack.folder / "seed.txt").write_text("the seed\n")
    stack.write(JOB.replace("exit $$(cat /data/code)", "exit 5"))
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    assert "container r-migrate-1 ended with exit code 5" in done.stderr
    assert "step 1" in done.stderr
    assert "the seed" in done.stderr
    assert "waited for it: app" in done.stderr
    assert "start container r-migrate-1: not running (exited with code 5)" in stack("plan").stdout
    stack.write(JOB.replace("exit $$(cat /data/code)", "exit 0"))
    stack("up", "-d")
    assert stack.state("app") == "running"
    # The job alone changes: nobody has to be started, and still ``up`` tells how it ended.
    stack.write(JOB.replace("exit $$(cat /data/code)", "exit 6"))
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    assert "ended with exit code 6" in done.stderr
    assert stack.state("app") == "running"
