"""The warm process: the same answers as without it, the caller's files, signals and end, and nobody else's."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

LAUNCH = [sys.executable, "-c", "from stackctl.cli.launch import main; main()"]
FILE = """
name: w
services:
  web: {image: busybox, command: [sh, -c, "echo hello; exec sleep 1000"], stop_signal: SIGKILL}
"""


@pytest.fixture
def warm(engine, tmp_path):
    """Type commands that a warm process runs; it is gone afterwards."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(FILE)
    home = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))

    class Warm:
        folder = tmp_path
        socket = home / "stackctl-warm" / "socket"

        def __init__(self):
            self.environ = {
                **engine.environ, "PYTHONPATH": os.getcwd(), "XDG_RUNTIME_DIR": str(home), "STACKCTL_WARM": "1",
            }  # fmt: skip

        def __call__(self, *argv, stdin="", environ=None, cwd=tmp_path):
            return subprocess.run(
                [*LAUNCH, *argv], cwd=cwd, env={**self.environ, **(environ or {})}, input=stdin,
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip

        def start(self):
            """Miss the process once, and wait until it is there."""
            self("version", "--short")
            until(self.socket.exists)

        def processes(self) -> list[int]:
            return [pid for pid in pids("stackctl.cli.warm") if about(pid, "environ", str(home))]

    made = Warm()
    try:
        yield made
        engine.stackctl("-p", "w", "down", cwd=tmp_path)
    finally:
        for pid in made.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def about(pid: int, what: str, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return False


def pids(text: str) -> list[int]:
    every = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in every if about(pid, "cmdline", text)]


def until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_answers_as_a_process_of_its_own_does(warm, engine, tmp_path):
    warm.start()
    (server,) = warm.processes()
    assert warm("up", "-d").returncode == 0
    assert "nothing to do" in warm("up", "-d").stderr
    for argv in (
        ["ps", "-q"],
        ["config"],
        ["nonsense"],
        ["ps", "--nonsense"],
        ["exec", "--help"],
        ["-f", "no.yaml", "plan"],
    ):
        cold = engine.stackctl(*argv, cwd=tmp_path, check=False)
        done = warm(*argv)
        assert (done.returncode, done.stdout, done.stderr) == (
            cold.returncode,
            cold.stdout,
            cold.stderr,
        ), argv
    big = "".join(f"{number}\n" for number in range(50_000))
    assert warm("exec", "-T", "web", "cat", stdin=big).stdout == big
    assert warm("exec", "-T", "web", "sh", "-c", "exit 7").returncode == 7
    other = tmp_path / "other"
    other.mkdir()
    (other / "stack.yaml").write_text("name: ${WHO}\nservices: {a: {image: x}}\n")
    assert (
        json.loads(warm("config", "--format", "json", cwd=other, environ={"WHO": "me"}).stdout)[
            "name"
        ]
        == "me"
    )
    made = warm("plan", "-o", "p.json")
    assert made.returncode == 0
    assert (tmp_path / "p.json").stat().st_mode & 0o777 == 0o600
    until(lambda: warm.processes() == [server])


def test_signals_and_the_caller_s_end_reach_the_command(warm, engine):
    warm.start()
    assert warm("up", "-d").returncode == 0
    until(lambda: len(warm.processes()) == 1)  # what ran the command just ends
    (server,) = warm.processes()
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        follow = subprocess.Popen(
            [*LAUNCH, "logs", "-f", "web"], cwd=warm.folder, env=warm.environ,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert b"hello" in follow.stdout.readline()
        assert len(warm.processes()) == 2  # the process and its fork
        follow.send_signal(number)
        assert follow.wait(30) == code
        follow.stdout.close()
        until(lambda: warm.processes() == [server])


def test_it_serves_only_who_is_like_itself_and_ends_by_itself(warm):
    warm.environ["STACKCTL_WARM"] = "4"
    warm.start()
    (server,) = warm.processes()
    # Other namespaces: it would see another machine than the caller does.
    alone = subprocess.run(
        ["unshare", "--net", *LAUNCH, "version", "--short"], env=warm.environ, cwd=warm.folder,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert alone.stdout == warm("version", "--short").stdout
    until(lambda: server not in warm.processes())


def test_without_being_asked_for_there_is_none_and_a_broken_one_is_gone_around(warm):
    assert warm("version", "--short", environ={"STACKCTL_WARM": ""}).returncode == 0
    assert not warm.socket.exists()
    warm.start()
    (server,) = warm.processes()
    os.kill(server, signal.SIGKILL)  # its socket stays, and nobody is behind it
    until(lambda: not warm.processes())
    assert warm("version", "--short").stdout != ""
    until(lambda: len(warm.processes()) == 1)
