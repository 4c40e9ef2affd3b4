"""stackctl where systemd and cgroup v2 are: in an emulated Debian. Each test of ``inside.py`` is one here."""

import ast
import json
from pathlib import Path

import pytest

from tests.guest import machine

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(3600)]

_INSIDE = Path(__file__).with_name("inside.py")
NAMES = [
    item.name
    for item in ast.parse(_INSIDE.read_text()).body
    if isinstance(item, ast.FunctionDef) and item.name.startswith("test_")
]


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, dict]:
    """What the guest told of each test."""
    if missing := machine.lacking():
        pytest.fail(f"the guest needs what is not here: apt-get install {' '.join(missing)}")
    text = machine.boot(tmp_path_factory.mktemp("guest"), timeout=2400)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines, "the guest told nothing"
    assert lines[-1] == {"end": True}
    return {line["test"]: line for line in lines[:-1]}


@pytest.mark.parametrize("name", NAMES)
def test_in_the_guest(told, name):
    assert name in told, f"the guest did not come to {name}"
    assert not told[name]["why"], told[name]["why"]
