"""Hooks, replicas, limits and restart policies: what the engine is told, seen in running containers."""

import time

import pytest

from tests.peers import EVERY_ENGINE
from tests.system.stackfolder import StackFolder

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True),
]


@pytest.fixture(scope="module")
def engine(any_engine):
    return any_engine


@pytest.fixture
def stack(engine, tmp_path):
    """Write a stack file and type commands beside it; the stack is gone afterwards."""
    engine.import_busybox()

    class Stack(StackFolder):
        def names(self) -> list[str]:
            form = "{{.Names}} {{.State}}"
            return sorted(engine.docker("ps", "-a", "--format", form).stdout.splitlines())

        def containers(self) -> dict[str, str]:
            """Return the IDs of the running containers by name; none is there that does not run."""
            form = "{{.Names}} {{.ID}} {{.State}}"
            found = [
                line.split()
                for line in engine.docker("ps", "-a", "--format", form).stdout.splitlines()
            ]
            assert {state for _, _, state in found} <= {"running"}
            return {name: identity for name, identity, _ in found}

        def said(self) -> list[str]:
            return stack("exec", "-T", "app", "cat", "/data/log").stdout.splitlines()

    stack = Stack(engine, tmp_path, "l")
    yield stack
    engine.stackctl("-p", "l", "down", "-v", "-t", "0", cwd=tmp_path)


HOOKED = """
services:
  db:
    image: busybox
    command: [sh, -c, "mkdir /www; echo up > /www/db; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    x-ready: {tcp: 80}
  app:
    image: busybox
    user: "7"
    working_dir: /data
    environment: {WHO: app, LEVEL: low}
    command: [sh, -c, "echo started $$HOSTNAME >> /data/log; trap 'exit 0' TERM; while :; do sleep 0.05; done"]
    volumes: ["data:/data"]
    scale: 2
    depends_on: [db]
    secrets: [token]
    pre_start:
      - {command: [sh, -c, "wget -q -O - http://db/db >> /data/log; cat /run/secrets/token >> /data/log"], user: root}
      - {command: [sh, -c, "pwd; chmod 777 /data /data/log; echo shared $$WHO $$LEVEL >> log"],
         image: other, user: root, working_dir: /data, environment: {LEVEL: high}}
      - {command: [sh, -c, "echo each $$(id -u) >> log"], per_replica: true}
    post_start:
      - {command: [sh, -c, "echo after $$LEVEL >> /data/log; touch /tmp/ran"], environment: {LEVEL: mid}}
    pre_stop:
      - {command: [sh, -c, "echo before the end >> /data/log"]}
secrets: {token: {environment: TOKEN}}
volumes: {data: {}}
"""


def test_hooks_run_in_order_once_or_for_each_replica(stack, engine):
    engine.import_busybox("other")
    (stack.folder / ".env").write_text("TOKEN=t0ken\n")
    stack.write(HOOKED.replace("t0ken", "t0ken\\n"))
    plan = stack("plan").stdout
    assert "run hook container l-app-1 pre_start 1" in plan
    assert "run hook container l-app-2 pre_start 3" in plan
    assert "run hook container l-app-2 pre_start 1" not in plan
    stack("up", "-d")
    said = stack.said()
    assert said[:2] == ["up", "t0kenshared app high"]
    assert said.count("each 7") == 2
    assert said.count("after mid") == 2
    assert sum(line.startswith("started") for line in said) == 2
    assert all(
        said.index("each 7") < n for n, line in enumerate(said) if line.startswith("started")
    )
    # What has succeeded is not run again, neither for a restart nor for a container started anew.
    assert "Nothing to do" in stack("plan").stdout
    stack("stop", "app")
    stack("up", "-d")
    said = stack.said()
    assert said.count("before the end") == 2
    assert said.count("after mid") == 4
    assert sum("shared" in line for line in said) == 1
    stack("restart", "app")
    said = stack.said()
    assert said.count("before the end") == 4
    assert said.count("after mid") == 6
    assert said.count("each 7") == 2
    stack(
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "app",
        "sh",
        "-c",
        "until [ -e /tmp/ran ]; do sleep 0.05; done",
    )
    # A changed step runs again, with the service made anew.
    stack.write(HOOKED.replace("echo shared", "echo changed"))
    assert "pre_start" in stack("plan").stdout
    stack("up", "-d")
    assert sum("changed app" in line for line in stack.said()) == 1
    assert stack.names() == ["l-app-1 running", "l-app-2 running", "l-db-1 running"]
    stack.write(HOOKED.replace("echo before the end >> /data/log", "echo no; exit 4"))
    done = stack("stop", "app", check=False)
    assert done.returncode == 1
    assert "service 'app': pre_stop hook" in done.stderr
    assert "ended with exit code 4: no" in done.stderr
    stack.write(HOOKED)


def test_a_failing_hook_says_why_and_is_tried_again(stack):
    def text(pre: str, post: str) -> str:
        return f"""
services:
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    pre_start: [{{command: [sh, -c, "{pre}"]}}]
    post_start: [{{command: [sh, -c, "{post}"]}}]
  web: {{image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, depends_on: [app]}}
"""

    stack.write(text("echo no schema; exit 3", "true"))
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    assert "service 'app': pre_start hook" in done.stderr
    assert "ended with exit code 3" in done.stderr
    assert "no schema" in done.stderr
    assert "waited for it: web" in done.stderr
    assert stack.names() == []
    stack.write(text("true", "echo not now; exit 5"))
    done = stack("up", "-d", check=False)
    assert "post_start hook" in done.stderr
    assert "ended with exit code 5: not now" in done.stderr
    stack.write(text("true", "true"))
    stack("up", "-d")
    assert stack.names() == ["l-app-1 running", "l-web-1 running"]


