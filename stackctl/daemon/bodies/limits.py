"""Resource limits of HostConfig, for create and update: read, check, show; pure."""

from dataclasses import replace
from typing import TypedDict

from stackctl.api.codec import Reader
from stackctl.contracts.container import BlkioLimit, ContainerSpec, RestartPolicy
from stackctl.engine.requests import Update
from stackctl.errors import InvalidInputError
from stackctl.values import JsonObject

_MINIMUM_MEMORY = 6 * 1024 * 1024
_LAST_CPU = 8192


class Limits(TypedDict):
    """The limit fields of ContainerSpec."""

    cgroup_parent: str
    memory: int
    memory_swap: int
    memory_reservation: int
    memory_swappiness: int | None
    nano_cpus: int
    cpu_shares: int
    cpu_period: int
    cpu_quota: int
    cpu_realtime_period: int
    cpu_realtime_runtime: int
    cpuset_cpus: str
    cpuset_mems: str
    blkio_weight: int
    blkio_devices: tuple[BlkioLimit, ...]
    pids_limit: int
    oom_score_adj: int
    oom_kill_disable: bool


def read(host: Reader) -> Limits:
    """Return the limits; raises InvalidInputError naming the field."""
    swappiness = host.optional_integer("MemorySwappiness")
    return Limits(
        cgroup_parent=host.text("CgroupParent"),
        memory=host.integer("Memory"),
        memory_swap=host.integer("MemorySwap"),
        memory_reservation=host.integer("MemoryReservation"),
        memory_swappiness=None if swappiness == -1 else swappiness,
        nano_cpus=host.integer("NanoCpus"),
        cpu_shares=host.integer("CpuShares"),
        cpu_period=host.integer("CpuPeriod"),
        cpu_quota=host.integer("CpuQuota"),
        cpu_realtime_period=host.integer("CpuRealtimePeriod"),
        cpu_realtime_runtime=host.integer("CpuRealtimeRuntime"),
        cpuset_cpus=_cpuset(host, "CpusetCpus"),
        cpuset_mems=_cpuset(host, "CpusetMems"),
        blkio_weight=host.integer("BlkioWeight"),
        blkio_devices=_blkio_devices(host),
        pids_limit=host.integer("PidsLimit"),
        oom_score_adj=host.integer("OomScoreAdj"),
        oom_kill_disable=host.boolean("OomKillDisable"),
    )


# Field of HostConfig, its number, and the key of the OCI runtime specification.
_BLKIO = (
    ("BlkioWeightDevice", "Weight", "weightDevice"),
    ("BlkioDeviceReadBps", "Rate", "throttleReadBpsDevice"),
    ("BlkioDeviceWriteBps", "Rate", "throttleWriteBpsDevice"),
    ("BlkioDeviceReadIOps", "Rate", "throttleReadIOPSDevice"),
    ("BlkioDeviceWriteIOps", "Rate", "throttleWriteIOPSDevice"),
)


def _blkio_devices(host: Reader) -> tuple[BlkioLimit, ...]:
    found = []
    for field, number, kind in _BLKIO:
        for item in host.children(field):
            value = item.integer(number)
            if value < 0:
                raise item.fail(number, "must not be negative")
            found.append(BlkioLimit(kind=kind, path=item.text("Path"), value=value))
    return tuple(found)


def _blkio_body(spec: ContainerSpec) -> JsonObject:
    return {
        field: [
            {"Path": item.path, number: item.value}
            for item in spec.blkio_devices
            if item.kind == kind
        ]
        for field, number, kind in _BLKIO
    }


def _cpuset(host: Reader, name: str) -> str:
    text = host.text(name)
    for part in text.split(",") if text else ():
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not (high.isdecimal() and int(high) >= int(low))):
            what = "cpus" if name == "CpusetCpus" else "mems"
            raise host.fail(
                name, f"Invalid value {text[:80]} for cpuset {what}: invalid format: {text[:80]}"
            )
        if int(high or low) > _LAST_CPU:
            raise host.fail(name, f"value out of range, maximum is {_LAST_CPU}")
    return text


def changed(spec: ContainerSpec, asked: Limits) -> ContainerSpec:
    """Return the container as an update would make it; what the update leaves at zero stays."""
    swappiness = asked["memory_swappiness"]
    memory, swap = asked["memory"] or spec.memory, asked["memory_swap"] or spec.memory_swap
    return replace(
        spec,
        memory=memory,
        memory_swap=swap,
        memory_reservation=asked["memory_reservation"] or spec.memory_reservation,
        memory_swappiness=spec.memory_swappiness if swappiness is None else swappiness,
        nano_cpus=asked["nano_cpus"] or spec.nano_cpus,
        cpu_shares=asked["cpu_shares"] or spec.cpu_shares,
        cpu_period=asked["cpu_period"] or spec.cpu_period,
        cpu_quota=asked["cpu_quota"] or spec.cpu_quota,
        blkio_weight=asked["blkio_weight"] or spec.blkio_weight,
        cpuset_cpus=asked["cpuset_cpus"] or spec.cpuset_cpus,
        cpuset_mems=asked["cpuset_mems"] or spec.cpuset_mems,
    )


