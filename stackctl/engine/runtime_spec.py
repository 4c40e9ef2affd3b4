"""Runtime specification: a container's record and what was resolved for it, turned into OCI config.json; pure.

The defaults are Docker's. ``runtime_spec`` may also be called at create, so that what cannot be honoured is refused
before anything is made.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import cast

from stackctl.contracts.container import ContainerRecord, ContainerSpec, MountPoint
from stackctl.engine.security import (
    DEFAULT_CAPABILITIES,
    MASKED_PATHS,
    READONLY_PATHS,
    SecurityOptions,
    check_sysctls,
    parse_security_opt,
    pick_capabilities,
    rlimits,
)
from stackctl.engine.users import User
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.oci.runtime import RuntimeSpec
from stackctl.values import Json, JsonObject

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_TARGET = "/sbin/docker-init"
DEFAULT_SHM_SIZE = 64 << 20
_CPU_PERIOD = 100_000
_MIN_MEMORY = 6 << 20
_DESCRIPTOR_PATH = re.compile(r"/proc/[^/]+/(task/[^/]+/)?(fd|cwd|root|exe)(/|$)|/dev/fd(/|$)")
_DEVICE_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")
_OPPOSITES = {"noexec": "exec", "nosuid": "suid", "nodev": "dev", "rw": "ro"}
_OPPOSITES |= {value: key for key, value in _OPPOSITES.items()}


@frozen
class BlockDevice:
    """A limit of one block device, looked up: the kind and value of BlkioLimit with the device's numbers."""

    kind: str
    major: int
    minor: int
    value: int


