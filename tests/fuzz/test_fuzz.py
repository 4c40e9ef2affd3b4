"""The fuzzing target run for a while, from the small corpus of our own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = 120


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="pip install atheris (extra: fuzz)"
)
def test_no_input_raises_anything_but_our_kinds_of_error(tmp_path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    for path in HERE.parent.joinpath("corpus").glob("*/*.yaml"):
        shutil.copy(path, seeds / f"{path.parent.name}-{path.name}")
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "fuzz_stackfile.py"),
            str(seeds),
            f"-max_total_time={SECONDS}",
            "-timeout=20",
            "-rss_limit_mb=1024",
            f"-artifact_prefix={tmp_path}/",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE.parent.parent)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
