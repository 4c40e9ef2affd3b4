"""What a person at a terminal sees: colours, keys, Ctrl-C, the size of the window."""

import json
import signal
import termios
import time

import pytest

from tests.system.typist import Typist

pytestmark = pytest.mark.root

FILE = """
name: tt
services:
  talker:
    image: busybox
    command: [sh, -c, "trap 'echo leaving; exit 0' TERM; n=0; while :; do echo line $$n; n=$$((n+1)); sleep 0.2; done"]
  stubborn:
    image: busybox
    command: [sh, -c, "trap '' TERM; echo deaf; while :; do sleep 0.2; done"]
    stop_grace_period: 60s
    profiles: [stubborn]
  shell:
    image: busybox
    command: [sh]
    tty: true
    stdin_open: true
    profiles: [shell]
"""


@pytest.fixture
def user(engine, tmp_path):
    """Type commands on a terminal beside a stack file; the stack is gone afterwards."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(FILE)

    def type_(*argv: str, **options) -> Typist:
        environ = {**engine.environ, **options.pop("environ", {})}
        return Typist([*argv], cwd=tmp_path, environ=environ, **options)

    def quietly(*argv: str, **options):
        return engine.stackctl(*argv, cwd=tmp_path, **options)

    type_.quietly = quietly
    yield type_
    engine.stackctl("-p", "tt", "kill", cwd=tmp_path, check=False)
    engine.stackctl("-p", "tt", "down", "-v", "--remove-orphans", cwd=tmp_path, check=False)


def state(user, service: str) -> str:
    lines = user.quietly("-p", "tt", "ps", "-a", "--format", "json", service).stdout.splitlines()
    return json.loads(lines[0])["State"] if lines else ""


def test_attached_up_shows_coloured_prefixed_lines_and_one_ctrl_c_stops_in_order(user):
    with user("up") as terminal:
        terminal.see(rb"\x1b\[\d+mtalker-1  \| \x1b\[0mline 0")
        terminal.see(rb"line 3")
        terminal.press(b"\x03")
        terminal.see(rb"Ctrl-C again kills")
        terminal.see(rb"leaving")
        assert terminal.code() == 130
    assert state(user, "talker") == "exited"


def test_a_second_ctrl_c_kills_at_once(user):
    with user("--profile", "stubborn", "up") as terminal:
        terminal.see(rb"deaf")
        terminal.press(b"\x03")
        terminal.see(rb"Ctrl-C again kills")
        time.sleep(1)
        assert terminal.process.poll() is None
        terminal.press(b"\x03")
        terminal.see(rb"killing")
        assert terminal.code(within=15) == 130
    assert state(user, "stubborn") == "exited"


def test_ctrl_c_leaves_followed_logs_and_the_stack_runs_on(user):
    user.quietly("up", "-d")
    with user("logs", "-f") as terminal:
        terminal.see(rb"line 1")
        terminal.press(b"\x03")
        assert terminal.code() == 130
        assert b"Traceback" not in terminal.shown
    assert state(user, "talker") == "running"


def test_no_color_and_no_prefix_are_heard(user):
    user.quietly("up", "-d")
    with user("logs", "--no-color", "-f") as terminal:
        assert b"\x1b[" not in terminal.see(rb"[^\n]*line 1").group()
    with user("logs", "--no-log-prefix", "-f") as terminal:
        terminal.see(rb"(^|\n)line 1")


def test_exec_hands_every_key_to_the_program_and_follows_the_window(user):
    user.quietly("up", "-d")
    with user("exec", "talker", "sh", rows=31, columns=97) as terminal:
        terminal.see(rb"# ")
        terminal.press(b"stty size\r")
        terminal.see(rb"31 97")
        terminal.resize(41, 133)
        time.sleep(0.3)
        terminal.press(b"stty size\r")
        terminal.see(rb"41 133")
        terminal.press(b"cat\r")
        time.sleep(0.3)
        terminal.press(b"\x03")  # ends cat, not exec
        terminal.see(rb"\^C(.|\s)*# ")
        terminal.press(b"echo still-$((40+2))\r")
        terminal.see(rb"still-42")
        # As an editor does: no echo, no lines, every key as it is.
        terminal.press(
            b"stty raw -echo; echo ready; dd bs=1 count=6 2>/dev/null | hexdump -C; stty sane\r"
        )
        terminal.see(rb"\nready")
        terminal.press(b"\x1b[A\x03\x1a\x04")
        terminal.see(rb"1b 5b 41 03 1a 04")
        terminal.press(b"exit 7\r")
        assert terminal.code() == 7


def test_vi_edits_a_file_through_exec(user):
    user.quietly("up", "-d")
    with user("exec", "talker", "vi", "/tmp/note") as terminal:
        terminal.see(rb"note")
        for keys in (b"i", b"typed in vi", b"\x1b", b":wq\r"):
            terminal.press(keys)
            time.sleep(0.2)
        assert terminal.code() == 0
    assert user.quietly("exec", "-T", "talker", "cat", "/tmp/note").stdout == "typed in vi\n"


def test_run_on_a_terminal_gives_the_terminal_back_and_the_code(user):
    with user(
        "run", "--rm", "talker", "sh", "-c", "tty; read word; echo got $word; exit 9"
    ) as terminal:
        terminal.see(rb"/dev/(pts/\d+|console)")
        terminal.press(b"hello\r")
        terminal.see(rb"got hello")
        assert terminal.code() == 9
    assert user.quietly("-p", "tt", "ps", "-aq").stdout == ""


def test_attach_leaves_by_its_keys_and_the_program_runs_on(user):
    user.quietly("--profile", "shell", "up", "-d", "shell")
    with user("attach", "--detach-keys", "ctrl-x,x", "shell") as terminal:
        terminal.press(b"\recho in-$((1+1))\r")
        terminal.see(rb"in-2")
        terminal.press(b"\x18")
        time.sleep(0.2)
        terminal.press(b"x")
        terminal.see(rb"left tt-shell-1 running")
        assert terminal.code() == 0
    assert state(user, "shell") == "running"


def test_live_progress_is_a_tree_of_what_waits_for_what(user, tmp_path):
    (tmp_path / "stack.yaml").write_text("""
