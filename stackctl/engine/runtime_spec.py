"""Runtime specification: a container's record and what was resolved for it, turned into OCI config.json; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stackctl.contracts.container import ContainerRecord, MountPoint
from stackctl.engine.users import User
from stackctl.oci.runtime import RuntimeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A device node of the host: ``kind`` is "c" or "b", ``path`` where the container sees it."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecInputs:
    """All that the specification is made from; nothing else is asked of the world.

    ``rootfs`` is the mounted root on the host. ``netns_path`` None means the host's network. ``mounts`` are the
    record's mounts with ``source`` the host path to bind (volume data directory, image root). The namespace paths
    join another container's (``/proc/PID/ns/pid``); "" leaves it to the record's modes. ``devices`` are the nodes
    that ``spec.devices`` (or privileged) asked for, looked up by the caller. ``hosts_file``, ``resolv_file`` and
    ``hostname_file`` are host paths, "" to leave the image's. ``init_path`` is used when ``init`` is true.
    ``capabilities`` are those the daemon itself has (CAP_ names). ``shm_path`` binds another container's /dev/shm.
    """

    record: ContainerRecord
    rootfs: str
    netns_path: str | None = None
    user: User = User()
    mounts: tuple[MountPoint, ...] = ()
    hosts_file: str = ""
    resolv_file: str = ""
    hostname_file: str = ""
    pid_namespace: str = ""
    ipc_namespace: str = ""
    uts_namespace: str = ""
    shm_path: str = ""
    devices: tuple[HostDevice, ...] = ()
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = "/stackctl"
    cgroup_version: str = "1"
    capabilities: frozenset[str] = frozenset()
    cpus: int = 1
    hidden_paths: tuple[str, ...] = ()
    host_sysctls: Mapping[str, str] = field(default_factory=dict)
    max_rlimits: Mapping[str, int] = field(default_factory=dict)


def runtime_spec(inputs: SpecInputs) -> RuntimeSpec:
    """Return config.json for one start; raises InvalidInputError naming the API field that cannot be honoured."""
    raise NotImplementedError
