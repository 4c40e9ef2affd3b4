"""The corpus of images and builds, replayed in every run; the fuzzing itself for a while (long)."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS

HERE = Path(__file__).parent
SECONDS = 120


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(60)
def test_what_fuzzing_kept_is_still_read_or_refused(name):
    seeds = sorted((CORPUS / name).iterdir())
    assert seeds
    for seed in seeds:
        TARGETS[name](seed.read_bytes())


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="pip install atheris (extra: fuzz)"
)
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises_anything_but_our_kinds_of_error(name, tmp_path):
    fresh = tmp_path / "found"
    fresh.mkdir()
    done = subprocess.run(
        [
            sys.executable, str(HERE / "fuzz_images.py"), name, str(fresh), str(CORPUS / name),
            f"-max_total_time={SECONDS}", "-timeout=10", "-rss_limit_mb=1024", f"-artifact_prefix={tmp_path}/",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE.parent.parent)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
