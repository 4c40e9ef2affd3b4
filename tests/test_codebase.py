"""The rules of the codebase, as tests: formatting, lint, types, imports, the changelog."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def check(*argv: str) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"


def test_the_code_is_formatted():
    check(str(BIN / "ruff"), "format", "--check", "--quiet", ".")


def test_the_linter_has_nothing_to_say():
    check(str(BIN / "ruff"), "check", "--quiet", ".")


@pytest.mark.timeout(600)
def test_the_types_hold():
    check(sys.executable, "-m", "mypy")


@pytest.mark.timeout(300)
def test_imports_point_down_the_tree():
    check(str(BIN / "lint-imports"))


def test_the_changelog_has_a_section_for_unreleased_changes_and_for_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in changelog
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)


def test_every_package_is_only_a_docstring():
    for init in (ROOT / "stackctl").rglob("__init__.py"):
        lines = init.read_text().strip()
        if init.parent.name == "stackctl":
            continue
        assert lines.startswith('"""'), init
        assert lines.endswith('"""'), f"{init} holds more than its docstring"
