"""The engine core on the real adapters: containers that run."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from stackctl.contracts.container import (
    ContainerSpec,
    EndpointRequest,
    Healthcheck,
    MountRequest,
    PortBinding,
    RestartPolicy,
    Status,
)
from stackctl.contracts.state import Subnet
from stackctl.engine.core import Engine
from stackctl.engine.requests import (
    EventQuery,
    ExecRequest,
    LogQuery,
    NetworkRequest,
    Update,
    VolumeRequest,
)
from stackctl.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotModifiedError,
    StartError,
)
from tests.orphans import leave_orphans_to_init
from tests.runtimes import execs_of
from tests.system.engine_world import (
    build_engine,
    close_engine,
    import_busybox,
    log_text,
    paths_in,
    remove_everything,
    until,
)

pytestmark = pytest.mark.root

CRASHER = """
import asyncio, os, sys
from pathlib import Path
from tests.system.engine_world import build_engine, import_busybox
from stackctl.contracts.container import ContainerSpec, EndpointRequest, PortBinding, RestartPolicy, Healthcheck
from stackctl.engine.requests import NetworkRequest

async def main():
    engine = await build_engine(Path(sys.argv[1]))
    await engine.start()
    await import_busybox(engine)
    await engine.networks.create(NetworkRequest(name="net"))
    loop = "trap 'exit 7' TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.1; done"
    for name in ("stays", "peer"):
        await engine.containers.create(ContainerSpec(
            image="busybox", cmd=("sh", "-c", loop), network_mode="net",
            port_bindings=(PortBinding(container_port=80, host_ip="127.0.0.1"),) if name == "stays" else (),
            healthcheck=Healthcheck(test=("CMD", "true"), interval=0.2) if name == "stays" else None,
        ), name=name)
        await engine.running.start(name)
    await engine.containers.create(ContainerSpec(image="busybox", cmd=("sh", "-c", "read x; exit 5"), open_stdin=True), name="ends")
    await engine.running.start("ends")
    await engine.containers.create(ContainerSpec(image="busybox", cmd=("sh", "-c", "sleep 1; exit 4"), restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=9)), name="again")
    await engine.running.start("again")
    await engine.containers.create(ContainerSpec(image="busybox", cmd=("true",)), name="idle")
    print("READY", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    base = Path(tempfile.mkdtemp(prefix="stackctl-core-"))
    made = await build_engine(base)
    try:
        await made.start()
        await import_busybox(made)
        yield made
    finally:
        await remove_everything(made)
        await close_engine(made)
        shutil.rmtree(base, ignore_errors=True)


async def run(engine: Engine, script: str, name: str = "", **fields: object) -> int:
    spec = replace(ContainerSpec(image="busybox", cmd=("sh", "-c", script)), **fields)
    made = await engine.containers.create(spec, name=name)
    waiter = engine.running.watch(made.id, "next-exit")
    await engine.running.start(made.id)
    return (await asyncio.wait_for(waiter, 60)).code


async def up(engine: Engine, name: str, script: str = "exec sleep 600", **fields: object) -> str:
    spec = replace(ContainerSpec(image="busybox", cmd=("sh", "-c", script)), **fields)
    made = await engine.containers.create(spec, name=name)
    await engine.running.start(made.id)
    return made.id


async def execute(engine: Engine, ref: str, script: str, **fields: object) -> tuple[int, str]:
    request = ExecRequest(cmd=("sh", "-c", script), attach_stdout=True, attach_stderr=True)
    exec_id = await engine.execs.create(ref, replace(request, **fields))
    session = await engine.execs.start(exec_id)
    assert session is not None
    output = b"".join([data async for _, data in session.output()])
    code = await asyncio.wait_for(session.wait(), 60)
    assert engine.execs.inspect(exec_id).exit_code == code
    return code, output.decode()


async def test_a_container_runs_and_its_exit_code_and_output_are_kept(engine: Engine) -> None:
    code = await run(engine, "echo out; echo err >&2; exit 3", name="one")
    record = engine.containers.resolve("one")
    assert (code, record.exit_code, record.status) == (3, 3, Status.EXITED)
    found = sorted(
        [
            (number, text)
            async for runs in engine.logs.read("one", LogQuery())
            for number, texts in runs
            for text in texts
        ]
    )
    assert found == [(1, b"out\n"), (2, b"err\n")]
    assert record.finished_at >= record.started_at > 0


async def test_events_tell_a_container_s_life_in_order(engine: Engine) -> None:
    listening = engine.events.subscribe(EventQuery(filters={"type": ["container"]}))
    await run(engine, "exit 2", name="told", labels={"a": "b"})
    await engine.containers.remove("told")
    seen = [await asyncio.wait_for(anext(listening), 60) for _ in range(4)]
    assert [event.action for event in seen] == ["create", "start", "die", "destroy"]
    die = seen[2].attributes
    assert (die["exitCode"], die["name"], die["image"], die["a"]) == ("2", "told", "busybox", "b")


async def test_a_missing_program_leaves_the_container_created_with_127(engine: Engine) -> None:
    made = await engine.containers.create(ContainerSpec(image="busybox", cmd=("/nope",)))
    with pytest.raises(StartError) as raised:
        await engine.running.start(made.id)
    record = engine.containers.resolve(made.id)
    assert raised.value.exit_code == record.exit_code == 127
    assert record.status is Status.CREATED
    assert record.error
    assert await engine.world.network.sandboxes() == []
    assert str(engine.world.host.data_root) not in Path("/proc/mounts").read_text()


async def test_stop_sends_the_signal_then_kills(engine: Engine) -> None:
    await up(engine, "polite", "trap 'exit 9' TERM; touch /set; while true; do sleep 0.05; done")
    await execute(engine, "polite", "until [ -e /set ]; do sleep 0.01; done")
    await engine.running.stop("polite", timeout=5)
    assert engine.containers.resolve("polite").exit_code == 9
    await up(engine, "deaf", "trap '' TERM; while true; do sleep 0.05; done")
    await engine.running.stop("deaf", timeout=1)
    record = engine.containers.resolve("deaf")
    assert (record.exit_code, record.manually_stopped) == (137, True)
    with pytest.raises(NotModifiedError):
        await engine.running.stop("deaf")


async def test_containers_of_one_network_find_each_other_by_name_and_alias(engine: Engine) -> None:
    await engine.networks.create(NetworkRequest(name="net"))
    web = EndpointRequest(network="net", aliases=("www",))
    await up(engine, "server", network_mode="net", endpoints=(web,))
    await up(engine, "client", network_mode="net")
    for name in ("server", "www", "server.net"):
        code, output = await execute(engine, "client", f"ping -c1 -W2 {name}")
        assert code == 0, output
    await engine.containers.rename("server", "renamed")
    code, output = await execute(engine, "client", "ping -c1 -W2 renamed")
    assert code == 0, output


async def test_a_running_container_joins_and_leaves_a_network(engine: Engine) -> None:
    await engine.networks.create(NetworkRequest(name="one"))
    two, _ = await engine.networks.create(NetworkRequest(name="two"))
    await up(engine, "mover", network_mode="one")
    await up(engine, "there", network_mode="two")
    await engine.networks.connect("two", "mover", EndpointRequest(network="two", aliases=("m",)))
    assert {record.name for record, _ in engine.networks.members(two.id)} == {"mover", "there"}
    assert (await execute(engine, "there", "ping -c1 -W2 m"))[0] == 0
    with pytest.raises(ForbiddenError):
        await engine.networks.connect("two", "mover", EndpointRequest(network="two"))
    await engine.networks.disconnect("two", "mover")
    assert (await execute(engine, "there", "ping -c1 -W1 m"))[0] != 0
    with pytest.raises(ForbiddenError, match="active endpoints"):
        await engine.networks.remove("two")


async def test_who_does_not_run_keeps_no_address_that_another_needs(engine: Engine) -> None:
    await engine.networks.create(
        NetworkRequest(name="narrow", subnets=(Subnet(subnet="10.77.5.0/30"),))
    )
    fields = {
        "network_mode": "narrow",
        "endpoints": (EndpointRequest(network="narrow"),),
        "stop_signal": "SIGKILL",
    }
    spec = replace(ContainerSpec(image="busybox", cmd=("sleep", "600")), **fields)
    for name in ("one", "two", "three"):
        await engine.containers.create(spec, name=name)
    await engine.running.start("one")
    assert engine.containers.resolve("one").endpoints["narrow"].ipv4_address == "10.77.5.2"
    assert "10.77.5.2/30" in (await execute(engine, "one", "ip addr show eth0"))[1]
    with pytest.raises(ForbiddenError, match="no available IPv4 addresses"):
        await engine.running.start("two")
    await engine.running.stop("one")
    await engine.running.start("two")
    assert "10.77.5.2/30" in (await execute(engine, "two", "ip addr show eth0"))[1]


async def test_a_published_port_answers_on_the_host(engine: Engine) -> None:
    await up(
        engine,
        "web",
        "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhi' | nc -l -p 80; done",
        port_bindings=(PortBinding(container_port=80, host_ip="127.0.0.1"),),
    )
    (port,) = engine.containers.resolve("web").ports
    assert port.host_port > 0

    async def ask() -> bytes:
        for _ in range(50):
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port.host_port)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                data = await asyncio.wait_for(reader.read(), 60)
                writer.close()
                if data:
                    return data
            await asyncio.sleep(0.1)
        return b""

    assert (await ask()).endswith(b"hi")
    binding = PortBinding(container_port=80, host_ip="127.0.0.1", host_port=port.host_port)
    with pytest.raises(ConflictError, match="port is already allocated"):
        await up(engine, "rival", port_bindings=(binding,))
    assert engine.containers.resolve("rival").status is Status.CREATED
    await engine.running.stop("web", timeout=0)
    assert engine.containers.resolve("web").ports == ()