name: tt
services:
  slow:
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; sleep 2; touch /ok; while :; do sleep 0.1; done"]
    healthcheck: {test: [CMD, test, -e, /ok], interval: 0.2s, retries: 50}
  after:
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    depends_on: {slow: {condition: service_healthy}}
""")
    with user("up", "-d") as terminal:
        terminal.see("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] wait service slow".encode())
        terminal.see("  └ start container tt-after-1".encode())
        terminal.see("✔".encode() + rb"\S* container tt-after-1 started")
        assert terminal.code() == 0


def test_progress_is_plain_lines_elsewhere_and_json_lines_for_machines(user):
    plain = user.quietly("up", "-d").stderr
    assert "✔ container tt-talker-1 started" in plain
    assert "\x1b[" not in plain
    lines = user.quietly("--progress", "json", "up", "-d", "--force-recreate").stderr.splitlines()
    events = [json.loads(line) for line in lines]
    started = {event["id"] for event in events if event["step"] == "started"}
    done = {event["id"] for event in events if event["step"] == "done"}
    assert started == done != set()
    assert all("seconds" in event for event in events if event["step"] == "done")
    assert user.quietly("--progress", "quiet", "up", "-d", "--force-recreate").stderr == ""


def test_a_trace_shows_when_each_operation_ran_and_the_slowest_of_the_critical_path(user, tmp_path):
    done = user.quietly("up", "-d", "--trace", "t.json")
    assert "the critical path took" in done.stderr
    slowest = [line for line in done.stderr.splitlines() if line.endswith("tt-talker-1")]
    assert slowest
    trace = json.loads((tmp_path / "t.json").read_text())
    spans = {event["name"]: event for event in trace["traceEvents"] if event["ph"] == "X"}
    create, start = spans["create container tt-talker-1"], spans["start container tt-talker-1"]
    assert start["ts"] >= create["ts"] + create["dur"]
    assert "start container tt-talker-1" in trace["otherData"]["critical_path"]
    assert start["args"]["critical"] is True
    assert "read the stack file" in spans


KEYS = """
name: tt
services:
  talker:
    image: busybox
    command: [sh, -c, "trap 'echo leaving; exit 0' TERM; echo born; n=0; while :; do echo talk $$n; n=$$((n+1)); sleep 0.1; done"]
    develop: {watch: [{action: sync, path: ./src, target: /app}]}
  teller:
    image: busybox
    command: [sh, -c, "trap 'exit 0' TERM; n=0; while :; do echo tell $$n; n=$$((n+1)); sleep 0.1; done"]
