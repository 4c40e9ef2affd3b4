"""Resource use as GET /containers/{id}/stats shows it; pure."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import field

from stackctl.api import times
from stackctl.contracts.runtime import Usage
from stackctl.engine.requests import NetworkCounters
from stackctl.frozen import frozen
from stackctl.values import Json, JsonObject


@frozen
class Sample:
    """One reading. ``system_cpu`` is the whole machine's CPU time in nanoseconds, ``networks`` counters by interface."""

    read_at: float
    usage: Usage | None = None
    system_cpu: int = 0
    cpus: int = 1
    networks: Mapping[str, NetworkCounters] = field(default_factory=dict)


def stats_body(
    container_id: str,
    name: str,
    sample: Sample,
    previous: Sample | None,
    *,
    host_memory: int,
    v2: bool,
) -> JsonObject:
    """Return one stats object; ``previous`` fills precpu_stats. A container that does not run has empty ones."""
    usage = sample.usage
    body: JsonObject = {
        "name": f"/{name}",
        "id": container_id,
        "read": times.rfc3339(sample.read_at) if usage else times.ZERO,
        "preread": times.rfc3339(previous.read_at) if previous and previous.usage else times.ZERO,
        "pids_stats": {},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu_body(sample, v2=v2),
        "precpu_stats": cpu_body(previous or Sample(read_at=0.0), v2=v2),
        "memory_stats": {},
        "blkio_stats": blkio_body(()),
    }
    if usage is None:
        return body
    body["pids_stats"] = {"current": usage.pids, "limit": usage.pids_limit or 2**64 - 1}
    body["memory_stats"] = memory_body(usage, host_memory, v2=v2)
    body["blkio_stats"] = blkio_body(usage.block_bytes)
    if sample.networks:
        body["networks"] = {
            interface: dataclasses.asdict(counters)
            for interface, counters in sample.networks.items()
        }
    return body


def cpu_body(sample: Sample, *, v2: bool) -> JsonObject:
    usage = sample.usage
    if usage is None:
        return {
            "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        }
    cpu: JsonObject = {
        "total_usage": usage.cpu_total,
        "usage_in_kernelmode": usage.cpu_system,
        "usage_in_usermode": usage.cpu_user,
    }
    if usage.cpu_per_cpu and not v2:
        cpu["percpu_usage"] = [*usage.cpu_per_cpu]
    return {
        "cpu_usage": cpu,
        "system_cpu_usage": sample.system_cpu,
        "online_cpus": sample.cpus,
        "throttling_data": {
            "periods": usage.cpu_periods,
            "throttled_periods": usage.cpu_throttled_periods,
            "throttled_time": usage.cpu_throttled_time,
        },
    }


def memory_body(usage: Usage, host_memory: int, *, v2: bool) -> JsonObject:
    """Return memory_stats; a limit beyond the machine's memory means none and shows the machine's."""
    limit = usage.memory_limit
    if limit <= 0 or limit > host_memory:
        limit = host_memory
    body: JsonObject = {
        "usage": usage.memory_usage,
        "stats": {**usage.memory_stats},
        "limit": limit,
    }
    if not v2:
        body["max_usage"] = usage.memory_max_usage
        body["failcnt"] = usage.memory_failcnt
    return body


def blkio_body(entries: Sequence[tuple[int, int, str, int]]) -> JsonObject:
    transferred: list[Json] = [
        {"major": major, "minor": minor, "op": operation.lower(), "value": value}
        for major, minor, operation, value in entries
    ]
    return {
        "io_service_bytes_recursive": transferred or None,
        "io_serviced_recursive": None,
        "io_queue_recursive": None,
        "io_service_time_recursive": None,
        "io_wait_time_recursive": None,
        "io_merged_recursive": None,
        "io_time_recursive": None,
        "sectors_recursive": None,
    }


def parse_system_cpu(stat: str) -> int:
    """Return the machine's CPU time in nanoseconds from /proc/stat's first line (its first seven fields)."""
    fields = stat.split("\n", 1)[0].split()[1:8]
    return sum(int(text) for text in fields) * 10_000_000