async def test_on_failure_restarts_until_its_limit(engine: Engine) -> None:
    made = await engine.containers.create(
        ContainerSpec(
            image="busybox",
            cmd=("sh", "-c", "exit 6"),
            restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=2),
        )
    )
    waiter = engine.running.watch(made.id, "next-exit")
    await engine.running.start(made.id)
    assert (await asyncio.wait_for(waiter, 60)).code == 6
    async with asyncio.timeout(60):
        while (
            engine.containers.resolve(made.id).restart_count,
            engine.containers.resolve(made.id).status,
        ) != (2, Status.EXITED):
            await asyncio.sleep(0.05)


async def test_who_is_healthy_early_is_known_to_be_and_an_early_failure_means_nothing(
    engine: Engine,
) -> None:
    listening = engine.events.subscribe(EventQuery(filters={"event": ["health_status"]}))
    for name, program, interval in (("well", "true", 20.0), ("ill", "false", 1.5)):
        check = Healthcheck(test=("CMD", program), interval=interval, retries=1)
        await up(engine, name, healthcheck=check)
    for _ in range(2):
        await asyncio.wait_for(anext(listening), 60)
    well, ill = engine.containers.resolve("well"), engine.containers.resolve("ill")
    assert (well.health.status, ill.health.status) == ("healthy", "unhealthy")
    assert well.health.log[0].start - well.started_at < 20.0
    assert len(ill.health.log) == 1
    assert ill.health.log[0].start - ill.started_at >= 1.5


