"""A plan in a file, applied exactly or refused; and data that is never removed without a yes."""

import json
import os
import pty
import stat
import subprocess

import pytest

from tests.peers import EVERY_ENGINE

pytestmark = [pytest.mark.root, pytest.mark.parametrize("any_engine", EVERY_ENGINE, indirect=True)]

FILE = """
name: pl
services:
  one:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    environment: {COLOUR: red, DB_PASSWORD: hunter2-in-the-clear}
    secrets: [token]
  two:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
secrets: {token: {file: token.txt}}
"""
VOLUME = """
name: pl
services:
  db:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data"]
volumes: {data: {labels: {generation: "1"}}}
"""


@pytest.fixture(scope="module")
def engine(any_engine):
    return any_engine


@pytest.fixture
def cli(engine, tmp_path):
    """Type commands beside a stack file; the stack is gone afterwards."""
    engine.import_busybox()
    (tmp_path / "token.txt").write_text("the-secret-itself")
    (tmp_path / "stack.yaml").write_text(FILE)

    def type_(*argv, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.folder = tmp_path
    type_.engine = engine
    yield type_
    engine.stackctl("-p", "pl", "down", "-v", "--remove-orphans", cwd=tmp_path, check=False)


def names(cli) -> list[str]:
    lines = cli("-p", "pl", "ps", "-a", "--format", "json").stdout.splitlines()
    return [json.loads(line)["Name"] for line in lines]


def test_a_plan_in_a_file_is_applied_as_it_was_shown(cli):
    cli("plan", "-o", "p.json", "one")
    path = cli.folder / "p.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "hunter2" not in text
    assert "the-secret-itself" not in text
    cli("up", "-d", "--plan", "p.json")
    assert names(cli) == ["pl-one-1"]


def refused(cli, what: str) -> None:
    before = names(cli)
    done = cli("up", "-d", "--plan", "p.json", check=False)
    assert done.returncode == 1
    assert "no longer fits" in done.stderr
    assert what in done.stderr
    assert names(cli) == before


def test_a_plan_is_refused_when_the_stack_file_changed_what_it_would_create(cli):
    cli("plan", "-o", "p.json")
    (cli.folder / "stack.yaml").write_text(FILE.replace("red", "blue"))
    refused(cli, "service one: changed")


def test_a_plan_is_refused_when_a_secret_changed(cli):
    cli("plan", "-o", "p.json")
    (cli.folder / "token.txt").write_text("another")
    refused(cli, "content of secret:token: changed")


def test_a_plan_is_refused_once_it_was_applied_or_the_engine_moved_on(cli):
    cli("plan", "-o", "p.json")
    cli("up", "-d", "--plan", "p.json")
    refused(cli, "container pl-one-1: new")

    cli("plan", "-o", "p.json", "--force-recreate")
    cli.engine.docker("stop", "-t", "0", "pl-two-1")
    refused(cli, "container pl-two-1: changed")


def test_what_is_no_plan_is_refused(cli):
    (cli.folder / "p.json").write_text("{}")
    assert "is no plan" in cli("up", "-d", "--plan", "p.json", check=False).stderr
    cli("plan", "-o", "p.json")
    other = cli("up", "-d", "--plan", "p.json", "one", check=False)
    assert "takes its services and flags from the file" in other.stderr


def test_a_changed_volume_is_replaced_only_after_a_yes(cli):
    file = cli.folder / "stack.yaml"
    file.write_text(VOLUME)
    cli("up", "-d")
    cli("exec", "-T", "db", "sh", "-c", "echo precious > /data/x")
    file.write_text(VOLUME.replace('"1"', '"2"'))

    plan = cli("plan")
    assert "removes volumes and the data in them" in plan.stdout

    silent = cli("up", "-d", check=False)
    assert silent.returncode == 1
    assert "pl_data" in silent.stderr
    assert "-y" in silent.stderr
    assert cli("exec", "-T", "db", "cat", "/data/x").stdout == "precious\n"

    no = on_terminal(cli, ["up", "-d"], b"n\n")
    assert b"[y/N]" in no.output
    assert no.code != 0
    assert cli("exec", "-T", "db", "cat", "/data/x").stdout == "precious\n"

    yes = on_terminal(cli, ["up", "-d"], b"y\n")
    assert yes.code == 0, yes.output
    assert cli("exec", "-T", "db", "ls", "/data").stdout == ""

    file.write_text(VOLUME.replace('"1"', '"3"'))
    cli("up", "-d", "-y")


class Typed:
    """What a command printed on its terminal, and its exit code."""

    def __init__(self, output: bytes, code: int) -> None:
        self.output = output
        self.code = code


def on_terminal(cli, argv: list[str], answer: bytes) -> Typed:
    """Type a command on a terminal and answer its question."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*cli.engine.argv, *argv],
        cwd=cli.folder,
        env={**cli.engine.environ, "PYTHONPATH": os.getcwd()},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, answer)
    output = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        output += data
    os.close(master)
    return Typed(output, child.wait(60))
