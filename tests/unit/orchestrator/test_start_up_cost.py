import subprocess
import sys

import pytest

HEAVY = ("asyncio", "docker", "networkx", "jsonschema", "http.client", "aiohttp", "logging")


@pytest.mark.parametrize(
    "module",
    [
        "stackctl.client.raw",
        "stackctl.client.engine",
        "stackctl.orchestrator.apply.observe",
        "stackctl.orchestrator.planning.reconcile",
        "stackctl.orchestrator.apply.inputs",
        "stackctl.orchestrator.apply.lock",
    ],
)
def test_hot_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
