"""The Runtime contract, kept by runc under conmon: real containers on a busybox root."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from stackctl.adapters.runtime.cgroups import own_facts
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.contracts.container import ContainerRecord, ContainerSpec, LogConfig, MountPoint
from stackctl.contracts.runtime import ExecProcess, Exit, Launch, Running, Streams
from stackctl.engine.runtime_spec import (
    HostDevice,
    SpecInputs,
    container_capabilities,
    runtime_spec,
)
from stackctl.engine.security import ALL_CAPABILITIES
from stackctl.errors import ConflictError, StartError
from stackctl.host import mounts, pidfd
from stackctl.oci.runtime import RuntimeSpec
from tests.runtimes import execs_of

pytestmark = pytest.mark.root


class Place:
    """A runtime of the test's own, and containers on a busybox root."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.parent = f"/stackctl-test-{secrets.token_hex(3)}"
        self.runtime = ConmonRuntime(
            RuntimeSettings(run_root=home / "run", cgroup_parent=self.parent)
        )
        self.rootfs = home / "rootfs"
        self.ids: list[str] = []
        self.specs: dict[str, RuntimeSpec] = {}

    def launch(
        self,
        *argv: str,
        open_stdin: bool = False,
        stdin_once: bool = False,
        inputs: dict | None = None,
        **spec,
    ) -> Launch:
        container_id = secrets.token_hex(32)
        self.ids.append(container_id)
        asked = ContainerSpec(image="busybox", open_stdin=open_stdin, **spec)
        record = ContainerRecord(
            id=container_id, name="c", created=0.0, spec=asked, image_id="", layers=(),
            path=argv[0], args=argv[1:],
        )  # fmt: skip
        given = SpecInputs(
            record=record, rootfs=str(self.rootfs), netns_path="", cgroup_parent=self.parent,
            cgroup_version=own_facts().version, capabilities=held(), **(inputs or {}),
        )  # fmt: skip
        self.specs[container_id] = runtime_spec(given)
        return Launch(
            id=container_id,
            log_path=self.home / f"{container_id}.log",
            tty=asked.tty,
            open_stdin=open_stdin,
            stdin_once=stdin_once,
        )

    async def create(self, launch: Launch) -> Running:
        async with self.runtime.creating(launch) as create:
            return await create(self.specs[launch.id])

    async def run(self, *argv: str, **spec) -> tuple[str, Running]:
        launch = self.launch(*argv, **spec)
        running = await self.create(launch)
        await self.runtime.start(launch.id)
        return launch.id, running

    async def log(self, container_id: str) -> list[tuple[int, bytes]]:
        batches = self.runtime.read_log(self.home / f"{container_id}.log")
        return [(stream, text) for batch in batches for stream, texts in batch for text in texts]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    rootfs = tmp_path / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    for name in (
        "sh",
        "cat",
        "sleep",
        "true",
        "echo",
        "stty",
        "id",
        "grep",
        "head",
        "dd",
        "yes",
        "seq",
        "tty",
        "ls",
        "tr",
        "printf",
    ):
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (rootfs / "bin/notexec").write_text("data")
    made = Place(tmp_path)
    yield made
    for container_id in made.ids:
        await made.runtime.delete(container_id)
    made.runtime.close()
    assert zombies() == []
    left = [
        path
        for root in Path("/sys/fs/cgroup").iterdir()
        for path in root.glob(made.parent.strip("/"))
    ]
    assert left == []


def held() -> frozenset[str]:
    """Return the capabilities of this process, as the daemon's own are given."""
    status = Path("/proc/self/status").read_text()
    mask = int(status.partition("CapEff:")[2].split()[0], 16)
    return frozenset(name for bit, name in enumerate(ALL_CAPABILITIES) if mask >> bit & 1)