@frozen
class HostDevice:
    """A device node of the host: ``kind`` is "c" or "b", ``path`` where the container sees it."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"


@frozen
class SpecInputs:
    """All that the specification is made from; nothing else is asked of the world.

    ``rootfs`` is the mounted root on the host. ``netns_path`` None means the host's network. ``mounts`` are the
    record's mounts with ``source`` the host path to bind (volume data directory, image root). The namespace paths
    join another container's (``/proc/PID/ns/pid``); "" leaves it to the record's modes. ``devices`` are the nodes
    that ``spec.devices`` (or privileged) asked for, looked up by the caller. ``hosts_file``, ``resolv_file`` and
    ``hostname_file`` are host paths, "" to leave the image's. ``init_path`` is used when ``init`` is true.
    ``capabilities`` are those the daemon itself has (CAP_ names; empty: all). ``shm_path`` binds another container's
    /dev/shm. ``hidden_paths`` are masked besides the defaults (each CPU's thermal_throttle). ``max_rlimits`` are the
    daemon's own hard limits by lower-case name where it may not raise them; asked for more, a container gets these.
    ``host_queues`` tells whether the host shows its message queues at /dev/mqueue.
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
    blkio_devices: tuple[BlockDevice, ...] = ()
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = "/stackctl"
    cgroup_version: str = "1"
    capabilities: frozenset[str] = frozenset()
    hidden_paths: tuple[str, ...] = ()
    max_rlimits: Mapping[str, int] = field(default_factory=dict)
    recursive_read_only: bool = True
    swap_limit: bool = True
    host_queues: bool = True


def _blkio_devices(devices: Sequence[BlockDevice]) -> JsonObject:
    found: dict[str, list[Json]] = {}
    for device in devices:
        number = "weight" if device.kind == "weightDevice" else "rate"
        found.setdefault(device.kind, []).append(
            {"major": device.major, "minor": device.minor, number: device.value}
        )
    return {**found}


def runtime_spec(inputs: SpecInputs) -> RuntimeSpec:
    """Return config.json for one start; raises InvalidInputError naming the API field that cannot be honoured."""
    record, spec = inputs.record, inputs.record.spec
    options = parse_security_opt(spec.security_opt)
    tree: JsonObject = {
        "ociVersion": "1.0.2",
        "process": _process(inputs, options),
        "root": {"path": inputs.rootfs, "readonly": spec.read_only_rootfs},
        "mounts": _mounts(inputs, options),
        "linux": _linux(inputs, options),
        "annotations": dict(spec.annotations),
    }
    if spec.uts_mode != "host" and not inputs.uts_namespace:
        tree["hostname"] = record.hostname or record.id[:12]
    seccomp = options.seccomp or ("unconfined" if spec.privileged else "default")
    return RuntimeSpec(tree=tree, seccomp=seccomp)


def exec_environment(
    record: ContainerRecord, user: User, extra: Sequence[str] = (), *, tty: bool = False
) -> tuple[str, ...]:
    """Return the environment of a process of this container, as Docker orders it: defaults, image and config, own."""
    defaults = [PATH, f"HOSTNAME={record.hostname or record.id[:12]}"]
    if tty:
        defaults.append("TERM=xterm")
    names: dict[str, str] = {}
    for item in (*defaults, *record.env, *extra):
        name, separator, _ = item.partition("=")
        if separator:
            names[name] = item
        else:
            names.pop(name, None)  # "NAME" alone takes it away
    names.setdefault("HOME", f"HOME={user.home}")
    return tuple(names.values())


def check_working_dir(path: str) -> str:
    """Return the directory to start in, "/" when unset.

    Raises InvalidInputError for a relative one and for /proc/N/fd and its like, where a descriptor that leaked from
    the runtime would lead to the host (CVE-2024-21626).
    """
    cwd = posixpath.normpath(path or "/")
    cwd = "/" + cwd.lstrip("/") if cwd.startswith("/") else cwd
    if not cwd.startswith("/"):
        raise InvalidInputError(
            f"the working directory '{path}' is invalid, it needs to be an absolute path",
            hint="Config.WorkingDir must begin with a slash.",
        )
    if _DESCRIPTOR_PATH.match(cwd):
        raise InvalidInputError(
            f"the working directory '{path}' is not allowed: it leads out of the container",
            hint="Config.WorkingDir must be a directory of the image.",
        )
    return cwd


def container_capabilities(
    spec: ContainerSpec, available: frozenset[str], *, privileged: bool | None = None
) -> tuple[str, ...]:
    """Return the capability names of a container's processes (of a privileged exec with ``privileged``)."""
    return pick_capabilities(
        add=spec.cap_add,
        drop=spec.cap_drop,
        privileged=spec.privileged if privileged is None else privileged,
        available=available,
    )


def _process(inputs: SpecInputs, options: SecurityOptions) -> JsonObject:
    record, spec = inputs.record, inputs.record.spec
    args = [record.path, *record.args]
    if inputs.init and inputs.init_path:
        args = [INIT_TARGET, "--", *args]
    capabilities = cast(list[Json], list(container_capabilities(spec, inputs.capabilities)))
    process: JsonObject = {
        "terminal": spec.tty,
        "args": cast(list[Json], args),
        "env": list(exec_environment(record, inputs.user, tty=spec.tty)),
        "cwd": check_working_dir(record.working_dir),
        "user": {
            "uid": inputs.user.uid,
            "gid": inputs.user.gid,
            "additionalGids": list(inputs.user.groups),
        },
        # Inheritable stays empty (CVE-2022-24769), ambient too.
        "capabilities": {
            "bounding": capabilities,
            "effective": capabilities,
            "permitted": capabilities,
        },
        "rlimits": rlimits(spec.ulimits, inputs.max_rlimits),
        "noNewPrivileges": options.no_new_privileges,
    }
    may_lower = not inputs.capabilities or "CAP_SYS_RESOURCE" in inputs.capabilities
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise InvalidInputError(
            f"Invalid value {spec.oom_score_adj}, range for oom score adj is [-1000, 1000]",
            hint="HostConfig.OomScoreAdj.",
        )
    if spec.oom_score_adj > 0 or (spec.oom_score_adj < 0 and may_lower):
        process["oomScoreAdj"] = spec.oom_score_adj
    height, width = spec.console_size
    if spec.tty and height and width:
        process["consoleSize"] = {"height": height, "width": width}
    return process


def _mounts(inputs: SpecInputs, options: SecurityOptions) -> list[Json]:
    spec = inputs.record.spec
    mounts = _default_mounts(inputs, options)
    files = (
        ("/etc/resolv.conf", inputs.resolv_file),
        ("/etc/hostname", inputs.hostname_file),
        ("/etc/hosts", inputs.hosts_file),
    )
    asked: list[JsonObject] = []
    for target, source in files:
        if source:
            mode = "ro" if spec.read_only_rootfs else "rw"
            asked.append(_mount(target, "bind", source, ["rbind", "rprivate", mode]))
    if inputs.init and inputs.init_path:
        asked.append(_mount(INIT_TARGET, "bind", inputs.init_path, ["bind", "rprivate", "ro"]))
    asked += [
        _asked_mount(point, recursive_read_only=inputs.recursive_read_only)
        for point in inputs.mounts
    ]
    # The last one asked for a target wins; parents come before what is mounted in them.
    by_target = {str(mount["destination"]): mount for mount in asked}
    chosen = sorted(by_target.values(), key=lambda mount: _depth(str(mount["destination"])))
    kept = [mount for mount in mounts if mount["destination"] not in by_target]
    return [*kept, *chosen]


def _default_mounts(inputs: SpecInputs, options: SecurityOptions) -> list[JsonObject]:
    spec = inputs.record.spec
    plain: list[str] = ["nosuid", "noexec", "nodev"]
    view = "rw" if spec.privileged else "ro"
    cgroup_view = "rw" if options.writable_cgroups else view
    shm = f"size={spec.shm_size or DEFAULT_SHM_SIZE}"
    mounts = [
        _mount("/proc", "proc", "proc", plain),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/sys", "sysfs", "sysfs", [*plain, view]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", [*plain, cgroup_view]),
    ]
    if spec.ipc_mode == "host":
        if inputs.host_queues:
            mounts.append(_mount("/dev/mqueue", "bind", "/dev/mqueue", ["rbind", *plain]))
        mounts.append(_mount("/dev/shm", "bind", "/dev/shm", ["rbind", *plain]))
        return mounts
    mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", plain))
    if inputs.shm_path:
        mounts.append(_mount("/dev/shm", "bind", inputs.shm_path, ["rbind", *plain, "rprivate"]))
    elif spec.ipc_mode != "none":
        mounts.append(_mount("/dev/shm", "tmpfs", "shm", [*plain, "mode=1777", shm]))
    return mounts


