"""What a stack file promises, seen in running containers."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.peers import EVERY_ENGINE
from tests.system.stackfolder import StackFolder

pytestmark = [
    pytest.mark.root,
    pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True),
]

PORT = free_port()

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def engine(any_engine):
    return any_engine


@pytest.fixture
def stack(engine, tmp_path):
    """Write a stack file and type commands beside it; the stack is gone afterwards."""
    engine.import_busybox()

    class Stack(StackFolder):
        def container_ids(self) -> dict[str, str]:
            lines = engine.docker(
                "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}}"
            ).stdout.splitlines()
            return dict(line.split() for line in lines)

    yield Stack(engine, tmp_path, "t")
    engine.stackctl("-p", "t", "down", "-v", cwd=tmp_path)


SLEEPER = """
services:
  one:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    environment: {COLOUR: red}
  two:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
"""


def test_a_changed_service_recreates_only_itself(stack):
    stack.write(SLEEPER)
    stack("up", "-d")
    before = stack.container_ids()
    stack.write(SLEEPER.replace("red", "blue"))
    plan = stack("plan").stdout
    assert "one" in plan
    assert "environment" in plan
    assert "two" not in plan
    stack("up", "-d")
    after = stack.container_ids()
    assert before["t-two-1"] == after["t-two-1"]
    assert before["t-one-1"] != after["t-one-1"]
    assert sorted(after) == ["t-one-1", "t-two-1"]
    assert stack("exec", "-T", "one", "sh", "-c", "echo $COLOUR").stdout == "blue\n"


def test_a_removed_service_is_an_orphan_until_its_removal_is_asked_for(stack):
    stack.write(SLEEPER)
    stack("up", "-d")
    stack.write("services:\n" + SLEEPER.split("services:\n")[1].split("  two:")[0])
    done = stack("up", "-d")
    assert "two" in done.stderr
    assert "t-two-1" in stack.container_ids()
    stack("up", "-d", "--remove-orphans")
    assert sorted(stack.container_ids()) == ["t-one-1"]


def test_what_died_or_went_missing_is_repaired(stack, engine):
    stack.write(SLEEPER)
    stack("up", "-d")
    engine.docker("kill", "t-one-1")
    engine.docker("rm", "-f", "t-two-1")
    stack("up", "-d")
    assert stack.inspect("t-one-1")["State"]["Status"] == "running"
    assert stack.inspect("t-two-1")["State"]["Status"] == "running"
    assert "Nothing to do" in stack("plan").stdout


def test_the_everyday_keys_reach_the_container(stack, engine):
    (stack.folder / "vars.env").write_text("FROM_FILE=yes\nBOTH=file\n")
    (stack.folder / "token.txt").write_text("s3cret\n")
    (stack.folder / ".env").write_text("WHO=world\n")
    stack.write("""
services:
  all:
    image: busybox
    entrypoint: [sh, -c]
    command: ["trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    environment: {GREETING: "hello ${WHO}", BOTH: file}
    env_file: vars.env
    user: "1000:1000"
    working_dir: /tmp
    hostname: box
    labels: {tier: test}
    secrets: [token]
    configs:
      - source: motd
        target: /etc/motd
    init: true
    mem_limit: 64m
    cpus: 0.5
    ulimits: {nofile: {soft: 256, hard: 512}}
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
    read_only: true
    tmpfs: [/scratch]
    extra_hosts: ["other:10.1.2.3"]
    sysctls: {net.core.somaxconn: "99"}
    shm_size: 8m
    stop_signal: SIGTERM
    stop_grace_period: 3s
    volumes:
      - data:/data
      - ./:/here:ro
      - type: tmpfs
        target: /mem
        tmpfs: {size: 1m}
volumes: {data: {}}
secrets: {token: {file: token.txt}}
configs: {motd: {content: "welcome ${WHO}\\n"}}
""")
    if engine.globals:  # Docker and Podman have no way to put such a config in; ours has
        refused = stack("up", "-d", check=False)
        assert refused.returncode == 1
        assert "read_only" in refused.stderr
        (stack.folder / "motd").write_text("welcome world\n")
        file = stack.folder / "stack.yaml"
        file.write_text(re.sub(r"motd: \{content.*", "motd: {file: motd}}", file.read_text()))
    stack("up", "-d")

    def sh(script: str) -> str:
        return stack("exec", "-T", "all", "sh", "-c", script).stdout.strip()

    assert sh("echo $GREETING $FROM_FILE $BOTH") == "hello world yes file"
    assert sh("id -u; id -g; pwd; hostname").split() == ["1000", "1000", "/tmp", "box"]
    assert sh("cat /run/secrets/token /etc/motd").split() == ["s3cret", "welcome", "world"]
    assert sh("ulimit -n; ulimit -Hn").split() == ["256", "512"]
    assert sh("grep CapBnd /proc/self/status").split()[1] == f"{1 << 10:016x}"
    assert sh("touch /x 2>&1 || echo refused").endswith("refused")
    assert sh("touch /scratch/x && echo ok") == "ok"
    assert "10.1.2.3" in sh("grep other /etc/hosts")
    assert sh("cat /proc/sys/net/core/somaxconn") == "99"
    assert sh("df -k /dev/shm | tail -1").split()[1] == "8192"
    assert sh("df -k /mem | tail -1").split()[1] == "1024"
    assert sh("ls /here/stack.yaml; touch /here/x 2>&1 || echo refused").endswith("refused")
    assert sh("cat /proc/1/cmdline | tr '\\0' ' '").split()[0].endswith("init")
    host = stack.inspect("t-all-1")["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (64 << 20, 500_000_000)
    started = time.monotonic()
    stack("stop")
    assert time.monotonic() - started < 3
    assert stack.inspect("t-all-1")["State"]["ExitCode"] in (0, 143)


def test_networks_isolate_and_names_and_aliases_resolve(stack):
    stack.write("""
services:
  a: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, networks: {left: {aliases: [alpha]}}}
  b: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, networks: [left, right]}
  c: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, networks: [right]}