async def test_a_healthcheck_turns_healthy_and_unhealthy(engine: Engine) -> None:
    listening = engine.events.subscribe(EventQuery(filters={"event": ["health_status"]}))
    check = Healthcheck(test=("CMD-SHELL", "cat /ok"), interval=0.1, retries=2)
    await up(engine, "checked", healthcheck=check)
    assert engine.containers.resolve("checked").health.status == "starting"
    await execute(engine, "checked", "touch /ok")
    first = await asyncio.wait_for(anext(listening), 60)
    assert first.action in ("health_status: healthy", "health_status: unhealthy")
    if first.action == "health_status: unhealthy":
        first = await asyncio.wait_for(anext(listening), 60)
    assert first.action == "health_status: healthy"
    await execute(engine, "checked", "rm /ok")
    second = await asyncio.wait_for(anext(listening), 60)
    assert second.action == "health_status: unhealthy"
    health = engine.containers.resolve("checked").health
    assert health.failing_streak >= 2
    assert "No such file" in health.log[-1].output


async def test_volumes_are_filled_from_the_image_and_shared(engine: Engine) -> None:
    mount = MountRequest(type="volume", source="store", target="/data", origin="binds")
    assert await run(engine, "cat /data/seed && echo more > /data/new", mounts=(mount,)) == 0
    assert await run(engine, "cat /data/new", name="second", mounts=(mount,)) == 0
    assert await log_text(engine, "second") == "more\n"
    with pytest.raises(ConflictError, match="volume is in use"):
        await engine.volumes.remove("store")
    bind = MountRequest(
        type="bind", source=engine.volumes.resolve("store").mountpoint, target="/x", read_only=True
    )
    assert await run(engine, "touch /x/y", mounts=(bind,)) != 0


