"""World: everything the core asks of the outside, put together by the daemon's composition root."""

from dataclasses import field
from pathlib import Path

from stackctl.contracts.clock import Clock
from stackctl.contracts.logsinks import LogSinks
from stackctl.contracts.network import Keeper, NetworkDriver
from stackctl.contracts.processes import Processes
from stackctl.contracts.registry import Registry, TransferLimits
from stackctl.contracts.repositories import Repositories
from stackctl.contracts.runtime import Runtime
from stackctl.contracts.state import StateStore
from stackctl.contracts.storage import ContentStore, LayerStore, RootTree, VolumeStore
from stackctl.frozen import frozen


@frozen
class AddressPool:
    """Where networks without a subnet of their own get one: subnets of ``size`` bits out of ``base``."""

    base: str
    size: int = 24


@frozen
class HostFacts:
    """What does not change while the daemon runs.

    ``memory`` is in bytes, ``machine`` the kernel's word ("x86_64"), ``cgroup_version`` "1" or "2". ``resolv_conf``
    and ``hosts`` are the texts of the host's files. ``init_path`` is tini or catatonit, "" when there is none.
    ``address_pools`` go before the engine's own ``address_pool``; ``bridge_address`` is the address and
    prefix length of the predefined bridge, "" to take a subnet of the pools. ``cpu_list`` and ``memory_nodes`` are what the daemon may use ("0-3"), "" when unknown; ``blkio_weight`` tells
    whether the kernel weighs block I/O. ``capabilities`` are those the daemon itself has (CAP_ names).
    ``memory_root`` is a place of the engine's own on a file system in memory, None where there is none.
    """

    boot_id: str
    engine_id: str = ""
    data_root: Path
    run_root: Path
    kernel: str = ""
    machine: str = "x86_64"
    os_name: str = "Linux"
    cpus: int = 1
    memory: int = 0
    cgroup_version: str = "1"
    cgroup_driver: str = "cgroupfs"
    cgroup_parent: str = "/stackctl"
    hostname: str = "localhost"
    bridge_prefix: str = "sk-"
    veth_prefix: str = "skv"
    address_pool: str = "10.201.0.0/16"
    address_pools: tuple[AddressPool, ...] = ()
    bridge_address: str = ""
    resolv_conf: str = ""
    hosts: str = ""
    init_path: str = ""
    cpu_list: str = ""
    memory_nodes: str = ""
    blkio_weight: bool = True
    capabilities: frozenset[str] = field(default_factory=frozenset)
    rootless: bool = False
    memory_root: Path | None = None


@frozen
class World:
    """The doors of the core, one per contract."""

    runtime: Runtime
    content: ContentStore
    layers: LayerStore
    volumes: VolumeStore
    files: RootTree
    network: NetworkDriver
    keeper: Keeper
    registry: Registry
    repositories: Repositories
    state: StateStore
    clock: Clock
    processes: Processes
    host: HostFacts
    log_sinks: LogSinks | None = None
    transfers: TransferLimits = TransferLimits()
