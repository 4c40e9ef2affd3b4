"""``pip install .`` from anywhere gives a working stackctl: schemas included, help that teaches, completion."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh virtual environment with stackctl installed from the checkout, not editable."""
    home = tmp_path_factory.mktemp("install")
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    pip = [
        home / "venv" / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    done = subprocess.run([*pip, str(ROOT)], capture_output=True, text=True, cwd=home, check=False)
    assert done.returncode == 0, done.stderr

    def run(*argv: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [home / "venv" / "bin" / "stackctl", *argv],
            capture_output=True,
            text=True,
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **(environ or {})},
            check=False,
        )

    run.home = home
    return run


def test_it_says_its_version(installed):
    assert installed("--version").stdout == "stackctl 0.1.0\n"


def test_a_stack_file_is_checked_with_the_schema_of_the_wheel(installed):
    example = ROOT / "examples" / "hello" / "stack.yaml"
    assert installed("-f", str(example), "config", "-q").returncode == 0
    (installed.home / "stack.yaml").write_text("services: {web: {imagee: x}}\n")
    wrong = installed("config", "-q")
    assert wrong.returncode == 1
    assert "imagee" in wrong.stderr


def test_help_teaches_every_command(installed):
    whole = installed("--help")
    assert whole.returncode == 0
    for name in ("up", "down", "ps", "logs", "exec", "run", "build", "config", "plan", "engine"):
        assert f"\n  {name} " in whole.stdout
        help_text = installed(name, "--help")
        assert help_text.returncode == 0
        assert "Usage: stackctl" in help_text.stdout


def test_shell_completion_completes_commands(installed):
    done = installed(
        environ={
            "_STACKCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": "stackctl pl",
            "COMP_CWORD": "1",
        }
    )
    assert "plan" in done.stdout.split()


def test_the_daemon_of_the_wheel_answers(installed):
    done = subprocess.run(
        [installed.home / "venv" / "bin" / "stackctld", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--socket" in done.stdout
