"""An engine on the real adapters, in directories and with names of its own."""

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

from stackctl.adapters.git import GitProgram
from stackctl.adapters.network.bridge import BridgeNetworks
from stackctl.adapters.network.keeper import KeeperClient
from stackctl.adapters.registry.client import RegistryClient
from stackctl.adapters.runtime.processes import HostProcesses
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.adapters.state.sqlite import SqliteStateStore
from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.overlay import OverlayStore
from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.adapters.storage.volumes import DirectoryVolumes
from stackctl.engine.core import Engine
from stackctl.engine.world import HostFacts, World
from stackctl.host.clock import SystemClock
from stackctl.paths import EnginePaths, engine_paths

APPLETS = [
    "sh",
    "cat",
    "echo",
    "sleep",
    "true",
    "false",
    "ls",
    "mkdir",
    "touch",
    "rm",
    "ping",
    "nslookup",
    "nc",
    "wget",
    "httpd",
    "id",
    "ps",
    "kill",
    "test",
    "trap",
    "hostname",
    "ip",
    "env",
    "head",
    "tail",
    "grep",
    "printf",
    "seq",
    "date",
    "mount",
    "df",
    "stat",
]


def paths_in(base: Path) -> EnginePaths:
    environ = {
        "STACKCTL_RUN_ROOT": str(base / "run"),
        "STACKCTL_DATA_ROOT": str(base / "data"),
        "STACKCTL_SOCKET": str(base / "run" / "engine.sock"),
    }
    return engine_paths(environ, uid=os.getuid())


def own_capabilities() -> frozenset[str]:
    from stackctl.engine.security import ALL_CAPABILITIES

    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return frozenset(
                name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1
            )
    return frozenset()


async def build_engine(base: Path) -> Engine:
    paths = paths_in(base)
    paths.run_root.mkdir(parents=True, exist_ok=True)
    paths.data_root.mkdir(parents=True, exist_ok=True)
    clock = SystemClock()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    content = BlobStore(paths.data_root / "content")
    layers = OverlayStore(paths.data_root, paths.run_root, content, boot_id=boot_id)
    keeper = KeeperClient(paths.keeper_socket, paths.run_root / "keeper.log")
    await content.recover()
    await layers.recover()
    host = HostFacts(
        boot_id=boot_id,
        engine_id=paths.engine_id,
        data_root=paths.data_root,
        run_root=paths.run_root,
        cpus=os.cpu_count() or 1,
        cgroup_parent=paths.cgroup_parent,
        bridge_prefix=paths.bridge_prefix,
        veth_prefix=paths.veth_prefix,
        address_pool=paths.address_pool,
        resolv_conf=Path("/etc/resolv.conf").read_text(),
        hosts=Path("/etc/hosts").read_text(),
        hostname=os.uname().nodename,
        capabilities=own_capabilities(),
    )
    world = World(
        runtime=ConmonRuntime(
            RuntimeSettings(run_root=paths.run_root, cgroup_parent=paths.cgroup_parent)
        ),
        content=content,
        layers=layers,
        volumes=DirectoryVolumes(paths.data_root / "volumes"),
        files=OpenAtRootTree(),
        network=BridgeNetworks(paths, keeper),
        keeper=keeper,
        registry=RegistryClient(clock),
        repositories=GitProgram(),
        state=SqliteStateStore(paths.data_root / "state.db"),
        clock=clock,
        processes=HostProcesses(),
        host=host,
    )
    return Engine(world)


async def close_engine(engine: Engine) -> None:
    await engine.stop()
    await engine.world.keeper.close()
    await engine.world.registry.close()
    await engine.world.layers.close()
    engine.world.runtime.close()
    engine.world.state.close()


async def remove_everything(engine: Engine) -> None:
    for record in engine.containers.all():
        await engine.containers.remove(record.id, force=True, volumes=True)
    for network in engine.networks.all():
        if network.name not in ("bridge", "host", "none"):
            await engine.networks.remove(network.id)


def busybox_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:

        def directory(name: str, mode: int = 0o755) -> None:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            info.mode = mode
            tar.addfile(info)

        def file(name: str, data: bytes, mode: int = 0o644) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = mode
            tar.addfile(info, io.BytesIO(data))

        for name in ("bin", "etc", "root", "var", "data", "proc", "sys", "dev"):
            directory(name)
        directory("tmp", 0o1777)
        file("bin/busybox", Path("/bin/busybox").read_bytes(), 0o755)
        for applet in APPLETS:
            info = tarfile.TarInfo(f"bin/{applet}")
            info.type = tarfile.SYMTYPE
            info.linkname = "busybox"
            tar.addfile(info)
        file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n")
        file("etc/group", b"root:x:0:\nweb:x:1000:\nextra:x:2000:web\n")
        file("data/seed", b"from the image\n")
    return out.getvalue()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]


async def import_busybox(engine: Engine) -> str:
    return await engine.images.import_(chunks(busybox_tar()), reference="busybox:latest")


async def log_text(engine: Engine, ref: str) -> str:
    from stackctl.engine.requests import LogQuery

    runs = [run async for batch in engine.logs.read(ref, LogQuery()) for run in batch]
    return b"".join(text for _, texts in runs for text in texts).decode()


async def until(condition, seconds: float = 60.0) -> None:
    """Poll for what has no event; fails loudly."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError("it did not come true in time")
        await asyncio.sleep(0.02)
