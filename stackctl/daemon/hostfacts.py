"""What the machine is: read once at start from /proc, /sys and /etc, for the core and for ``check``."""

import os
import shutil
from pathlib import Path

from stackctl.daemon.settings import Settings
from stackctl.engine.world import HostFacts

_CGROUP_ROOT = Path("/sys/fs/cgroup")
# Static ones first: they are bind-mounted into containers that have no libraries of the host's.
_INITS = ("tini-static", "catatonit", "docker-init", "tini")
_INIT_PATH = (
    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/usr/libexec/podman:/usr/lib/podman:/usr/libexec/docker"
)

# linux/capability.h, by number.
CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]


def read_host(settings: Settings) -> HostFacts:
    """Return the facts; a file that cannot be read counts as empty."""
    paths = settings.paths
    system = os.uname()
    status = read_text("/proc/self/status")
    return HostFacts(
        boot_id=read_text("/proc/sys/kernel/random/boot_id").strip(),
        engine_id=paths.engine_id,
        data_root=paths.data_root,
        run_root=paths.run_root,
        kernel=system.release,
        machine=system.machine,
        os_name=operating_system(read_text("/etc/os-release")),
        cpus=len(os.sched_getaffinity(0)),
        memory=total_memory(read_text("/proc/meminfo")),
        cgroup_version=cgroup_version(),
        cgroup_driver="cgroupfs",
        cgroup_parent=paths.cgroup_parent,
        hostname=system.nodename,
        bridge_prefix=paths.bridge_prefix,
        veth_prefix=paths.veth_prefix,
        address_pool=paths.address_pool,
        address_pools=settings.address_pools,
        bridge_address=settings.bridge_address,
        resolv_conf=read_text("/etc/resolv.conf"),
        hosts=read_text("/etc/hosts"),
        init_path=find_init(),
        cpu_list=status_field(status, "Cpus_allowed_list"),
        memory_nodes=status_field(status, "Mems_allowed_list"),
        blkio_weight=weighs_block_io(),
        capabilities=bounding_set(status),
        rootless=os.geteuid() != 0,
        memory_root=memory_root(read_text("/proc/self/mountinfo"), paths.engine_id),
    )


def memory_root(mounts: str, engine_id: str) -> Path | None:
    """Return a place in /dev/shm where that is a tmpfs that programs may be run from (proc(5), mountinfo)."""
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        words = fields.split()
        if len(words) > 5 and words[4] == "/dev/shm" and source.startswith("tmpfs "):
            place = Path("/dev/shm") / f"stackctl{f'-{engine_id}' if engine_id else ''}"
            return None if "noexec" in words[5].split(",") else place
    return None


def read_text(path: str | Path) -> str:
    """Return a file's text, "" when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def operating_system(os_release: str) -> str:
    for line in os_release.splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return "Linux"


def total_memory(meminfo: str) -> int:
    """Return MemTotal in bytes."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def cgroup_version() -> str:
    """Return "2" where the controllers are in the unified hierarchy, else "1" (hybrid counts as 1)."""
    return "2" if (_CGROUP_ROOT / "cgroup.controllers").exists() else "1"


def status_field(status: str, name: str) -> str:
    """Return one line's value of /proc/self/status, "" when there is none."""
    for line in status.splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def weighs_block_io() -> bool:
    """Tell whether the kernel offers weights of block I/O to control groups."""
    legacy = ("blkio/blkio.weight", "blkio/blkio.bfq.weight")
    return any((_CGROUP_ROOT / name).exists() for name in legacy) or any(
        _CGROUP_ROOT.glob("*/io.weight")
    )


def find_init() -> str:
    """Return the path of an init for containers, "" when there is none."""
    for name in _INITS:
        if path := shutil.which(name, path=_INIT_PATH):
            return path
    return ""


def bounding_set(status: str) -> frozenset[str]:
    """Return the capabilities that this process may have at all, from /proc/self/status."""
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
            return frozenset(
                f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bits >> number & 1
            )
    return frozenset()