async def test_copying_into_a_created_container_reaches_its_volumes_and_its_own_files(
    engine: Engine,
) -> None:
    mounts = (
        MountRequest(type="volume", source="store", target="/new/place"),
        MountRequest(type="volume", target="/new/place/deeper"),
    )
    made = await engine.containers.create(
        ContainerSpec(
            image="busybox",
            cmd=("sh", "-c", "cat /new/place/a /new/place/deeper/b /own"),
            mounts=mounts,
        )
    )
    async with engine.containers.root(made.id) as root:
        for name in ("new/place/a", "new/place/deeper/b", "own"):
            (root / name).write_text(f"{name}\n")
    assert (Path(engine.volumes.resolve("store").mountpoint) / "a").read_text() == "new/place/a\n"
    assert not (Path(engine.volumes.resolve("store").mountpoint) / "deeper" / "b").exists()
    waiter = engine.running.watch(made.id, "next-exit")
    await engine.running.start(made.id)
    assert (await asyncio.wait_for(waiter, 60)).code == 0
    assert await log_text(engine, made.id) == "new/place/a\nnew/place/deeper/b\nown\n"


async def test_auto_remove_takes_the_anonymous_volumes_along(engine: Engine) -> None:
    await engine.volumes.create(VolumeRequest(name="kept"))
    mounts = (
        MountRequest(type="volume", target="/anonymous"),
        MountRequest(type="volume", source="kept", target="/kept"),
    )
    made = await engine.containers.create(
        ContainerSpec(image="busybox", cmd=("true",), auto_remove=True, mounts=mounts)
    )
    gone = engine.running.watch(made.id, "removed")
    await engine.running.start(made.id)
    assert (await asyncio.wait_for(gone, 60)).code == 0
    assert engine.containers.all() == ()
    assert [volume.name for volume in engine.volumes.all()] == ["kept"]


async def test_attach_before_the_start_loses_nothing_and_carries_input(engine: Engine) -> None:
    made = await engine.containers.create(
        ContainerSpec(image="busybox", cmd=("cat",), open_stdin=True, stdin_once=True)
    )
    streams = await engine.running.attach(made.id, stdin=True)
    waiter = engine.running.watch(made.id, "next-exit")
    await engine.running.start(made.id)
    await streams.write(b"to and fro")
    await streams.close_input()
    output = b"".join([data async for _, data in streams.output()])
    assert output == b"to and fro"
    assert (await asyncio.wait_for(waiter, 60)).code == 0
    await streams.close()


