"""What users wait for, timed as whole commands; numbers are printed, nothing is gated."""

import statistics
import time

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.root, pytest.mark.timeout(1200)]


def timed(action, rounds: int) -> str:
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        spans.append(time.perf_counter() - start)
    return (
        f"{statistics.median(spans):.3f} s (min {min(spans):.3f}, max {max(spans):.3f}, n={rounds})"
    )


@pytest.mark.parametrize("count", [1, 10, 50])
def test_up_second_up_ps_and_down(engine, count):
    engine.import_busybox()
    folder = engine.home / f"bench{count}"
    folder.mkdir()
    services = "".join(
        f'  s{n}: {{image: busybox, command: [sleep, "100000"], stop_signal: SIGKILL}}\n'
        for n in range(count)
    )
    (folder / "stack.yaml").write_text(f"name: bench{count}\nservices:\n{services}")

    ups, downs = [], []
    for _ in range(3):
        ups.append(timed(lambda: engine.stackctl("up", "-d", cwd=folder), 1))
        again = timed(lambda: engine.stackctl("up", "-d", cwd=folder), 5)
        listed = timed(lambda: engine.stackctl("ps", cwd=folder), 5)
        entered = timed(lambda: engine.stackctl("exec", "-T", "s0", "true", cwd=folder), 5)
        downs.append(timed(lambda: engine.stackctl("down", cwd=folder), 1))
    print(f"\n{count} services")
    for what, figures in (("up -d", ups), ("down", downs)):
        print(f"  {what:10} {'; '.join(figures)}")
    for what, figure in (("second up", again), ("ps", listed), ("exec true", entered)):
        print(f"  {what:10} {figure}")


def test_run_rm(engine):
    engine.import_busybox()
    print(
        "\n  docker run --rm busybox true",
        timed(lambda: engine.docker("run", "--rm", "busybox", "true"), 10),
    )
