"""A daemon that has done everything many times holds no more than one that has done it a few times."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.compat.conftest import Daemon, running_daemon

pytestmark = pytest.mark.root

PROGRAM = """
import collections, gc, json, os, signal, sys, threading
from stackctl.daemon.main import main

def attributes(item):
    names = set(getattr(item, "__dict__", None) or ())
    for kind in type(item).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
    for name in names:
        try:
            yield name, object.__getattribute__(item, name)
        except AttributeError:
            pass

def sizes(*_):
    gc.collect()
    found = collections.Counter()
    for item in gc.get_objects():
        if type(item).__module__.startswith("stackctl"):
            found[type(item).__qualname__] += 1
            for name, value in attributes(item):
                if isinstance(value, (dict, list, set, collections.deque)):
                    found[f"{type(item).__qualname__}.{name}"] += len(value)
    for name, module in list(sys.modules.items()):
        if name.startswith("stackctl"):
            for key, value in vars(module).items():
                if isinstance(value, (dict, list, set)):
                    found[f"{name}:{key}"] = len(value)
    found["descriptors"] = len(os.listdir("/proc/self/fd"))
    found["threads"] = threading.active_count()
    target = os.environ["STACKCTL_RUN_ROOT"] + "/sizes"
    with open(target + ".new", "w") as file:
        json.dump(found, file)
    os.replace(target + ".new", target)

signal.signal(signal.SIGUSR1, sizes)
main()
"""

BOUNDED = {
    "Digests._known",  # a file's digest by its times, forgotten by the thousand
    "Event",  # the ring that ``since`` reads
    "Event.attributes",
    "Events._ring",
    "Events._frequent",
}
SLEEPER = "trap 'exit 0' TERM; while true; do sleep 0.05; done"


@pytest.fixture
def engine() -> Iterator[Daemon]:
    with running_daemon(PROGRAM) as daemon:
        (daemon.home / "context").mkdir()
        yield daemon


def sizes(engine: Daemon) -> dict[str, int]:
    path = engine.paths.run_root / "sizes"
    assert engine.process is not None
    engine.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    found: dict[str, int] = json.loads(path.read_text())
    path.unlink()
    return found


def leave(engine: Daemon, *argv: str) -> None:
    """Start a command and kill it a moment later, as a user does who closes the window."""
    words, environ = engine.command(*argv)
    pipe = subprocess.DEVNULL
    running = subprocess.Popen(words, env=environ, stdin=pipe, stdout=pipe, stderr=pipe)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(0.25)
    running.kill()
    running.wait()


def build(engine: Daemon, step: str, *argv: str, code: int = 0) -> None:
    context = engine.home / "context"
    (context / "Dockerfile").write_text(f"FROM busybox\nRUN {step}\nCOPY file /file\n")
    (context / "file").write_text(os.urandom(8).hex())
    engine.run("build", "-q", *argv, str(context), code=code)


def everything(engine: Daemon) -> None:
    """Make, use and remove one of everything."""
    run = engine.run
    run("network", "create", "net")
    run("volume", "create", "vol")
    run(
        "run", "-d", "--name", "first", "--network", "net", "-v", "vol:/v", "-p", "127.0.0.1::80",
        "--health-cmd", "true", "--health-interval", "50ms", "busybox", "sh", "-c", SLEEPER,
    )  # fmt: skip
    run(
        "run", "-d", "--name", "fails", "--restart", "on-failure:1", "busybox", "sh", "-c", "exit 3"
    )
    run("run", "--rm", "--network", "container:first", "busybox", "true")
    run("run", "--rm", "busybox", "missing", code=127)
    run("exec", "first", "true")
    run("exec", "-d", "first", "true")
    run("exec", "-i", "first", "cat", stdin="input")
    run("exec", "-u", "nobody-here", "first", "true", code=None)
    for words in (
        ("events",),
        ("stats", "first"),
        ("logs", "-f", "first"),
        ("attach", "first"),
        ("exec", "first", "sleep", "1"),
        ("wait", "first"),
    ):
        leave(engine, *words)
    run("network", "connect", "bridge", "first")
    run("network", "disconnect", "bridge", "first")
    run("pause", "first")
    run("unpause", "first")
    run("rename", "first", "second")
    run("cp", "second:/bin/busybox", "-")
    run("commit", "second", "made:1")
    run("save", "-o", str(engine.home / "made.tar"), "made:1")
    run("load", "-i", str(engine.home / "made.tar"))
    run("pull", "127.0.0.1:9/nothing", code=1)
    build(engine, "true", "--network", "net", "-t", "built:1")
    build(engine, "false", code=1)
    run("restart", "-t", "1", "second")
    run("kill", "second")
    run("rm", "-f", "second", "fails")
    run("network", "rm", "net")
    run("volume", "rm", "vol")
    run("rmi", "-f", "made:1", "built:1")
    run("image", "prune", "-f")
    run("builder", "prune", "-af", code=None)


def test_nothing_grows_with_what_was_done_and_undone(engine: Daemon) -> None:
    for _ in range(2):
        everything(engine)
    before = sizes(engine)
    times = 6
    for _ in range(times):
        everything(engine)
    deadline = time.monotonic() + 30
    while grown := {
        name: (before.get(name, 0), size)
        for name, size in sizes(engine).items()
        if size - before.get(name, 0) >= times and name not in BOUNDED
    }:
        assert time.monotonic() < deadline, grown  # what is only just ending has its time
        time.sleep(0.5)
