"""What containers use, from the engine's statistics."""

from collections.abc import Sequence

from stackctl.cli.render import tables
from stackctl.cli.render.containers import Listed
from stackctl.values import Json, JsonObject

TITLES = (
    "CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS",
)  # fmt: skip


def as_table(rows: Sequence[tuple[Listed, JsonObject]], *, whole: bool) -> str:
    """Return the table of ``stats``."""
    lines = []
    for one, stats in rows:
        shown = as_json(one, stats)
        identity = one.id if whole else one.id[:12]
        lines.append(
            (
                identity,
                one.name,
                *(
                    str(shown[key])
                    for key in ("CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
                ),
            )
        )
    return tables.table(TITLES, lines)


def as_json(one: Listed, stats: JsonObject) -> dict[str, Json]:
    """Return the object that ``docker stats --format json`` prints for a container."""
    used, limit = memory(stats)
    received, sent = network(stats)
    read, written = disk(stats)
    share = used / limit * 100 if limit else 0.0
    return {
        "BlockIO": f"{tables.size(read)} / {tables.size(written)}",
        "CPUPerc": f"{cpu(stats):.2f}%",
        "Container": one.id[:12],
        "ID": one.id[:12],
        "MemPerc": f"{share:.2f}%",
        "MemUsage": f"{tables.binary_size(used)} / {tables.binary_size(limit)}",
        "Name": one.name,
        "NetIO": f"{tables.size(received)} / {tables.size(sent)}",
        "PIDs": str(_number(stats, "pids_stats", "current")),
        "Service": one.service,
    }


def cpu(stats: JsonObject) -> float:
    """Return the CPU time used between the two readings, in percent of one processor."""
    used = _number(stats, "cpu_stats", "cpu_usage", "total_usage") - _number(
        stats, "precpu_stats", "cpu_usage", "total_usage"
    )
    passed = _number(stats, "cpu_stats", "system_cpu_usage") - _number(
        stats, "precpu_stats", "system_cpu_usage"
    )
    if used <= 0 or passed <= 0:
        return 0.0
    return used / passed * max(_number(stats, "cpu_stats", "online_cpus"), 1) * 100


def memory(stats: JsonObject) -> tuple[int, int]:
    """Return bytes used, without the page cache that can be given up, and the limit."""
    usage = _number(stats, "memory_stats", "usage")
    # cgroup v1 and v2 name it differently.
    cache = _number(stats, "memory_stats", "stats", "total_inactive_file") or _number(
        stats, "memory_stats", "stats", "inactive_file"
    )
    return (usage - cache if cache < usage else usage), _number(stats, "memory_stats", "limit")


def network(stats: JsonObject) -> tuple[int, int]:
    """Return bytes received and sent over all networks."""
    networks = stats.get("networks")
    values = list(networks.values()) if isinstance(networks, dict) else []
    found = [item for item in values if isinstance(item, dict)]
    return (
        sum(_number(item, "rx_bytes") for item in found),
        sum(_number(item, "tx_bytes") for item in found),
    )


def disk(stats: JsonObject) -> tuple[int, int]:
    """Return bytes read from and written to block devices."""
    read = written = 0
    match stats:
        case {"blkio_stats": {"io_service_bytes_recursive": list(entries)}}:
            for entry in entries:
                match entry:
                    case {"op": str(operation), "value": int(value)}:
                        read += value if operation.lower() == "read" else 0
                        written += value if operation.lower() == "write" else 0
    return read, written


def _number(value: Json, *path: str) -> int:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return int(value) if isinstance(value, int | float) else 0