async def test_an_exec_that_is_created_and_not_started_costs_nothing_after_a_moment(
    engine: Engine,
) -> None:
    container_id = await up(engine, "patient")
    request = ExecRequest(cmd=("sh", "-c", "echo $TERM; exit 4"), attach_stdout=True)
    made = [
        await engine.execs.create("patient", replace(request, tty=tty))
        for tty in (False, True)
        for _ in range(20)
    ]
    async with asyncio.timeout(60):
        while not execs_of(container_id):
            await asyncio.sleep(0.001)
        while execs_of(container_id):
            await asyncio.sleep(0.01)
    for exec_id, output in ((made[0], b"\n"), (made[-1], b"xterm\r\n")):
        session = await engine.execs.start(exec_id)
        assert session is not None
        assert b"".join([data async for _, data in session.output()]) == output
        assert await asyncio.wait_for(session.wait(), 60) == 4
        await session.close()


async def test_an_exec_starts_in_the_run_of_the_container_that_goes_on(engine: Engine) -> None:
    await up(engine, "twice", "echo $$ >/run-$(cat /proc/uptime | cut -d. -f1); exec sleep 600")
    request = ExecRequest(
        cmd=("sh", "-c", "kill -0 1 && echo $KEY"), env=("KEY=here",), attach_stdout=True
    )
    exec_id = await engine.execs.create("twice", request)
    await engine.running.restart("twice", timeout=0)
    session = await engine.execs.start(exec_id)
    assert session is not None
    assert b"".join([data async for _, data in session.output()]) == b"here\n"
    assert await asyncio.wait_for(session.wait(), 60) == 0
    await session.close()


async def test_an_exec_that_cannot_be_made_leaves_no_runtime(engine: Engine) -> None:
    container_id = await up(engine, "plain")
    with pytest.raises(InvalidInputError, match="nobody-here"):
        await engine.execs.create("plain", ExecRequest(cmd=("true",), user="nobody-here"))
    async with asyncio.timeout(60):
        while execs_of(container_id):
            await asyncio.sleep(0.005)


async def test_pause_stops_time_and_unpause_goes_on(engine: Engine) -> None:
    await up(engine, "frozen", "while true; do echo tick; sleep 0.05; done")
    await engine.running.pause("frozen")
    assert engine.containers.resolve("frozen").status is Status.PAUSED
    with pytest.raises(ConflictError, match="paused"):
        await engine.execs.create("frozen", ExecRequest(cmd=("true",)))
    before = await log_text(engine, "frozen")
    await asyncio.sleep(0.3)
    assert await log_text(engine, "frozen") == before
    await engine.running.unpause("frozen")
    assert (await execute(engine, "frozen", "true"))[0] == 0


async def test_a_container_that_is_just_ending_can_be_committed(engine: Engine) -> None:
    for number in range(12):
        spec = ContainerSpec(image="busybox", cmd=("true",))
        made = await engine.containers.create(spec)
        await engine.running.start(made.id)
        await asyncio.sleep(number * 0.002)
        image_id = await engine.containers.commit(made.id)
        assert engine.images.resolve(image_id).id == image_id


async def test_limits_can_be_updated_while_it_runs(engine: Engine) -> None:
    await up(engine, "limited", memory=64 << 20)
    await engine.containers.update("limited", Update(memory=128 << 20, memory_swap=-1))
    usage = await engine.running.usage("limited")
    assert usage.memory_limit == 128 << 20


async def test_the_network_of_another_container_is_shared(engine: Engine) -> None:
    owner = await up(engine, "owner")
    await up(engine, "guest", network_mode="container:owner")
    ours = (await execute(engine, "owner", "ip -4 addr show eth0"))[1]
    theirs = (await execute(engine, "guest", "ip -4 addr show eth0"))[1]
    assert ours == theirs
    assert engine.containers.resolve("guest").spec.network_mode == f"container:{owner}"


