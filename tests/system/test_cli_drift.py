"""What changes behind our back is seen and repaired; what is interrupted can be finished or taken down."""

import json
import os
import signal
import subprocess

import pytest

from tests.peers import EVERY_ENGINE, PodmanEngine

pytestmark = [pytest.mark.root, pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True)]

FILE = """
name: d
services:
  web:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [front, back]
    configs: [{source: motd, target: /motd}]
    secrets: [token]
    env_file: vars.env
    depends_on: {db: {condition: service_healthy}}
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [back]
    volumes: ["data:/data"]
    healthcheck: {test: ["CMD", "true"], interval: 0.2s}
networks: {front: {}, back: {}}
volumes: {data: {}}
configs: {motd: {file: motd.txt}}
secrets: {token: {file: token.txt}}
"""
NOTHING = "Nothing to do"


@pytest.fixture(scope="module")
def engine(any_engine):
    return any_engine


@pytest.fixture
def cli(engine, tmp_path):
    """Type commands beside a stack file; the stack is gone afterwards."""
    engine.import_busybox()
    # Podman's probes need systemd's timers.
    probes = "service_started" if isinstance(engine, PodmanEngine) else "service_healthy"
    (tmp_path / "stack.yaml").write_text(FILE.replace("service_healthy", probes))
    (tmp_path / "motd.txt").write_text("first\n")
    (tmp_path / "token.txt").write_text("one\n")
    (tmp_path / "vars.env").write_text("LEVEL=1\n")

    def type_(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.folder = tmp_path
    type_.engine = engine
    yield type_
    engine.stackctl("-p", "d", "down", "-v", cwd=tmp_path, check=False)


def ids(cli) -> dict[str, str]:
    lines = cli("-p", "d", "ps", "-a", "--format", "json").stdout.splitlines()
    return {entry["Service"]: entry["ID"] for entry in map(json.loads, lines)}


def repaired(cli, *words: str) -> None:
    """The plan says what is wrong, ``up`` mends it, and then there is nothing to do."""
    plan = cli("plan", "--detailed-exitcode", check=False)
    assert plan.returncode == 2, plan.stdout
    for word in words:
        assert word in plan.stdout
    cli("up", "-d")
    assert NOTHING in cli("plan", "--detailed-exitcode").stdout
    states = [
        json.loads(line)["State"]
        for line in cli("ps", "-a", "--format", "json").stdout.splitlines()
    ]
    assert states == ["running", "running"]


def test_a_container_taken_out_of_a_network_is_put_back(cli):
    cli("up", "-d")
    before = ids(cli)
    cli.engine.docker("network", "disconnect", "d_front", "d-web-1")
    repaired(cli, "d-web-1", "front")
    assert ids(cli)["db"] == before["db"]
    networks = json.loads(cli.engine.docker("inspect", "d-web-1").stdout)[0]["NetworkSettings"]
    assert {*networks["Networks"]} == {"d_front", "d_back"}
    cli("exec", "-T", "web", "ping", "-c", "1", "-W", "2", "db")


def test_a_network_that_was_removed_is_made_again(cli):
    cli("up", "-d")
    cli.engine.docker("network", "disconnect", "-f", "d_front", "d-web-1")
    cli.engine.docker("network", "rm", "d_front")
    repaired(cli, "create network d_front")


def test_a_volume_that_was_removed_is_made_again(cli):
    cli("up", "-d")
    cli.engine.docker("rm", "-f", "d-db-1")
    cli.engine.docker("volume", "rm", "d_data")
    repaired(cli, "create volume d_data", "d-db-1")


def test_what_was_stopped_or_killed_runs_again(cli):
    cli("up", "-d")
    before = ids(cli)
    cli.engine.docker("stop", "-t", "0", "d-web-1")
    cli.engine.docker("kill", "d-db-1")
    repaired(cli, "start container d-web-1", "start container d-db-1")
    assert ids(cli) == before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("motd.txt", "second\n", "config"),
        ("token.txt", "two\n", "secret"),
        ("vars.env", "LEVEL=2\n", "environment.LEVEL"),
    ],
)
def test_changed_content_of_an_input_recreates_those_who_use_it(cli, name, text, said):
    cli("up", "-d")
    before = ids(cli)
    (cli.folder / name).write_text(text)
    repaired(cli, said, "d-web-1")
    after = ids(cli)
    assert after["web"] != before["web"]
    assert after["db"] == before["db"]
    shown = cli("exec", "-T", "web", "sh", "-c", "cat /motd /run/secrets/token; echo LEVEL=$LEVEL")
    assert text in shown.stdout
    assert "two" not in cli("plan", "--format", "json").stdout


def test_nothing_is_to_be_done_after_the_daemon_was_replaced(cli):
    cli("up", "-d")
    before = ids(cli)
    cli.engine.restart()
    assert NOTHING in cli("plan").stdout
    cli("up", "-d")
    assert ids(cli) == before


def interrupted(cli, number: signal.Signals, after: int) -> bool:
    """Start ``up`` and send it a signal when it has begun so many operations; False when it had fewer."""
    process = subprocess.Popen(
        [*cli.engine.argv, "--progress", "json", "up", "-d"],
        cwd=cli.folder,
        env={**cli.engine.environ, "PYTHONPATH": os.getcwd()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = 0
    with process:
        for line in process.stderr:
            begun += line.startswith("{") and json.loads(line)["step"] == "started"
            if begun == after:
                process.send_signal(number)
                break
        process.stderr.read()
        code = process.wait(60)
    if begun == after:
        # At the last operation it may be done before the signal arrives.
        assert code in (130, 143, -9, 0)
    return begun == after


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, marks=pytest.mark.long),
    ],
)
def test_up_interrupted_at_any_operation_can_be_finished_and_taken_down(cli, number):
    after = 1
    while interrupted(cli, number, after):
        cli("up", "-d")
        assert NOTHING in cli("plan").stdout, f"after operation {after}"
        cli("down", "-v")
        interrupted(cli, number, after)
        cli("down", "-v")
        assert cli.engine.docker("ps", "-aq").stdout == ""
        assert "d_" not in cli.engine.docker("network", "ls").stdout
        assert "d_" not in cli.engine.docker("volume", "ls").stdout
        after += 1
    assert after >= 8