def test_replicas_limits_and_restart_policies_are_honoured(stack):
    text = """
services:
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    deploy:
      mode: replicated
      replicas: 3
      labels: {not: on the container}
      resources:
        limits: {cpus: "0.25", memory: 48M, pids: 33}
        reservations: {memory: 24M}
      restart_policy: {condition: on-failure, max_attempts: 4, delay: 1s}
  fails:
    image: busybox
    command: [sh, -c, "exit 9"]
    deploy: {restart_policy: {condition: on-failure, max_attempts: 2}}
  none: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, deploy: {replicas: 0}}
"""
    stack.write(text)
    stack("up", "-d")
    assert [name for name in stack.names() if "web" in name] == [
        f"l-web-{number} running" for number in (1, 2, 3)
    ]
    assert not [name for name in stack.names() if "none" in name]
    host = stack.inspect("l-web-2")["HostConfig"]
    assert host["NanoCpus"] == 250_000_000
    assert host["Memory"] == 48 << 20
    assert host["MemoryReservation"] == 24 << 20
    assert host["PidsLimit"] == 33
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}
    end = time.monotonic() + 60
    while (found := stack.inspect("l-fails-1"))["State"]["Status"] != "exited" or found["RestartCount"] < 2:  # fmt: skip
        assert time.monotonic() < end
        time.sleep(0.05)
    assert found["RestartCount"] == 2
    assert found["State"]["ExitCode"] == 9
    ids = {number: stack.inspect(f"l-web-{number}")["Id"] for number in (1, 2, 3)}
    stack.write(text.replace("replicas: 3", "replicas: 2"))
    plan = stack("plan", "web").stdout
    assert "remove container l-web-3: scaled down to 2" in plan
    stack("up", "-d", "web")
    stack.write(text.replace("replicas: 3", "replicas: 4"))
    stack("up", "-d", "web")
    assert [name for name in stack.names() if "web" in name] == [
        f"l-web-{number} running" for number in (1, 2, 3, 4)
    ]
    assert stack.inspect("l-web-1")["Id"] == ids[1]
    assert stack.inspect("l-web-3")["Id"] != ids[3]
    assert "Nothing to do" in stack("plan", "web").stdout
    # A limit is part of what a container is made from.
    stack.write(text.replace("replicas: 3", "replicas: 4").replace("48M", "56M"))
    assert "deploy.limits.memory: 50331648 -> 58720256" in stack("plan", "web").stdout


def test_run_brings_up_what_the_service_needs_as_it_needs_it(stack):
    stack.write("""
services:
  db:
    image: busybox
    command: [sh, -c, "sleep 0.3; mkdir /www; echo rows > /www/table; exec httpd -f -p 80 -h /www"]
    stop_signal: SIGKILL
    x-ready: {http: 80/table}
  seed:
    image: busybox
    command: [sh, -c, "echo seeded > /data/seed"]
    volumes: ["data:/data"]
  slow:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    healthcheck: {test: "false", interval: 50ms, retries: 1}
  cli:
    image: busybox
    profiles: [tools]
    command: [sh, -c, "cat /data/seed; wget -q -O - http://db/table"]
    volumes: ["data:/data"]
    depends_on:
      db: {condition: service_healthy}
      seed: {condition: service_completed_successfully}
      slow: {condition: service_started}
volumes: {data: {}}
""")
    done = stack("run", "--rm", "-T", "cli")
    assert done.stdout == "seeded\nrows\n"
    assert stack.names() == ["l-db-1 running", "l-seed-1 exited", "l-slow-1 running"]
    # A profile's service is started when it is named, and not otherwise.
    assert "cli" not in stack("plan").stdout
    assert "create container l-cli-1" in stack("--profile", "tools", "plan").stdout
    assert stack("run", "--rm", "-T", "--no-deps", "cli", "echo", "alone").stdout == "alone\n"


# Each container counts itself among those of its version; the second one of the version "bad" does not get healthy.
MANY = """
services:
  web:
    image: busybox
    command: [sh, -c, "n=0; until mkdir /n/$$VERSION.$$n; do n=$$((n+1)); done; echo $$VERSION.$$n;
      [ $$VERSION.$$n = bad.1 ] || touch /ok; sleep 1000"]
    environment: {VERSION: "one"}
    volumes: ["data:/n"]
    stop_signal: SIGKILL
    scale: 2
    healthcheck: {test: "[ -e /ok ]", interval: 100ms, retries: 10}
    deploy:
      update_config: UPDATE
volumes: {data: {}}
"""


def test_what_was_updated_before_a_failure_is_rolled_back(stack, engine):
    text = MANY.replace("UPDATE", "{parallelism: 1, failure_action: rollback, order: ORDER}")
    for order in ("start-first", "stop-first"):
        chosen = text.replace("ORDER", order)
        stack.write(chosen)
        stack("up", "-d", "--wait")
        before = stack.containers()
        stack.write(chosen.replace('"one"', '"bad"'))
        done = stack("up", "-d", check=False)
        assert done.returncode == 1, order
        assert "is unhealthy" in done.stderr
        if order == "start-first" and engine.globals:
            assert "service 'web': each container is stopped before" in done.stderr
        assert "rolled back to the former definition: l-web-1" in done.stderr
        assert "left as it was: l-web-2" in done.stderr
        assert stack.containers() == before
        stack.write(chosen)
        assert "Nothing to do" in stack("plan").stdout
        stack("down", "-v", "-t", "0")
