"""The composition root of the engine half: the only place that names the adapters."""

import os
from collections.abc import Awaitable, Callable

from stackctl.adapters.git import GitProgram
from stackctl.adapters.network.bridge import BridgeNetworks
from stackctl.adapters.network.keeper import KeeperClient
from stackctl.adapters.registry.client import RegistryClient
from stackctl.adapters.runtime.logsinks import MachineLogSinks
from stackctl.adapters.runtime.processes import HostProcesses
from stackctl.adapters.runtime.runc import ConmonRuntime, RuntimeSettings
from stackctl.adapters.state.sqlite import SqliteStateStore
from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.overlay import OverlayStore
from stackctl.adapters.storage.roottree import OpenAtRootTree
from stackctl.adapters.storage.volumes import DirectoryVolumes
from stackctl.daemon.hostfacts import read_host
from stackctl.daemon.settings import Settings
from stackctl.engine.core import Engine
from stackctl.engine.world import World
from stackctl.frozen import frozen
from stackctl.host.clock import SystemClock


@frozen
class Built:
    """An engine that was not started yet, and how to let go of the machine once it was stopped."""

    engine: Engine
    close: Callable[[], Awaitable[None]]


async def build(settings: Settings) -> Built:
    """Return the engine on this machine; what a crash left half written in the stores is removed first.

    Raises HostError when the state or a directory cannot be opened.
    """
    paths = settings.paths
    host = read_host(settings)
    clock = SystemClock()
    state = SqliteStateStore(paths.data_root / "state.db")
    content = BlobStore(paths.data_root / "content", limits=settings.tar_limits)
    layers = OverlayStore(
        paths.data_root,
        paths.run_root,
        content,
        boot_id=host.boot_id,
        limits=settings.tar_limits,
    )
    runtime = ConmonRuntime(
        RuntimeSettings(
            run_root=paths.run_root,
            cgroup_parent=paths.cgroup_parent,
            runc=settings.runtime_paths[settings.default_runtime],
            runtimes=settings.runtime_paths,
        )
    )
    if not _is_unit():
        runtime.leave_cgroups()
    keeper = KeeperClient(paths.keeper_socket, paths.run_root / "keeper.log")
    registry = RegistryClient(
        clock,
        insecure=settings.insecure_registries,
        mirrors=settings.mirrors,
        certs=settings.certs_directories,
    )
    await content.recover()
    await layers.recover()
    world = World(
        runtime=runtime,
        content=content,
        layers=layers,
        volumes=DirectoryVolumes(paths.data_root / "volumes"),
        files=OpenAtRootTree(limits=settings.tar_limits),
        network=BridgeNetworks(paths, keeper),
        keeper=keeper,
        registry=registry,
        repositories=GitProgram(),
        state=state,
        clock=clock,
        processes=HostProcesses(),
        host=host,
        log_sinks=MachineLogSinks(),
        transfers=settings.transfers,
    )

    async def close() -> None:
        # The keeper goes on; only the connection to it ends.
        await keeper.close()
        await registry.close()
        await layers.close()
        runtime.close()
        state.close()

    return Built(engine=Engine(world), close=close)


def _is_unit() -> bool:
    """Tell whether systemd runs the daemon as a unit of its own: it keeps its books by that unit's cgroup."""
    return os.getppid() == 1 and "INVOCATION_ID" in os.environ