async def test_a_killed_daemon_s_containers_are_adopted() -> None:
    leave_orphans_to_init()
    base = Path(tempfile.mkdtemp(prefix="stackctl-core-"))
    root = Path(__file__).parents[2]
    environ = {**os.environ, "PYTHONPATH": "."}
    child = subprocess.Popen(
        [sys.executable, "-c", CRASHER, str(base)],
        stdout=subprocess.PIPE,
        cwd=root,
        env=environ,
    )
    try:
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        assert line == b"READY\n"
        child.send_signal(signal.SIGKILL)
        await asyncio.to_thread(child.wait)
        # One container ends while no daemon is there.
        ends = _pid_of(base, "ends")
        os.kill(ends, signal.SIGKILL)
        await asyncio.sleep(1.2)
        # The next daemon is a process of its own, too: it is not the parent of what it adopts.
        adopted = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", ADOPTER, str(base)],
            cwd=root,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert adopted.stdout == "ADOPTED\n", adopted.stderr
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
        shutil.rmtree(base, ignore_errors=True)


ADOPTER = """
import asyncio, sys
from pathlib import Path
from tests.system.test_engine_core import adopt
asyncio.run(adopt(Path(sys.argv[1])))
print("ADOPTED")
"""


async def adopt(base: Path) -> None:
    """Start an engine where another was killed, check what it adopted, remove it all."""
    engine = await build_engine(base)
    try:
        await engine.start()
        await _check_adopted(engine)
    finally:
        await remove_everything(engine)
        await close_engine(engine)


def _pid_of(base: Path, name: str) -> int:
    from stackctl.adapters.state.sqlite import SqliteStateStore
    from stackctl.contracts.container import ContainerRecord

    state = SqliteStateStore(paths_in(base).data_root / "state.db")
    try:
        return next(item.pid for item in state.load(ContainerRecord) if item.name == name)
    finally:
        state.close()


async def _check_adopted(engine: Engine) -> None:
    stays = engine.containers.resolve("stays")
    assert stays.status is Status.RUNNING
    assert len(stays.ports) == 1
    lines = (await log_text(engine, "stays")).splitlines()
    assert lines == [f"line {n + 1}" for n in range(len(lines))]
    assert (await execute(engine, "stays", "ping -c1 -W2 peer"))[0] == 0
    ended = engine.containers.resolve("ends")
    assert (ended.status, ended.exit_code) == (Status.EXITED, 137)
    assert engine.containers.resolve("idle").status is Status.CREATED

    def again() -> bool:
        record = engine.containers.resolve("again")
        return record.restart_count >= 1 and record.status in (Status.RUNNING, Status.RESTARTING)

    await until(again)

    def healthy() -> bool:
        return engine.containers.resolve("stays").health.status == "healthy"

    await until(healthy)
    await engine.running.stop("stays", timeout=5)
    assert engine.containers.resolve("stays").exit_code == 7
    await up(engine, "newcomer", network_mode="net")
    assert (await execute(engine, "newcomer", "ping -c1 -W2 peer"))[0] == 0


async def test_nothing_is_left_when_the_last_container_is_gone() -> None:
    base = Path(tempfile.mkdtemp(prefix="stackctl-core-"))
    engine = await build_engine(base)
    await engine.start()
    try:
        await import_busybox(engine)
        await engine.networks.create(NetworkRequest(name="net"))
        await run(engine, "true", network_mode="net")
        await run(engine, "true")
    finally:
        await remove_everything(engine)
        await close_engine(engine)
    paths = paths_in(base)
    assert str(base) not in Path("/proc/mounts").read_text()
    links = os.listdir("/sys/class/net")
    assert not [name for name in links if name.startswith((paths.bridge_prefix, paths.veth_prefix))]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    assert paths.nft_table not in tables.stdout
    assert not paths.keeper_socket.exists()
    shutil.rmtree(base)
