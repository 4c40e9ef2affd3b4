"""Unit tests of starting programs."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from stackctl.errors import DeadlineError, HostError
from stackctl.host import pidfd, process


async def test_output_and_code_are_collected() -> None:
    done = await process.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in", check=False)
    assert (done.code, done.stdout, done.stderr) == (3, b"in", b"err\n")


async def test_a_failure_names_the_command_the_code_and_what_was_said() -> None:
    with pytest.raises(
        HostError, match=r"sh -c 'echo no >&2; exit 4' ended with exit code 4: no"
    ) as caught:
        await process.run(["sh", "-c", "echo no >&2; exit 4"])
    assert caught.value.exit_code == 4
    with pytest.raises(HostError, match="was killed by SIGTERM"):
        process.run_sync(["sh", "-c", "kill -TERM $$"])


async def test_a_missing_program_is_told_with_a_hint() -> None:
    with pytest.raises(HostError, match="cannot start nope-x") as caught:
        await process.run(["nope-x"])
    assert "Install nope-x" in caught.value.hint
    with pytest.raises(HostError, match="cannot start nope-x"):
        process.run_sync(["nope-x"])
    with pytest.raises(HostError, match="cannot start nope-x"):
        process.spawn_detached(["nope-x"])


async def test_a_program_that_takes_too_long_is_killed() -> None:
    with pytest.raises(DeadlineError, match=r"sleep 60 did not end within 0\.05 s"):
        await process.run(["sleep", "60"], timeout=0.05)
    with pytest.raises(DeadlineError):
        process.run_sync(["sleep", "60"], timeout=0.05)


async def test_the_environment_is_clean_and_descriptors_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "1")
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        done = await process.run(["sh", "-c", "env; pwd; ls /proc/$$/fd"], env={"MORE": "2"})
    finally:
        os.close(leak)
    words = done.stdout.decode().split()
    assert not any(word.startswith("SECRET") for word in words)
    assert "MORE=2" in words
    assert "/" in words
    assert str(leak) not in words


def test_a_detached_daemon_has_its_own_session_and_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    daemon = process.spawn_detached(["sh", "-c", "umask; pwd; exec sleep 60"], log=log)
    try:
        assert os.getsid(daemon.pid) == daemon.pid
        assert daemon.poll() is None
        assert daemon.wait(0.01) is None
        until = time.monotonic() + 60
        while log.read_text() != "0022\n/\n" and time.monotonic() < until:
            os.sched_yield()
        assert log.read_text() == "0022\n/\n"
    finally:
        os.kill(daemon.pid, signal.SIGKILL)
        assert daemon.wait(5) == -signal.SIGKILL
    daemon.release()


async def test_a_process_is_known_by_its_start_time() -> None:
    child = await process.spawn(["sleep", "60"])
    started = pidfd.start_time(child.pid)
    assert started > 0
    assert not pidfd.send_signal(child.pid, started + 1, signal.SIGKILL)
    gone = asyncio.create_task(pidfd.wait_gone(child.pid, started))
    assert pidfd.send_signal(child.pid, started, signal.SIGKILL)
    await gone
    assert await child.wait() == -signal.SIGKILL
    assert not pidfd.send_signal(child.pid, started, signal.SIGKILL)
    await pidfd.wait_gone(child.pid, started)


async def test_a_program_started_at_once_gets_its_descriptors_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET", "1")
    output, writing = os.pipe2(os.O_CLOEXEC)
    passed, other = os.pipe2(os.O_CLOEXEC)
    leak = os.open("/", os.O_RDONLY)
    os.set_inheritable(leak, True)
    script = (
        f"env; readlink /proc/self/fd/0; cat /proc/self/fd/{passed}; ls /proc/$$/fd; kill -PIPE $$"
    )
    pid = process.start(
        ["/bin/sh", "-c", script], stdout=writing, pass_fds=(passed,), env={"MORE": "2"}
    )
    os.close(writing)
    os.close(leak)
    os.write(other, b"told\n")
    os.close(other)
    assert await pidfd.wait_child(pid) == 128 + signal.SIGPIPE, "signals are ignored as by Python"
    with os.fdopen(output, "rb") as stream:
        words = stream.read().decode().split()
    os.close(passed)
    assert not any(word.startswith("SECRET") for word in words)
    assert {"MORE=2", "/dev/null", "told"} <= set(words)
    assert set(words[words.index("told") + 1 :]) - {"10"} == {"0", "1", "2", str(passed)}


def test_a_program_that_cannot_be_started_at_once_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot start /bin/nope-x") as caught:
        process.start(["/bin/nope-x"])
    assert "Install nope-x" in caught.value.hint
    plain = tmp_path / "plain"
    plain.touch(mode=0o644)
    with pytest.raises(HostError, match="plain: Permission denied"):
        process.start([str(plain)])


async def test_a_child_that_has_ended_is_reaped_without_waiting() -> None:
    pid = process.start(["/bin/sh", "-c", "exit 5"])
    while pidfd.start_time(pid):
        await asyncio.sleep(0.001)
    assert await pidfd.wait_child(pid) == 5
    assert await pidfd.wait_child(pid) is None