def _asked_mount(point: MountPoint, *, recursive_read_only: bool) -> JsonObject:
    target = posixpath.normpath(point.target)
    if not target.startswith("/") or target == "/":
        raise InvalidInputError(
            f"invalid mount config: target '{point.target}' must be an absolute path below /",
            hint="HostConfig.Mounts.Target or the second part of HostConfig.Binds.",
        )
    if point.type == "tmpfs":
        return _mount(target, "tmpfs", "tmpfs", _tmpfs_options(point))
    options = ["bind" if point.non_recursive else "rbind", point.propagation or "rprivate"]
    if point.read_only:
        recursive = recursive_read_only and not point.non_recursive
        options.append("rro" if recursive else "ro")
    return _mount(target, "bind", point.source, options)


def _tmpfs_options(point: MountPoint) -> list[str]:
    options = ["noexec", "nosuid", "nodev", "rw"]
    for option in (*point.tmpfs_options, *(("ro",) if point.read_only else ())):
        opposite = _OPPOSITES.get(option)
        options = [item for item in options if item not in (opposite, option)]
        options.append(option)
    return [*options, "rprivate"]


def _mount(target: str, kind: str, source: str, options: Sequence[str]) -> JsonObject:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _depth(path: str) -> int:
    return len([part for part in path.split("/") if part])


