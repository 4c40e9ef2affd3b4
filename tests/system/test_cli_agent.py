"""An agent keeps a stack true to its file: what dies or drifts comes back, until it is told to stop."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

FILE = """
name: ag
services:
  web:
    image: busybox
    command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 0.1; done']
    init: true
    networks: [front, back]
    configs: [{source: motd, target: /motd}]
    environment: {COLOUR: "${COLOUR:-red}"}
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    networks: [back]
    volumes: ["data:/data"]
    healthcheck: {test: ["CMD", "true"], interval: 0.2s}
  job: {image: busybox, command: ["true"], networks: [back]}
networks: {front: {}, back: {}}
volumes: {data: {}}
configs: {motd: {file: motd.txt}}
"""


@pytest.fixture
def cli(engine, tmp_path):
    """Type commands beside a stack file; stack and agent are gone afterwards."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(FILE)
    (tmp_path / "motd.txt").write_text("first\n")

    def type_(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.folder = tmp_path
    type_.engine = engine
    yield type_
    engine.stackctl("-p", "ag", "down", "-v", cwd=tmp_path, check=False)
    assert agents(type_) == []


def agents(cli) -> list[dict]:
    return [json.loads(line) for line in cli("agent", "ls", "--format", "json").stdout.splitlines()]


def states(cli) -> dict[str, str]:
    lines = cli("-p", "ag", "ps", "-a", "--format", "json").stdout.splitlines()
    return {entry["Name"]: entry["State"] for entry in map(json.loads, lines)}


def until(true, cli, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            pytest.fail("it did not come true:\n" + cli("agent", "logs", "ag", check=False).stdout)
        time.sleep(0.1)


WHOLE = {"ag-web-1": "running", "ag-db-1": "running", "ag-job-1": "exited"}


def whole(cli) -> bool:
    """Nothing is amiss: neither in what runs nor in what a plan would change (the finished job stays finished)."""
    return states(cli) == WHOLE and "Nothing to do" in cli("plan").stdout


def started_at(cli, name: str) -> str:
    return cli.engine.docker("inspect", "-f", "{{.State.StartedAt}}", name).stdout.strip()


def test_what_dies_or_drifts_comes_back_in_the_order_of_the_graph(cli):
    cli("up", "--reconcile")
    assert [one["Stack"] for one in agents(cli)] == ["ag"]
    assert states(cli) == WHOLE
    job = started_at(cli, "ag-job-1")
    docker = cli.engine.docker

    docker("kill", "ag-db-1")
    until(lambda: whole(cli), cli)
    docker("stop", "-t", "5", "ag-web-1")  # ends with 0, but was told to
    until(lambda: whole(cli), cli)
    docker("rm", "-f", "ag-web-1", "ag-db-1")
    until(lambda: whole(cli), cli)
    assert started_at(cli, "ag-db-1") < started_at(cli, "ag-web-1")
    docker("network", "disconnect", "-f", "ag_front", "ag-web-1")
    until(lambda: whole(cli), cli)
    docker("pause", "ag-db-1")
    until(lambda: whole(cli), cli)
    assert started_at(cli, "ag-job-1") == job, "a job that is done was run again"

    log = cli("agent", "logs").stdout
    assert "start container ag-db-1: not running (exited with code 137)" in log
    assert "connect container ag-web-1 to ag_front: was disconnected" in log

    stopped = cli("agent", "stop")
    assert "stopped the agent of ag" in stopped.stderr
    assert agents(cli) == []
    docker("kill", "ag-db-1")
    time.sleep(1)
    assert states(cli)["ag-db-1"] == "exited"
    assert states(cli)["ag-web-1"] == "running"


def test_the_files_are_kept_to_and_what_another_up_asked_for(cli):
    cli("up", "--reconcile", environ={"COLOUR": "blue"})

    def says(text: str) -> bool:
        shown = cli("exec", "-T", "web", "sh", "-c", "echo $COLOUR; cat /motd", check=False)
        return text in shown.stdout

    assert says("blue")
    (cli.folder / "motd.txt").write_text("second\n")
    until(lambda: says("second") and says("blue"), cli)

    (cli.folder / "stack.yaml").write_text(FILE.replace("networks: [back]", "nonsense: 1", 1))
    until(lambda: agents(cli)[0]["State"] == "wrong", cli)
    cli.engine.docker("kill", "ag-db-1")
    until(lambda: states(cli) == WHOLE, cli)

    draft = cli.folder / "draft"
    draft.write_text(FILE.replace('"${COLOUR:-red}"', "green"))
    draft.replace(cli.folder / "stack.yaml")  # as editors save
    until(lambda: says("green"), cli)
    until(lambda: agents(cli)[0]["State"] == "watching", cli)

    cli("up", "-d", "--scale", "db=2")
    cli.engine.docker("rm", "-f", "ag-db-2")
    until(lambda: states(cli).get("ag-db-2") == "running", cli)
    assert "brings back what stops" in cli("stop", "-t", "1", "db").stderr
    until(lambda: states(cli).get("ag-db-2") == states(cli)["ag-db-1"] == "running", cli)


def test_a_service_that_keeps_dying_waits_longer_each_time_and_holds_nobody_up(cli):
    crashing = FILE.replace('["true"]', '["sleep", "1000"]').replace(
        ", job: {condition: service_completed_successfully}", ""
    )
    (cli.folder / "stack.yaml").write_text(crashing)
    cli("up", "--reconcile")
    (cli.folder / "stack.yaml").write_text(
        crashing.replace('["sleep", "1000"], net', '["false"], net')
    )

    def tries() -> list[str]:
        log = cli("agent", "logs").stdout.splitlines()
        return [line.split()[0] for line in log if "start container ag-job-1" in line]

    until(lambda: len(tries()) >= 4, cli)
    cli.engine.docker("kill", "ag-web-1")
    until(lambda: states(cli)["ag-web-1"] == "running", cli)
    until(lambda: agents(cli)[0]["State"] == "waiting", cli)
    count = len(tries())
    assert count < 30
    cli("down")
    assert agents(cli) == []
    assert states(cli) == {}


def test_it_survives_the_daemon_and_its_own_death_leaves_nothing_wrong(cli):
    cli("up", "--reconcile")
    pid = json.loads(cli("engine", "status", "--format", "json").stdout)["pid"]
    os.kill(pid, signal.SIGKILL)
    # Nobody else starts it again: the agent does, and goes on.
    until(lambda: "started it again" in cli("agent", "logs").stdout, cli)
    cli.engine.docker("kill", "ag-web-1")
    until(lambda: whole(cli), cli)

    agent = agents(cli)[0]["Pid"]
    os.kill(agent, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{agent}").exists(), cli)
    assert agents(cli)[0]["State"] == "dead"
    assert whole(cli)
    cli("up", "--reconcile")
    assert agents(cli)[0]["State"] == "watching"
    assert agents(cli)[0]["Pid"] != agent
    os.kill(agents(cli)[0]["Pid"], signal.SIGKILL)
    cli("up", "-d")
    cli("down", "-v")
    assert agents(cli) == []
    assert states(cli) == {}


def test_down_stops_the_agent_first_and_a_second_agent_is_not_started(cli):
    cli("up", "--reconcile")
    first = agents(cli)[0]["Pid"]
    cli("up", "--reconcile")
    assert [one["Pid"] for one in agents(cli)] == [first]
    done = cli("down", "-v")
    assert "stopped the agent of ag" in done.stderr
    until(lambda: not Path(f"/proc/{first}").exists(), cli)  # whoever adopted it has to reap it
    assert states(cli) == {}
    missing = cli("agent", "stop", check=False)
    assert missing.returncode == 1
    assert "no agent keeps stack ag" in missing.stderr


def test_a_file_that_cannot_be_read_again_is_refused(cli):
    done = cli(
        "-f",
        "-",
        "up",
        "--reconcile",
        stdin=FILE.replace("motd.txt", str(cli.folder / "motd.txt")),
        check=False,
    )
    assert done.returncode == 1
    assert "standard input" in done.stderr
    for other in ("--no-start", "--watch", "--abort-on-container-exit"):
        assert cli("up", "--reconcile", other, check=False).returncode == 1