def update_of(asked: Limits, policy: RestartPolicy | None) -> Update:
    """Return the update that a body asks for: zero and "" leave a limit alone."""
    return Update(
        cpu_shares=asked["cpu_shares"] or None,
        memory=asked["memory"] or None,
        memory_swap=asked["memory_swap"] or None,
        memory_reservation=asked["memory_reservation"] or None,
        nano_cpus=asked["nano_cpus"] or None,
        cpu_period=asked["cpu_period"] or None,
        cpu_quota=asked["cpu_quota"] or None,
        cpuset_cpus=asked["cpuset_cpus"] or None,
        cpuset_mems=asked["cpuset_mems"] or None,
        blkio_weight=asked["blkio_weight"] or None,
        pids_limit=asked["pids_limit"] or None,
        restart_policy=policy,
    )


def check(spec: ContainerSpec, *, cpus: int) -> None:
    """Raise InvalidInputError, in Docker's words, for limits that contradict each other or the number of CPUs."""
    _check_memory(spec)
    _check_cpu(spec, cpus)
    if spec.shm_size < 0:
        raise InvalidInputError("SHM size can not be less than 0")
    if not -1000 <= spec.oom_score_adj <= 1000:
        raise InvalidInputError(
            f"Invalid value {spec.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if spec.blkio_weight and not 10 <= spec.blkio_weight <= 1000:
        raise InvalidInputError("Range of blkio weight is from 10 to 1000")


def _check_memory(spec: ContainerSpec) -> None:
    if spec.memory < 0 or 0 < spec.memory < _MINIMUM_MEMORY:
        raise InvalidInputError("Minimum memory limit allowed is 6MB")
    if spec.memory_swap > 0 and not spec.memory:
        raise InvalidInputError(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if spec.memory and 0 < spec.memory_swap < spec.memory:
        raise InvalidInputError(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if spec.memory_swappiness is not None and not 0 <= spec.memory_swappiness <= 100:
        raise InvalidInputError(
            f"Invalid value: {spec.memory_swappiness}, valid memory swappiness range is 0-100"
        )
    if spec.memory_reservation < 0 or 0 < spec.memory_reservation < _MINIMUM_MEMORY:
        raise InvalidInputError("Minimum memory reservation allowed is 6MB")
    if spec.memory and spec.memory_reservation > spec.memory:
        raise InvalidInputError(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _check_cpu(spec: ContainerSpec, cpus: int) -> None:
    if spec.nano_cpus and (spec.cpu_period or spec.cpu_quota):
        other = "CPU Period" if spec.cpu_period else "CPU Quota"
        raise InvalidInputError(f"Conflicting options: Nano CPUs and {other} cannot both be set")
    if spec.nano_cpus < 0 or spec.nano_cpus > cpus * 10**9:
        raise InvalidInputError(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if spec.cpu_shares < 0:
        raise InvalidInputError(
            f"invalid CPU shares ({spec.cpu_shares}): value must be a positive integer"
        )
    if spec.cpu_period and not 1000 <= spec.cpu_period <= 1_000_000:
        raise InvalidInputError(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < spec.cpu_quota < 1000:
        raise InvalidInputError("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def check_sets(spec: ContainerSpec, *, cpu_list: str, memory_nodes: str) -> None:
    """Raise InvalidInputError for CPUs and memory nodes that the host has not; its own lists may be "" for unknown."""
    asked = (
        (spec.cpuset_cpus, cpu_list, "CPUs"),
        (spec.cpuset_mems, memory_nodes, "memory nodes"),
    )
    for wanted, available, title in asked:
        if available and not _numbers(wanted) <= _numbers(available):
            raise InvalidInputError(
                f"Requested {title} are not available - requested {wanted[:80]}, available: {available}"
            )


def _numbers(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(",") if text else ():
        low, _, high = part.strip().partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)


def body(spec: ContainerSpec) -> JsonObject:
    """Return the limit fields of HostConfig."""
    return {
        "CpuShares": spec.cpu_shares,
        "Memory": spec.memory,
        "NanoCpus": spec.nano_cpus,
        "CgroupParent": spec.cgroup_parent,
        "BlkioWeight": spec.blkio_weight,
        **_blkio_body(spec),
        "CpuPeriod": spec.cpu_period,
        "CpuQuota": spec.cpu_quota,
        "CpuRealtimePeriod": spec.cpu_realtime_period,
        "CpuRealtimeRuntime": spec.cpu_realtime_runtime,
        "CpusetCpus": spec.cpuset_cpus,
        "CpusetMems": spec.cpuset_mems,
        "DeviceCgroupRules": [*spec.device_cgroup_rules] or None,
        "DeviceRequests": None,
        "MemoryReservation": spec.memory_reservation,
        "MemorySwap": spec.memory_swap,
        "MemorySwappiness": spec.memory_swappiness,
        "OomKillDisable": spec.oom_kill_disable,
        "PidsLimit": spec.pids_limit or None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }
