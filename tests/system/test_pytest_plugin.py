"""The pytest plugin, by pytests of its own on real containers."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.root

YAML = """
name: plug
services:
  db:
    image: busybox
    command: [sh, -c, 'echo db is here; mkdir -p /data; touch /data/ready; exec nc -ll -p 5432 -e cat']
    stop_signal: SIGKILL
    ports: ["127.0.0.1::5432"]
    volumes: [data:/data]
    healthcheck: {test: [CMD, test, -e, /data/ready], interval: 1s, start_interval: 50ms, start_period: 20s}
  side:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
volumes:
  data: {}
"""
NAME = "    print('NAME', stack.name, flush=True)\n"


@pytest.fixture
def project(engine, pytester, monkeypatch):
    engine.import_busybox()
    for name in ("DOCKER_HOST", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makefile(".yaml", stack=YAML)
    yield pytester
    assert _left(engine) == []


def _left(engine) -> list[str]:
    names = engine.docker("ps", "-aq").stdout.split()
    names += engine.docker("volume", "ls", "-q").stdout.split()
    nets = engine.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    return [*names, *(name for name in nets if name not in ("bridge", "host", "none"))]


def run(project, *argv: str):
    plain = ("-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error")
    return project.runpytest_subprocess(*plain, *argv, timeout=150)


def names(result) -> list[str]:
    return re.findall(r"NAME (\S+)", result.stdout.str())


def test_a_stack_is_found_used_and_shared_by_the_session(project):
    project.makepyfile(
        "import socket\n"
        "def test_one(stack):\n"
        "    host, port = stack.service('db').port(5432)\n"
        "    with socket.create_connection((host, port), 10) as link:\n"
        "        link.sendall(b'hello')\n"
        "        assert link.recv(5) == b'hello'\n"
        f"{NAME}"
        "def test_two(stack):\n"
        "    assert stack.service('db').wait_for_log('is here') == 'db is here'\n"
        f"{NAME}"
        "def test_three(session_stack, stack_factory, stack):\n"
        "    assert session_stack is stack\n"
        "    other = stack_factory('stack.yaml')\n"
        "    assert other.name != stack.name\n"
    )
    result = run(project, "-s")
    result.assert_outcomes(passed=3)
    assert len(set(names(result))) == 1


@pytest.mark.parametrize(
    ("scope", "number"),
    [
        pytest.param("function", 4, marks=pytest.mark.long),
        ("class", 3),
        pytest.param("module", 2, marks=pytest.mark.long),
    ],
)
def test_a_scope_says_how_long_a_stack_lives(project, scope, number):
    text = f"class TestIt:\n  def test_a(self, stack):\n  {NAME}  def test_b(self, stack):\n  {NAME}def test_c(stack):\n{NAME}"
    project.makepyfile(test_one=text, test_two=f"def test_d(stack):\n{NAME}")
    result = run(project, "-s", "--stack-scope", scope)
    result.assert_outcomes(passed=4)
    assert len(set(names(result))) == number


def test_markers_settings_and_options_say_which_stack(project):
    project.makefile(".yaml", other=YAML.replace("name: plug", "name: other"))
    project.makeini("[pytest]\nstackctl_file = other.yaml\nstackctl_scope = module\n")
    (project.path / "sub").mkdir()
    (project.path / "sub" / "third.yaml").write_text(YAML.replace("name: plug", "name: third"))
    inline = YAML.replace("name: plug", "name: inline ${MORE}").replace("inline ${MORE}", "inline")
    (project.path / "sub" / "test_it.py").write_text(
        f"import pytest\nTEXT = '''{inline}'''\n"
        f"def test_ini(stack):\n{NAME}"
        f"@pytest.mark.stack('third.yaml', services=['side'])\ndef test_mark(stack):\n{NAME}"
        "    assert set(stack.logs()) == {'side-1'}\n"
        f"@pytest.mark.stack(yaml=TEXT, scope='function')\ndef test_inline(stack):\n{NAME}"
        f"def test_module(module_stack, stack):\n    assert module_stack is stack\n"
    )
    result = run(project, "-s")
    result.assert_outcomes(passed=4)
    assert [name.split("-")[0] for name in names(result)] == ["other", "third", "inline"]
    result = run(project, "-s", "--stack-file", "stack.yaml", "-k", "test_ini")
    assert [name.split("-")[0] for name in names(result)] == ["plug"]


def test_a_failing_test_shows_what_every_service_said(project):
    project.makepyfile(
        "def test_good(stack):\n    pass\n"
        "def test_bad(stack):\n"
        "    stack.service('db').exec('sh', '-c', 'echo told meanwhile > /proc/1/fd/1')\n"
        "    assert False\n"
    )
    result = run(project)
    result.assert_outcomes(passed=1, failed=1)
    text = result.stdout.str()
    assert re.search(r"-+ log of db-1 -+\ntold meanwhile", text)
    assert re.search(r"-+ log of side-1 \(before this test\) -+\n\(it said nothing\)", text)
    assert text.count("log of db-1") == 1


def test_a_stack_that_does_not_come_up_is_one_message_with_logs_and_leaves_nothing(project):
    project.makefile(".yaml", stack=YAML.replace("exec nc", "exit 4; exec nc"))
    project.makepyfile("def test_a(stack):\n    pass\ndef test_b(stack):\n    pass\n")
    result = run(project)
    result.assert_outcomes(errors=2)
    text = result.stdout.str()
    assert "service 'db': container plug-" in text
    assert re.search(r"-+ log of db-1 -+\ndb is here", text)
    assert "Traceback" not in text
    assert "executor.py" not in text


def test_data_is_new_where_asked_for(project):
    project.makepyfile(
        "import pytest\n"
        "def used(stack):\n"
        "    files = stack.service('db').exec('ls', '/data').stdout.split()\n"
        "    stack.service('db').exec('touch', '/data/used')\n"
        "    return 'used' in files\n"
        "def test_a(stack):\n    assert not used(stack)\n"
        "def test_b(stack):\n    assert used(stack)\n"
        "@pytest.mark.stack('stack.yaml', reset=True)\ndef test_c(stack):\n    assert not used(stack)\n"
    )
    run(project).assert_outcomes(passed=3)
    project.makepyfile(
        test_ini="def test_a(stack):\n    stack.service('db').exec('touch', '/data/x')\n"
        "def test_b(stack):\n    assert 'x' not in stack.service('db').exec('ls', '/data').stdout\n"
    )
    run(project, "-o", "stackctl_reset=true", "test_ini.py").assert_outcomes(passed=2)


@pytest.mark.parametrize(("flags", "number"), [((), 2), (("--stack-shared",), 1)])
def test_workers_have_a_stack_each_or_share_one(project, flags, number):
    project.makepyfile(
        "import pathlib, pytest, time\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(stack, n, worker_id):\n"
        "    pathlib.Path(f'{worker_id}.name').write_text(stack.name)\n"
        "    time.sleep(0.5)\n"
        "    assert stack.service('db').exec('true').exit_code == 0\n"
    )
    result = run(project, "-n", "2", "--dist", "each" if not number else "load", *flags)
    result.assert_outcomes(passed=4)
    found = [path.read_text() for path in project.path.glob("*.name")]
    assert (len(found), len(set(found))) == (2, number)


@pytest.mark.parametrize(
    "flags", [(), pytest.param(("-n", "2", "--stack-shared"), marks=pytest.mark.long)]
)
def test_a_pytest_that_is_killed_leaves_nothing(project, engine, flags):
    project.makepyfile("import time\ndef test_it(stack):\n    time.sleep(1000)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", *flags],
        cwd=project.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 90
    while len(engine.docker("ps", "-q").stdout.split()) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)
    while _left(engine):
        assert time.monotonic() < deadline + 60
        time.sleep(0.1)


def test_what_is_wrong_with_a_marker_is_one_message(project):
    project.makepyfile(
        "import pytest\n"
        "def test_name(stack):\n    stack.service('dbb')\n"
        "@pytest.mark.stack('no.yaml')\ndef test_file(stack): pass\n"
        "@pytest.mark.stack(ymal='x')\ndef test_word(stack): pass\n"
        "@pytest.mark.stack(scope='week')\ndef test_scope(stack): pass\n"
        "@pytest.mark.stack(yaml='services: {a: {imge: x}}')\ndef test_yaml(stack): pass\n"
    )
    result = run(project)
    result.assert_outcomes(failed=1, errors=4)
    text = result.stdout.str()
    for words in (
        "no service dbb",
        "no.yaml",
        "the marker stack has no ymal",
        'stack(scope="week") is not one of',
        "imge",
    ):
        assert words in text
    assert "load.py" not in text


def test_what_is_wrong_with_a_setting_is_one_message(project):
    project.makepyfile("def test_it(stack): pass")
    result = run(project, "-o", "stackctl_scope=week")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(['ERROR: stackctl_scope: "week" is not one of session, *'])
    result = run(project, "-n", "1", "--stack-shared", "-o", "stackctl_reset=true")
    result.assert_outcomes(errors=1)
    assert "cannot get new data for one test" in result.stdout.str()


def test_whoever_uses_no_stack_pays_nothing(project):
    project.makepyfile(
        "import sys\ndef test_it():\n"
        "    loaded = {n for n in sys.modules if n.startswith('stackctl')}\n"
        "    assert loaded == {'stackctl', 'stackctl.library', 'stackctl.library.pytest_plugin'}\n"
    )
    run(project).assert_outcomes(passed=1)