def zombies() -> list[str]:
    """Return this process's children that ended and were not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        state, parent, *_ = rest.split()
        if state == "Z" and int(parent) == os.getpid():
            found.append(name)
    return found


async def collect(streams: Streams) -> dict[int, bytes]:
    found: dict[int, bytes] = {1: b"", 2: b""}
    async for stream, data in streams.output():
        found[stream] += data
    return found


async def until(streams_output, text: bytes) -> bytes:
    seen = b""
    async for _, data in streams_output:
        seen += data
        if text in seen:
            break
    return seen


async def test_the_exit_code_of_the_program_is_the_exit_code_of_the_container(place: Place) -> None:
    container_id, running = await place.run("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    ended = await place.runtime.wait(container_id, running)
    assert (ended.code, ended.oom_killed) == (7, False)
    assert abs(ended.at - time.time()) < 5
    assert sorted(await place.log(container_id)) == [(1, b"out\n"), (2, b"err\n")]
    assert await place.runtime.exit_of(container_id) == ended


async def test_what_is_printed_right_after_the_start_reaches_an_attach_from_before(
    place: Place,
) -> None:
    launch = place.launch("/bin/sh", "-c", "echo out; echo err >&2")
    await place.create(launch)
    streams = await place.runtime.attach(launch.id)
    await place.runtime.start(launch.id)
    assert await collect(streams) == {1: b"out\n", 2: b"err\n"}
    await streams.close()


async def test_the_end_of_attached_input_is_the_end_of_the_programs_input(place: Place) -> None:
    launch = place.launch("/bin/cat", open_stdin=True, stdin_once=True)
    running = await place.create(launch)
    streams = await place.runtime.attach(launch.id)
    await place.runtime.start(launch.id)
    sent = os.urandom(700_000)
    reading = asyncio.create_task(collect(streams))
    await streams.write(sent)
    await streams.close_input()
    assert (await reading)[1] == sent
    assert (await place.runtime.wait(launch.id, running)).code == 0
    await streams.write(b"too late")
    await streams.close()


async def test_input_that_is_not_once_stays_open_when_the_client_leaves(place: Place) -> None:
    launch = place.launch("/bin/cat", open_stdin=True)
    running = await place.create(launch)
    first = await place.runtime.attach(launch.id)
    await place.runtime.start(launch.id)
    await first.close_input()
    await first.close()
    second = await place.runtime.attach(launch.id)
    await second.write(b"still here\n")
    assert b"still here" in await until(second.output(), b"still here")
    await second.close()
    assert await place.runtime.is_alive(launch.id, running)


async def test_a_terminal_has_one_stream_and_the_size_it_is_given(place: Place) -> None:
    script = "trap : WINCH; stty size; while :; do read line; stty size; done"
    launch = place.launch("/bin/sh", "-c", script, tty=True, open_stdin=True, console_size=(20, 70))
    await place.create(launch)
    streams = await place.runtime.attach(launch.id)
    await place.runtime.resize(launch.id, 33, 99)
    await place.runtime.start(launch.id)
    await until(streams.output(), b"33 99\r\n")
    await place.runtime.resize(launch.id, 40, 120)
    await place.runtime.resize(launch.id, 41, 121)
    await streams.write(b"\n")
    assert b"41 121" in await until(streams.output(), b"41 121\r\n")
    await streams.close()


async def test_a_missing_program_is_127_and_leaves_nothing(place: Place) -> None:
    with pytest.raises(StartError, match="no such file or directory") as caught:
        await place.run("/bin/nope")
    assert caught.value.exit_code == 127
    assert await place.runtime.known() == []


async def test_a_program_that_may_not_be_run_is_126(place: Place) -> None:
    with pytest.raises(StartError, match="permission denied") as caught:
        await place.run("/bin/notexec")
    assert caught.value.exit_code == 126


def exec_of(*argv: str, **fields) -> ExecProcess:
    return ExecProcess(
        args=argv, env=("PATH=/bin",), cwd="/", uid=fields.pop("uid", 0), gid=0,
        capabilities=container_capabilities(ContainerSpec(image=""), frozenset()), **fields,
    )  # fmt: skip


async def test_exec_keeps_the_streams_apart_and_returns_the_code(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(
        container_id, exec_of("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    )
    assert await collect(session) == {1: b"out\n", 2: b"err\n"}
    assert await session.wait() == 7
    await session.close()


async def test_exec_sees_the_end_of_its_input(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(container_id, exec_of("/bin/cat", open_stdin=True))
    sent = os.urandom(1_300_000)
    reading = asyncio.create_task(collect(session))
    await session.write(sent)
    await session.close_input()
    assert (await reading)[1] == sent
    assert await session.wait() == 0
    await session.close()


async def test_exec_on_a_terminal_is_resized(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    wanted = exec_of(
        "/bin/sh", "-c", "stty size; read x; stty size; exit 9",
        tty=True, open_stdin=True, console_size=(40, 120),
    )  # fmt: skip
    session = await place.runtime.execute(container_id, wanted)
    await until(session.output(), b"40 120\r\n")
    await session.resize(50, 100)
    await session.write(b"\n")
    assert b"50 100" in (await collect(session))[1]
    assert await session.wait() == 9
    await session.close()


@pytest.mark.parametrize(
    ("program", "code"), [("/bin/nope", 127), ("nope", 127), ("/bin/notexec", 126)]
)
async def test_exec_of_what_cannot_be_run_says_so(place: Place, program: str, code: int) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    for tty in (False, True):
        with pytest.raises(StartError) as caught:
            await place.runtime.execute(container_id, exec_of(program, tty=tty))
        assert caught.value.exit_code == code


async def test_an_exec_that_leaves_a_process_behind_ends_all_the_same(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(
        container_id, exec_of("/bin/sh", "-c", "sleep 1000 & echo started")
    )
    assert await session.wait() == 0
    async with asyncio.timeout(60):
        assert (await collect(session))[1] == b"started\n"
    await session.close()


async def test_a_create_that_is_cancelled_leaves_nothing(place: Place) -> None:
    cancelled = 0
    for pause in (0, 0.001, 0.02, 0.04):
        launch = place.launch("/bin/sleep", "100")
        creating = asyncio.create_task(place.create(launch))
        await asyncio.sleep(pause)
        creating.cancel()
        try:
            await creating
        except asyncio.CancelledError:
            cancelled += 1
        else:  # on a busy machine the pause was longer than the work
            await place.runtime.delete(launch.id)
    assert cancelled
    assert await place.runtime.known() == []


async def test_an_exec_that_is_cancelled_while_it_starts_is_ended(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    starting = asyncio.create_task(
        place.runtime.execute(container_id, exec_of("/bin/sleep", "100"))
    )
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    others = asyncio.all_tasks() - {asyncio.current_task()}
    while others:
        await asyncio.wait(others)
        others = asyncio.all_tasks() - {asyncio.current_task()}
    assert len(await place.runtime.processes(container_id)) == 1


def descriptors() -> int:
    """Count this process's descriptors, but for that which hurries moves between cgroups and is closed by itself."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += not os.readlink(f"/proc/self/fd/{name}").endswith("/cgroup.procs")
    return found