networks: {left: {}, right: {internal: true}}
""")
    stack("up", "-d")

    def ping(source: str, target: str) -> bool:
        return (
            stack("exec", "-T", source, "ping", "-c1", "-W1", target, check=False).returncode == 0
        )

    assert ping("b", "alpha")
    assert ping("b", "a")
    assert ping("b", "t-c-1")
    assert ping("a", "b")
    assert not ping("a", "c")
    address = stack.inspect("t-c-1")["NetworkSettings"]["Networks"]["t_right"]["IPAddress"]
    assert not ping("a", address)


def test_depends_on_orders_by_health_and_by_completion(stack):
    stack.write("""
services:
  db:
    image: busybox
    command: [sh, -c, "sleep 0.5; touch /ready; sleep 1000"]
    stop_signal: SIGKILL
    healthcheck: {test: [CMD, test, -e, /ready], interval: 100ms, retries: 100}
  migrate:
    image: busybox
    command: [sh, -c, "echo migrated"]
    depends_on: {db: {condition: service_healthy}}
  app:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    depends_on: {migrate: {condition: service_completed_successfully}}
""")
    stack("up", "-d", "--wait")
    started = {
        name: stack.inspect(f"t-{name}-1")["State"]["StartedAt"]
        for name in ("db", "migrate", "app")
    }
    assert started["db"] < started["migrate"] < started["app"]
    assert stack.inspect("t-migrate-1")["State"]["FinishedAt"] < started["app"]
    assert "Nothing to do" in stack("plan").stdout


def test_a_failing_dependency_says_why(stack):
    stack.write("""
services:
  job: {image: busybox, command: [sh, -c, "echo the disk is on fire; exit 4"]}
  app:
    image: busybox
    command: [sleep, "1000"]
    depends_on: {job: {condition: service_completed_successfully}}
""")
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    for part in ("job", "the disk is on fire", "4", "app"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_profiles_switch_services_on(stack):
    stack.write("""
services:
  always: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL}
  extra: {image: busybox, command: [sleep, "1000"], stop_signal: SIGKILL, profiles: [debug]}
""")
    stack("up", "-d")
    assert sorted(stack.container_ids()) == ["t-always-1"]
    stack("--profile", "debug", "up", "-d")
    assert sorted(stack.container_ids()) == ["t-always-1", "t-extra-1"]
    stack("--profile", "debug", "down")


def test_restart_policies_bring_it_back(stack):
    stack.write("""
services:
  again: {image: busybox, command: [sh, -c, "sleep 0.2; exit 1"], restart: "on-failure:2"}
""")
    stack("up", "-d")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        container = stack.inspect("t-again-1")
        if container["RestartCount"] == 2 and container["State"]["Status"] == "exited":
            break
        time.sleep(0.1)
    assert (container["RestartCount"], container["State"]["ExitCode"]) == (2, 1)


def test_volumes_keep_data_until_down_v(stack):
    stack.write("""
services:
  w: {image: busybox, command: [sh, -c, "echo kept >> /data/file; cat /data/file"], volumes: ["data:/data"]}
volumes: {data: {}}
""")
    stack("up")
    stack("down")
    done = stack("up", "--no-log-prefix")
    assert done.stdout.count("kept") == 2
    stack("down", "-v")
    done = stack("up", "--no-log-prefix")
    assert done.stdout.count("kept") == 1


def test_published_ports_answer_on_localhost_and_the_hosts_addresses(stack, engine):
    (stack.folder / "index.html").write_text("page\n")
    stack.write(
        """
services:
  web:
    image: busybox
    command: [httpd, -f, -p, "80", -h, /www]
    volumes: ["./:/www:ro"]
    stop_signal: SIGKILL
    ports: ["PORT:80"]
    x-ready: {tcp: 80}
""".replace("PORT", str(PORT))
    )
    stack("up", "-d", "--wait")
    own = engine.beside("hostname", "-I").split()
    for host in ["127.0.0.1", "[::1]", *[a for a in own if ":" not in a][:2]]:
        url = f"http://{host}:{PORT}/index.html"
        assert engine.beside("busybox", "wget", "-qO-", url) == "page\n", host
    assert stack("port", "web", "80").stdout.strip() == f"0.0.0.0:{PORT}"


def test_attached_up_streams_prefixed_logs_and_ctrl_c_stops_the_stack(stack, engine):
    stack.write("""
services:
  talk: {image: busybox, command: [sh, -c, "trap 'exit 0' TERM; while :; do echo word; sleep 0.1; done"]}
""")
    up = subprocess.Popen(
        [*engine.argv, "up"],
        cwd=stack.folder,
        env={**engine.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = [up.stdout.readline() for _ in range(3)]
    assert any("talk" in line and "word" in line for line in lines), lines
    up.send_signal(signal.SIGINT)
    _, errors = up.communicate(timeout=30)
    assert up.returncode == 130, errors
    assert "Traceback" not in errors
    assert stack.inspect("t-talk-1")["State"]["Status"] == "exited"


def test_two_ups_at_once_serialise(stack, engine):
    stack.write(SLEEPER)
    ups = [
        subprocess.Popen(
            [*engine.argv, "up", "-d"],
            cwd=stack.folder,
            env={**engine.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for up in ups:
        _, errors = up.communicate(timeout=60)
        assert up.returncode == 0, errors
    assert sorted(stack.container_ids()) == ["t-one-1", "t-two-1"]
