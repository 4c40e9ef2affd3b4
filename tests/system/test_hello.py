"""The smallest stack, from the stack file to runc and back, as a new user types it."""

import json
import shutil
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import free_port

pytestmark = pytest.mark.root

PORT = free_port()

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hello"


@pytest.fixture
def hello(engine):
    folder = engine.home / "hello"
    if not folder.exists():
        shutil.copytree(EXAMPLE, folder)
        stack = folder / "stack.yaml"
        stack.write_text(stack.read_text().replace("127.0.0.1:8000:8000", f"127.0.0.1:{PORT}:8000"))
    yield folder
    engine.stackctl("down", "-v", cwd=folder)


def test_up_serves_the_page_and_the_job_fetches_it_by_name(engine, hello):
    engine.stackctl("up", "-d", "--wait", cwd=hello)
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=10) as answer:
        assert answer.read() == b"Hello from a stack.\n"
    done = engine.stackctl("run", "--rm", "-T", "greeter", cwd=hello)
    assert done.stdout == "Hello from a stack.\n"


def test_the_second_up_plans_nothing(engine, hello):
    engine.stackctl("up", "-d", cwd=hello)
    plan = json.loads(engine.stackctl("plan", "--format", "json", cwd=hello).stdout)
    assert plan["operations"] == []
    assert engine.stackctl("plan", "--detailed-exitcode", cwd=hello).returncode == 0
    before = engine.docker("ps", "-aq", "--no-trunc").stdout
    engine.stackctl("up", "-d", cwd=hello)
    assert engine.docker("ps", "-aq", "--no-trunc").stdout == before


def test_the_plan_of_a_new_stack_exits_2_when_asked_and_changes_nothing(engine, hello):
    done = engine.stackctl("plan", "--detailed-exitcode", cwd=hello, check=False)
    assert done.returncode == 2, done.stderr
    assert "web" in done.stdout
    assert engine.docker("ps", "-aq").stdout == ""


def test_ps_lists_what_runs(engine, hello):
    engine.stackctl("up", "-d", cwd=hello)
    rows = [
        json.loads(line)
        for line in engine.stackctl("ps", "-a", "--format", "json", cwd=hello).stdout.splitlines()
    ]
    states = {row["Service"]: row["State"] for row in rows}
    assert states == {"web": "running"}


def test_exec_gives_output_and_the_commands_exit_code(engine, hello):
    engine.stackctl("up", "-d", cwd=hello)
    done = engine.stackctl(
        "exec",
        "-T",
        "web",
        "/bin/busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
        cwd=hello,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_exec_passes_standard_input_and_its_end(engine, hello):
    engine.stackctl("up", "-d", cwd=hello)
    done = engine.stackctl("exec", "-T", "web", "/bin/busybox", "cat", cwd=hello, stdin="a\nb\n")
    assert done.stdout == "a\nb\n"


def test_run_rm_gives_output_and_exit_code_and_leaves_no_container(engine, hello):
    done = engine.stackctl(
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "web",
        "/bin/busybox",
        "sh",
        "-c",
        "echo hi; exit 3",
        cwd=hello,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("hi\n", 3), done.stderr
    assert (
        engine.docker("ps", "-aq", "--filter", "label=com.docker.compose.oneoff=True").stdout == ""
    )


def test_down_removes_containers_and_networks(engine, hello):
    engine.stackctl("up", "-d", cwd=hello)
    engine.stackctl("down", cwd=hello)
    assert engine.docker("ps", "-aq").stdout == ""
    names = engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert sorted(names) == ["bridge", "host", "none"]


def test_down_works_without_the_stack_file(engine, hello, tmp_path):
    engine.stackctl("up", "-d", cwd=hello)
    engine.stackctl("-p", "hello", "down", cwd=tmp_path)
    assert engine.docker("ps", "-aq").stdout == ""
