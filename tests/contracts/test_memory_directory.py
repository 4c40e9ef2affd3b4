"""A directory in memory: others reach it, it is mounted nowhere, and goes with its descriptor."""

import os
import subprocess
from pathlib import Path

import pytest

from stackctl.host import mounts

pytestmark = pytest.mark.root


def test_other_programs_write_and_rename_in_it_and_it_goes_with_its_descriptor() -> None:
    table = Path("/proc/self/mountinfo").read_text()
    descriptor = mounts.memory_directory()
    assert descriptor is not None
    path = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    try:
        assert not os.get_inheritable(descriptor)
        assert path.stat().st_mode & 0o777 == 0o700
        script = f"echo 7 >{path}/.pid && mv {path}/.pid {path}/pid"
        subprocess.run(["/bin/sh", "-c", script], check=True)
        assert (path / "pid").read_text() == "7\n"
        assert Path("/proc/self/mountinfo").read_text() == table
    finally:
        os.close(descriptor)
    assert not path.exists()
