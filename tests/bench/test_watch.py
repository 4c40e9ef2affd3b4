"""From a save on the host to the new content in a container; numbers are printed, nothing is gated."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.root, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
STACK = """
name: bw
services:
  app:
    image: busybox
    command: [sleep, "100000"]
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /app, initial_sync: true}]}
"""


@pytest.fixture
def watching(engine, tmp_path):
    """Give what watches a directory of so many files; the place it is synced to."""
    engine.import_busybox()
    (tmp_path / "stack.yaml").write_text(STACK)
    processes, readers = [], []

    def start(count: int) -> tuple[Path, Path]:
        src = tmp_path / "src"
        for number in range(count):
            folder = src / f"d{number // 100}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{number}").write_text("before")
        process = subprocess.Popen(
            [sys.executable, "-m", "stackctl", "watch", "--format", "json"],
            cwd=tmp_path,
            env={**engine.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        processes.append(process)
        while json.loads(process.stdout.readline())["event"] != "synced":
            pass
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        readers.append(reader)
        pid = engine.docker("inspect", "-f", "{{.State.Pid}}", "bw-app-1").stdout.strip()
        return src, Path(f"/proc/{pid}/root/app")

    yield start
    for process in processes:
        process.terminate()
        process.wait(30)
    for reader, process in zip(readers, processes, strict=True):
        reader.join()
        process.stdout.close()
    engine.stackctl("down", "-t", "0", cwd=tmp_path)


@pytest.mark.parametrize("count", [1, 1000, 50_000])
def test_save_to_visible(watching, count):
    src, app = watching(count)
    spans = []
    for number in range(100):
        source = src / "d0" / "f0"
        target = app / "d0" / "f0"
        text = f"save {number}"
        begun = time.perf_counter()
        source.write_text(text)
        while target.read_text() != text:
            time.sleep(0.0002)
        spans.append((time.perf_counter() - begun) * 1000)
        time.sleep(0.05)
    spans.sort()
    print(
        f"\n  save -> visible, {count} files watched: median {statistics.median(spans):.1f} ms"
        f" (min {spans[0]:.1f}, 90 % {spans[89]:.1f}, max {spans[-1]:.1f}, n=100)"
    )


def test_five_thousand_files_at_once(watching):
    src, app = watching(5000)
    spans = []
    for number in range(5):
        begun = time.perf_counter()
        for index in range(5000):
            # As git checkout does: the old file goes, a new one comes.
            path = src / f"d{index // 100}" / f"f{index}"
            path.unlink()
            path.write_text(f"branch {number} {index}")
        written = time.perf_counter() - begun
        missing = {(index // 100, index) for index in range(5000)}
        while missing:
            for folder, index in list(missing):
                try:
                    text = (app / f"d{folder}" / f"f{index}").read_text()
                except FileNotFoundError:
                    break
                if text != f"branch {number} {index}":
                    break
                missing.discard((folder, index))
            else:
                break
            time.sleep(0.005)
        spans.append((time.perf_counter() - begun, written))
        assert len(os.listdir(app)) == 50
    whole = [span for span, _ in spans]
    writing = statistics.median(written for _, written in spans)
    print(
        f"\n  5 000 files replaced: {statistics.median(whole):.2f} s until all are visible"
        f" (min {min(whole):.2f}, max {max(whole):.2f}, n=5), of which writing them {writing:.2f} s"
    )