def _linux(inputs: SpecInputs, options: SecurityOptions) -> JsonObject:
    spec = inputs.record.spec
    hidden = not spec.privileged and not options.system_paths_unconfined
    masked = spec.masked_paths
    readonly = spec.readonly_paths
    if masked is None:
        masked = (*MASKED_PATHS, *inputs.hidden_paths) if hidden else ()
    if readonly is None:
        readonly = READONLY_PATHS if hidden else ()
    limits = resources(spec, swap_limit=inputs.swap_limit)
    if inputs.blkio_devices:
        limits["blockIO"] = {**_block_io(spec), **_blkio_devices(inputs.blkio_devices)}
    linux: JsonObject = {
        "namespaces": _namespaces(inputs),
        "resources": {
            **limits,
            "devices": _device_rules(inputs),
        },
        "cgroupsPath": _cgroups_path(inputs),
        "maskedPaths": list(masked),
        "readonlyPaths": list(readonly),
        "sysctl": dict(_sysctls(inputs)),
        "devices": [
            {
                "path": device.path,
                "type": device.kind,
                "major": device.major,
                "minor": device.minor,
                "fileMode": device.mode & 0o7777,
                "uid": device.uid,
                "gid": device.gid,
            }
            for device in inputs.devices
        ],
    }
    propagations = {point.propagation for point in inputs.mounts}
    if propagations & {"shared", "rshared"}:
        linux["rootfsPropagation"] = "shared"
    elif propagations & {"slave", "rslave"}:
        linux["rootfsPropagation"] = "rslave"
    return linux


def _cgroups_path(inputs: SpecInputs) -> str:
    parent = inputs.record.spec.cgroup_parent or inputs.cgroup_parent
    # Normalised from the root, ".." cannot lead out of the hierarchy.
    return posixpath.normpath(f"/{parent.strip('/')}/{inputs.record.id}")


def _namespaces(inputs: SpecInputs) -> list[Json]:
    spec = inputs.record.spec
    found: list[Json] = [{"type": "mount"}]
    if inputs.netns_path is not None:
        found.append(_namespace("network", inputs.netns_path))
    if spec.pid_mode != "host":
        found.append(_namespace("pid", inputs.pid_namespace))
    if spec.ipc_mode != "host":
        found.append(_namespace("ipc", inputs.ipc_namespace))
    if spec.uts_mode != "host":
        found.append(_namespace("uts", inputs.uts_namespace))
    private = "private" if inputs.cgroup_version == "2" and not spec.privileged else "host"
    if (spec.cgroupns_mode or private) == "private":
        found.append({"type": "cgroup"})
    return found


def _namespace(kind: str, path: str) -> JsonObject:
    return {"type": kind, "path": path} if path else {"type": kind}


def _sysctls(inputs: SpecInputs) -> Mapping[str, str]:
    spec = inputs.record.spec
    private_net = inputs.netns_path is not None
    private_ipc = spec.ipc_mode != "host"
    private_uts = spec.uts_mode != "host" and not inputs.uts_namespace
    check_sysctls(spec.sysctls, network=private_net, ipc=private_ipc)
    found: dict[str, str] = {}
    if private_net and not spec.network_mode.startswith("container:"):
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        found["net.ipv4.ping_group_range"] = "0 2147483647"
    if spec.domainname and private_uts:
        found["kernel.domainname"] = spec.domainname
    return {**found, **spec.sysctls}


def resources(spec: ContainerSpec, *, swap_limit: bool = True) -> JsonObject:
    """Return OCI ``linux.resources`` (without devices), also for an update; sizes in bytes.

    ``swap_limit`` is false where the kernel does not account swap: the limit is left out then, as Docker does.
    Raises InvalidInputError naming the field for values that contradict each other.
    """
    pids: JsonObject = {"limit": spec.pids_limit} if spec.pids_limit else {}
    found: JsonObject = {
        "memory": _memory(spec, swap_limit=swap_limit),
        "cpu": _cpu(spec),
        "pids": pids,
        "blockIO": _block_io(spec),
    }
    return {key: value for key, value in found.items() if value}