"""


@pytest.fixture
def attached(user, tmp_path):
    """An attached ``up`` whose keys are heard."""
    (tmp_path / "stack.yaml").write_text(KEYS)
    (tmp_path / "src").mkdir()
    with user("up") as terminal:
        terminal.see(rb"keys: w watch")
        terminal.see(rb"talk \d")
        yield terminal


def cooked(terminal: Typist) -> bool:
    """Tell whether the terminal is as the shell had it: lines, and what is typed is shown."""
    flags = termios.tcgetattr(terminal.master)[3]
    return bool(flags & termios.ICANON and flags & termios.ECHO)


def test_w_switches_watching_on_and_off(attached, user, tmp_path):
    assert not cooked(attached)
    attached.press(b"w")
    attached.see(rb"talker: watching ")
    (tmp_path / "src" / "a").write_text("x")
    attached.see(rb"synced 1 path \(1 B\) to /app/a")
    attached.press(b"w")
    attached.see(rb"watch is off")
    (tmp_path / "src" / "b").write_text("x")
    attached.press(b"w")
    attached.see(rb"talker: watching ")
    assert user.quietly("exec", "-T", "talker", "ls", "/app").stdout == "a\n"
    attached.press(b"q")
    attached.see(rb"leaving")
    assert attached.code() == 0


def test_l_shows_the_logs_of_one_service(attached):
    attached.press(b"l")
    attached.see(rb"logs of which service\? \(Enter: all\) ")
    time.sleep(0.5)
    attached.press(b"te\t\r")
    assert b"talk" not in attached.see(rb"teller[\r\n]+logs of teller").group()
    time.sleep(1)
    shown = attached.see(rb"tell \d+(.|\s)*tell \d+").group()
    assert b"talk " not in shown.partition(b"\n")[2].rpartition(b"\n")[0].split(b"logs of")[0]
    attached.press(b"l")
    attached.see(rb"which service")
    attached.press(b"x\r")
    attached.see(rb"x: one of talker, teller")
    attached.press(b"\r")
    attached.see(rb"logs of all services")
    attached.see(rb"talk \d")
    attached.press(b"\x03")
    assert attached.code() == 130
    assert cooked(attached)


def test_r_restarts_one_service_and_up_goes_on(attached, user):
    attached.press(b"r")
    attached.see(rb"restart which service")
    attached.press(b"talker\r")
    attached.see(rb"leaving")
    attached.see(rb"born")
    attached.press(b"r")
    attached.see(rb"restart which service")
    attached.press(b"\r")
    attached.see(rb"leaving")
    attached.see(rb"(?s)born.*tell 0\r|tell 0\r.*born")  # whichever is there first
    attached.press(b"r")
    attached.see(rb"restart which service")
    attached.press(b"\x1b")
    attached.see(rb"tell \d")
    assert attached.process.poll() is None
    attached.press(b"d")
    attached.see(rb"left tt running")
    assert attached.code() == 0
    assert state(user, "talker") == "running"


def test_p_shows_the_plan_and_changes_nothing(attached, user, tmp_path):
    attached.press(b"p")
    attached.see(rb"Nothing to do: stack tt is as its file says")
    (tmp_path / "stack.yaml").write_text(KEYS.replace("born", "born anew"))
    attached.press(b"p")
    attached.see("± recreate container tt-talker-1".encode())
    attached.see(rb"To do: ")
    (tmp_path / "stack.yaml").write_text("services: [broken\n")
    attached.press(b"p")
    attached.see(rb"stack.yaml:")
    (tmp_path / "stack.yaml").write_text(KEYS)
    attached.press(b"?")
    attached.see(rb"keys: w watch")
    attached.press(b"d")
    assert attached.code() == 0
    assert state(user, "talker") == "running"


def test_the_terminal_is_given_back_however_up_ends(attached):
    attached.process.send_signal(signal.SIGTSTP)
    until = time.monotonic() + 20
    while not cooked(attached) and time.monotonic() < until:
        time.sleep(0.05)
    assert cooked(attached)
    attached.process.send_signal(signal.SIGCONT)
    while cooked(attached) and time.monotonic() < until:
        time.sleep(0.05)
    assert not cooked(attached)
    attached.press(b"\x1b[A\x1bOP?")  # an arrow and a function key mean nothing
    attached.see(rb"keys: w watch")
    attached.process.send_signal(signal.SIGTERM)
    assert attached.code() == 143
    assert cooked(attached)


def test_without_a_menu_keys_are_not_heard(user, tmp_path):
    (tmp_path / "stack.yaml").write_text(KEYS)
    for argv, environ in ((("--no-menu",), {}), ((), {"COMPOSE_MENU": "false"})):
        with user("up", *argv, environ=environ) as terminal:
            terminal.see(rb"talk \d")
            assert cooked(terminal)
            assert b"keys:" not in terminal.shown
            terminal.press(b"\x03")
            assert terminal.code() == 130