async def wait_for_none(container_id: str) -> None:
    async with asyncio.timeout(20):
        while execs_of(container_id):
            await asyncio.sleep(0.005)


async def test_a_prepared_exec_waits_and_then_runs_what_it_is_given(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    for tty in (False, True):
        wanted = exec_of("/bin/echo", "ran", tty=tty, console_size=(20, 60) if tty else (0, 0))
        prepared = place.runtime.prepare_exec(container_id, wanted.shape)
        await asyncio.sleep(0.1)
        assert len(execs_of(container_id)) == 1
        assert len(await place.runtime.processes(container_id)) == 1, "it runs already"
        session = await prepared.start(wanted)
        assert (await collect(session))[1].split() == [b"ran"]
        assert await session.wait() == 0
        await session.close()
        prepared.drop()
    await wait_for_none(container_id)


async def test_a_prepared_exec_that_is_dropped_leaves_nothing(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(container_id, exec_of("/bin/true"))
    await session.wait()
    await session.close()
    before = descriptors()
    for pause in (0, 0.001, 0.01, 0.05):
        for tty in (False, True):
            wanted = exec_of("/bin/true", tty=tty, open_stdin=True)
            prepared = place.runtime.prepare_exec(container_id, wanted.shape)
            await asyncio.sleep(pause)
            prepared.drop()
            prepared.drop()
    await wait_for_none(container_id)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=20)
    assert descriptors() == before
    assert len(await place.runtime.processes(container_id)) == 1


async def test_a_container_that_ends_before_a_prepared_exec_starts_is_told(place: Place) -> None:
    container_id, running = await place.run("/bin/sleep", "100")
    wanted = exec_of("/bin/true")
    prepared = place.runtime.prepare_exec(container_id, wanted.shape)
    await asyncio.sleep(0.1)
    await place.runtime.kill(container_id, signal.SIGKILL)
    await place.runtime.wait(container_id, running)
    with pytest.raises((StartError, ConflictError)):
        await prepared.start(wanted)
    late = place.runtime.prepare_exec(container_id, wanted.shape)
    with pytest.raises(ConflictError, match="is not running"):
        await late.start(wanted)


async def test_an_exec_whose_environment_fills_more_than_a_pipe(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    large = tuple(f"LARGE{number}={'x' * 90_000}" for number in range(8))
    wanted = exec_of("/bin/sh", "-c", "echo ${#LARGE0} ${#LARGE7}")
    session = await place.runtime.execute(container_id, replace(wanted, env=(*wanted.env, *large)))
    assert (await collect(session))[1] == b"90000 90000\n"
    assert await session.wait() == 0
    await session.close()


async def test_without_directories_in_memory_it_works_on_disk(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "memory_directory", lambda: None)
    container_id, _ = await place.run("/bin/sleep", "100")
    for tty in (False, True):
        session = await place.runtime.execute(container_id, exec_of("/bin/echo", "x", tty=tty))
        assert (await collect(session))[1].split() == [b"x"]
        assert await session.wait() == 0
        await session.close()
    assert list((place.home / "run/x").iterdir()) == []


async def test_attaching_and_leaving_keeps_no_descriptor(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    before = descriptors()
    for _ in range(200):
        streams = await place.runtime.attach(container_id)
        await streams.close()
    assert descriptors() == before


async def test_a_writer_that_waits_for_room_is_released_by_close(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(
        container_id, exec_of("/bin/sleep", "100", open_stdin=True)
    )
    writing = asyncio.create_task(session.write(b"x" * 1_000_000))
    await asyncio.sleep(0.05)
    assert not writing.done()
    await session.close()
    await writing
    await session.kill(signal.SIGKILL)
    await session.wait()


async def test_an_exec_can_be_killed(place: Place) -> None:
    container_id, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(container_id, exec_of("/bin/sleep", "100"))
    await session.kill(signal.SIGKILL)
    assert await session.wait() == 137
    await session.kill(signal.SIGKILL)
    await session.close()


async def test_capabilities_of_container_and_exec_are_not_inheritable(place: Place) -> None:
    status = ("/bin/grep", "Cap", "/proc/self/status")
    container_id, running = await place.run(*status)
    await place.runtime.wait(container_id, running)
    own = b"".join(data for _, data in await place.log(container_id))
    other, _ = await place.run("/bin/sleep", "100")
    session = await place.runtime.execute(other, exec_of(*status))
    assert (await collect(session))[1] == own
    assert b"CapInh:\t0000000000000000" in own
    assert b"CapEff:\t00000000a80425fb" in own
    await session.wait()
    await session.close()


async def test_a_signal_reaches_the_program(place: Place) -> None:
    container_id, running = await place.run(
        "/bin/sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    )
    log = place.home / f"{container_id}.log"
    entries = place.runtime.follow_log_entries(log, ended=asyncio.Event())
    said: list[bytes] = []
    while not said:
        said = [text for _, _, text, _ in await anext(entries)]
    assert said == [b"ready\n"]
    await entries.aclose()
    await place.runtime.kill(container_id, signal.SIGTERM)
    assert (await place.runtime.wait(container_id, running)).code == 3
    with pytest.raises(ConflictError):
        await place.runtime.kill(container_id, signal.SIGTERM)


async def test_a_paused_container_stands_still_and_can_be_killed(place: Place) -> None:
    container_id, running = await place.run("/bin/sleep", "100")
    await place.runtime.pause(container_id)
    await place.runtime.resume(container_id)
    await place.runtime.resume(container_id)
    await place.runtime.pause(container_id)
    await place.runtime.kill(container_id, signal.SIGKILL)
    assert (await place.runtime.wait(container_id, running)).code == 137


async def test_what_is_asked_of_a_container_that_has_just_ended_is_refused(place: Place) -> None:
    container_id, running = await place.run("/bin/sleep", "100")
    os.kill(running.pid, signal.SIGKILL)
    while pidfd.start_time(running.pid):
        await asyncio.sleep(0.001)
    with pytest.raises(ConflictError, match="is not running"):
        await place.runtime.pause(container_id)
    with pytest.raises(ConflictError, match="is not running"):
        await place.runtime.update(container_id, {"pids": {"limit": 50}})


async def test_a_container_whose_monitor_is_killed_is_ended(place: Place) -> None:
    container_id, running = await place.run("/bin/sleep", "100")
    os.kill(running.monitor_pid, signal.SIGKILL)
    ended = await place.runtime.wait(container_id, running)
    assert ended.code in (137, 255)
    assert not await place.runtime.is_alive(container_id, running)
    assert (await place.runtime.exit_of(container_id)).code == ended.code


async def test_limits_are_in_the_cgroup_and_may_change(place: Place) -> None:
    container_id, _ = await place.run(
        "/bin/sleep", "100", memory=64 << 20, pids_limit=50, nano_cpus=500_000_000
    )
    usage = await place.runtime.usage(container_id)
    assert (usage.memory_limit, usage.pids_limit) == (64 << 20, 50)
    assert usage.pids >= 1
    assert usage.cpu_total > 0
    assert len(await place.runtime.processes(container_id)) == 1
    await place.runtime.update(container_id, {"pids": {"limit": 77}})
    assert (await place.runtime.usage(container_id)).pids_limit == 77


async def test_running_out_of_memory_is_told(place: Place) -> None:
    container_id, running = await place.run(
        "/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=60M", memory=16 << 20, memory_swap=16 << 20
    )
    ended = await place.runtime.wait(container_id, running)
    assert ended == Exit(code=137, at=ended.at, oom_killed=True)


_CREATOR = """
import asyncio, json, sys
from pathlib import Path
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.contracts.runtime import Launch
from stackctl.oci.runtime import RuntimeSpec
from tests.runtimes import execs_of
from stackctl.values import from_json, to_json

async def main():
    told = json.load(sys.stdin)
    runtime = ConmonRuntime(RuntimeSettings(run_root=Path(told["run"]), cgroup_parent=told["parent"]))
    launch = Launch(id=told["id"], log_path=Path(told["log"]))
    async with runtime.creating(launch) as create:
        running = await create(RuntimeSpec(tree=told["tree"]))
    await runtime.start(told["id"])
    print(json.dumps(to_json(running)), flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


async def test_a_container_survives_its_creator_and_is_adopted(place: Place) -> None:
    launch = place.launch("/bin/sh", "-c", "sleep 0.5; echo done; exit 5")
    told = {
        "run": str(place.home / "run"), "parent": place.parent, "id": launch.id,
        "tree": place.specs[launch.id].tree, "log": str(launch.log_path),
    }  # fmt: skip
    creator = subprocess.Popen(
        [sys.executable, "-c", _CREATOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    creator.stdin.write(json.dumps(told).encode())
    creator.stdin.close()
    running = Running(**json.loads(creator.stdout.readline()))
    os.killpg(creator.pid, signal.SIGKILL)
    creator.wait()
    creator.stdout.close()
    assert os.getsid(running.monitor_pid) != creator.pid
    assert await place.runtime.known() == [launch.id]
    assert await place.runtime.is_alive(launch.id, running)
    assert (await place.runtime.wait(launch.id, running)).code == 5
    assert await place.log(launch.id) == [(1, b"done\n")]


async def test_deleting_twice_leaves_nothing(place: Place) -> None:
    container_id, running = await place.run("/bin/sh", "-c", "sleep 100 & sleep 100")
    await place.runtime.delete(container_id)
    await place.runtime.delete(container_id)
    assert pidfd.start_time(running.pid) == 0
    assert pidfd.start_time(running.monitor_pid) == 0
    assert await place.runtime.known() == []
    assert [path.name for path in (place.home / "run/bundles").iterdir()] == []
    assert (place.home / f"{container_id}.log").exists()


async def test_a_client_that_only_watches_does_not_close_the_input(place: Place) -> None:
    launch = place.launch("/bin/cat", open_stdin=True, stdin_once=True)
    running = await place.create(launch)
    await place.runtime.start(launch.id)
    watching = await place.runtime.attach(launch.id)
    await watching.close()
    typing = await place.runtime.attach(launch.id)
    await typing.write(b"hello\n")
    assert b"hello" in await until(typing.output(), b"hello")
    await typing.close_input()
    assert (await place.runtime.wait(launch.id, running)).code == 0
    await typing.close()


async def test_the_monitor_leaves_the_cgroups_and_the_session_it_came_from(place: Place) -> None:
    _, running = await place.run("/bin/sleep", "100")
    groups = {
        line.split(":", 2)[2]
        for line in Path(f"/proc/{running.monitor_pid}/cgroup").read_text().splitlines()
    }
    assert groups <= {"/", f"{place.parent}/monitors"}
    assert os.getsid(running.monitor_pid) != os.getsid(0)


async def test_only_so_many_old_logs_are_kept(place: Place) -> None:
    launch = place.launch("/bin/sh", "-c", "while :; do echo line; sleep 0.01; done")
    launch = replace(launch, log_config=LogConfig(config={"max-file": "2"}))
    await place.create(launch)
    await place.runtime.start(launch.id)
    for _ in range(4):
        await place.runtime.reopen_log(launch.id, launch.log_path)
    names = sorted(path.name for path in place.home.glob(f"{launch.id}.log*"))
    assert names == [launch.log_path.name, f"{launch.log_path.name}.1"]


async def output_of(place: Place, *argv: str, **spec) -> tuple[int, str]:
    container_id, running = await place.run(*argv, **spec)
    ended = await place.runtime.wait(container_id, running)
    return ended.code, b"".join(data for _, data in await place.log(container_id)).decode()


async def test_a_plain_container_is_confined(place: Place) -> None:
    script = (
        "grep -E '^Seccomp:|NoNewPrivs' /proc/self/status; cat /proc/kcore | head -c 1;"
        "echo x > /proc/sys/kernel/panic; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
        "grep ' /dev/shm ' /proc/mounts; echo $HOSTNAME $HOME"
    )
    _, text = await output_of(
        place, "/bin/sh", "-c", script, shm_size=1 << 20, security_opt=("no-new-privileges",)
    )
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert "Read-only file system" in text
    assert "\n0\n" in text
    assert "size=1024k" in text


async def test_a_privileged_container_has_what_this_machine_gives(place: Place) -> None:
    node = HostDevice(path="/dev/mapped", kind="c", major=1, minor=3)
    code, text = await output_of(
        place, "/bin/sh", "-c", "grep -E 'CapEff|^Seccomp:' /proc/self/status; echo > /dev/mapped",
        privileged=True, inputs={"devices": (node,)},
    )  # fmt: skip
    own = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    assert code == 0
    assert f"CapEff:\t{own}" in text
    assert "Seccomp:\t0" in text


async def test_mounts_are_there_as_asked(place: Place) -> None:
    source = place.home / "source"
    (source / "inner").mkdir(parents=True)
    points = (
        MountPoint(type="bind", target="/data", source=str(source), read_only=True),
        MountPoint(type="bind", target="/data/inner", source=str(place.home)),
        MountPoint(type="tmpfs", target="/scratch", tmpfs_options=("size=1m",)),
    )
    code, text = await output_of(
        place, "/bin/sh", "-c", "echo x > /data/no; echo ok > /data/inner/yes; echo y > /scratch/z; grep scratch /proc/mounts; echo n > /no",
        read_only_rootfs=True, inputs={"mounts": points},
    )  # fmt: skip
    assert code == 1
    assert text.count("Read-only file system") == 2
    assert "size=1024k" in text
    assert (place.home / "yes").read_text() == "ok\n"
    assert not (source / "no").exists()


async def test_an_init_reaps_and_passes_the_exit_code_on(place: Place) -> None:
    code, text = await output_of(
        place, "/bin/sh", "-c", "grep Name /proc/1/status; exit 4",
        inputs={"init": True, "init_path": shutil.which("tini-static") or shutil.which("tini")},
    )  # fmt: skip
    assert code == 4
    assert "docker-init" in text or "tini" in text


async def test_nothing_outlives_the_first_process_even_with_the_hosts_pids(place: Place) -> None:
    container_id, running = await place.run("/bin/sh", "-c", "sleep 100 & echo $!", pid_mode="host")
    await place.runtime.wait(container_id, running)
    child = int((await place.log(container_id))[0][1])
    assert pidfd.start_time(child) == 0


async def test_output_without_a_newline_is_kept_and_long_lines_are_whole(place: Place) -> None:
    _, text = await output_of(
        place, "/bin/sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf end"
    )
    assert text == "x" * 40000 + "\nend"


async def test_rotation_while_following_loses_no_line(place: Place) -> None:
    count = 60_000
    launch = replace(
        place.launch("/bin/seq", "1", str(count)), log_config=LogConfig(config={"max-file": "5"})
    )
    container_id = launch.id
    running = await place.create(launch)
    await place.runtime.start(container_id)
    log = place.home / f"{container_id}.log"
    ended = asyncio.Event()

    async def follow() -> bytes:
        return b"".join(
            [
                text
                async for batch in place.runtime.follow_log(log, ended=ended)
                for _, texts in batch
                for text in texts
            ]
        )

    following = asyncio.create_task(follow())
    for _ in range(3):
        await asyncio.sleep(0.02)
        try:
            await place.runtime.reopen_log(container_id, log)
        except ConflictError:
            break
    await place.runtime.wait(container_id, running)
    ended.set()
    wanted = b"".join(b"%d\n" % number for number in range(1, count + 1))
    assert await following == wanted
    assert b"".join(data for _, data in await place.log(container_id)) == wanted


async def test_getting_ready_for_a_container_moves_nobody(place: Place) -> None:
    before = Path("/proc/self/cgroup").read_text()
    launch = place.launch("/bin/sleep", "100")
    async with place.runtime.creating(launch) as create:
        await asyncio.sleep(0.05)
        running = await create(place.specs[launch.id])
        await asyncio.sleep(0.05)
    assert Path("/proc/self/cgroup").read_text() == before
    groups = Path(f"/proc/{running.pid}/cgroup").read_text()
    assert f"{place.parent}/{launch.id}" in groups


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_a_container_that_gets_no_specification_leaves_nothing(
    place: Place, pause: float
) -> None:
    async def failing() -> None:
        async with place.runtime.creating(place.launch("/bin/true")):
            await asyncio.sleep(pause)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    async with place.runtime.creating(place.launch("/bin/true")):
        await asyncio.sleep(pause)
    assert await place.runtime.known() == []
    assert pidfd.children_called("conmon") == []