def _memory(spec: ContainerSpec, *, swap_limit: bool) -> JsonObject:
    memory: JsonObject = {}
    if 0 < spec.memory < _MIN_MEMORY:
        raise InvalidInputError(
            "Minimum memory limit allowed is 6MB", hint="HostConfig.Memory is in bytes."
        )
    if spec.memory_swap > 0 and spec.memory > 0 and spec.memory_swap < spec.memory:
        raise InvalidInputError(
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            hint="HostConfig.MemorySwap is memory and swap together.",
        )
    if spec.memory_swap > 0 and not spec.memory:
        raise InvalidInputError(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            hint="Set HostConfig.Memory too.",
        )
    if spec.memory > 0:
        memory["limit"] = spec.memory
        if swap_limit:
            memory["swap"] = spec.memory_swap or 2 * spec.memory
    if spec.memory_reservation > 0:
        if 0 < spec.memory < spec.memory_reservation:
            raise InvalidInputError(
                "Minimum memory limit can not be less than memory reservation limit, see usage",
                hint="HostConfig.MemoryReservation is at most HostConfig.Memory.",
            )
        memory["reservation"] = spec.memory_reservation
    if spec.memory_swappiness is not None and spec.memory_swappiness >= 0:
        if spec.memory_swappiness > 100:
            raise InvalidInputError(
                f"Invalid value: {spec.memory_swappiness}, valid memory swappiness range is 0-100",
                hint="HostConfig.MemorySwappiness.",
            )
        memory["swappiness"] = spec.memory_swappiness
    if spec.oom_kill_disable:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(spec: ContainerSpec) -> JsonObject:
    cpu: JsonObject = {}
    if spec.nano_cpus > 0:
        if spec.cpu_period or spec.cpu_quota:
            raise InvalidInputError(
                "Conflicting options: Nano CPUs and CPU Period/Quota cannot both be set",
                hint="Give HostConfig.NanoCpus alone.",
            )
        cpu["period"] = _CPU_PERIOD
        cpu["quota"] = max(1000, spec.nano_cpus * _CPU_PERIOD // 1_000_000_000)
    if spec.cpu_period:
        cpu["period"] = spec.cpu_period
    if spec.cpu_quota:
        cpu["quota"] = spec.cpu_quota
    if spec.cpu_shares:
        cpu["shares"] = spec.cpu_shares
    if spec.cpu_realtime_period:
        cpu["realtimePeriod"] = spec.cpu_realtime_period
    if spec.cpu_realtime_runtime:
        cpu["realtimeRuntime"] = spec.cpu_realtime_runtime
    if spec.cpuset_cpus:
        cpu["cpus"] = spec.cpuset_cpus
    if spec.cpuset_mems:
        cpu["mems"] = spec.cpuset_mems
    return cpu


def _block_io(spec: ContainerSpec) -> JsonObject:
    if not spec.blkio_weight:
        return {}
    if not 10 <= spec.blkio_weight <= 1000:
        raise InvalidInputError(
            "Range of blkio weight is from 10 to 1000", hint="HostConfig.BlkioWeight."
        )
    return {"weight": spec.blkio_weight}


def _device_rules(inputs: SpecInputs) -> list[Json]:
    spec = inputs.record.spec
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[Json] = [{"allow": False, "access": "rwm"}]
    wanted: list[tuple[str, int | None, int | None, str]] = [
        ("c", None, None, "m"),
        ("b", None, None, "m"),
        *(("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
        *(("c", 5, minor, "rwm") for minor in (0, 1, 2)),
        ("c", 136, None, "rwm"),
        *((d.kind, d.major, d.minor, d.permissions) for d in inputs.devices),
        *map(_device_rule, spec.device_cgroup_rules),
    ]
    for kind, major, minor, access in wanted:
        rule: JsonObject = {"allow": True, "type": kind, "access": access}
        if major is not None:
            rule["major"] = major
        if minor is not None:
            rule["minor"] = minor
        rules.append(rule)
    return rules


def _device_rule(text: str) -> tuple[str, int | None, int | None, str]:
    found = _DEVICE_RULE.fullmatch(text)
    if found is None:
        raise InvalidInputError(
            f"invalid device cgroup rule format: '{text}'",
            hint='HostConfig.DeviceCgroupRules takes "c 1:3 rwm"; a number may be "*".',
        )
    kind, major, minor, access = found.groups()
    numbers = [None if part == "*" else int(part) for part in (major, minor)]
    return kind, numbers[0], numbers[1], access


__all__ = [
    "DEFAULT_CAPABILITIES",
    "HostDevice",
    "SpecInputs",
    "check_working_dir",
    "container_capabilities",
    "exec_environment",
    "resources",
    "runtime_spec",
]
