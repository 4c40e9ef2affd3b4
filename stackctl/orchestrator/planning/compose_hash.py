"""The config hash that docker compose computes for a service, so that either tool takes over from the other.

docker compose hashes the JSON of its own record of the service, without what does not concern the container (build,
pull policy, scale, replicas, depends_on, profiles). JSON of a record has its fields in the record's order, JSON of a
map its keys sorted; the tables below are those orders (Compose 2.40). A service whose namespaces or volumes another
one shares is named by the ID of its first container, so that who shares with it is made anew when it is.
"""

import hashlib
import json
from collections.abc import Callable

from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.values import Json, JsonObject

_SERVICE = [
    "annotations",
    "attach",
    "develop",
    "blkio_config",
    "cap_add",
    "cap_drop",
    "cgroup_parent",
    "cgroup",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpus",
    "cpuset",
    "cpu_shares",
    "command",
    "configs",
    "container_name",
    "credential_spec",
    "deploy",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "dockerfile",
    "domainname",
    "entrypoint",
    "provider",
    "environment",
    "env_file",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "group_add",
    "gpus",
    "hostname",
    "healthcheck",
    "image",
    "init",
    "ipc",
    "isolation",
    "labels",
    "label_file",
    "links",
    "logging",
    "log_driver",
    "log_opt",
    "mem_limit",
    "mem_reservation",
    "memswap_limit",
    "mem_swappiness",
    "mac_address",
    "models",
    "net",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "read_only",
    "restart",
    "runtime",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volume_driver",
    "volumes",
    "volumes_from",
    "working_dir",
    "post_start",
    "pre_stop",
]
_RECORDS = {
    "blkio_config": "weight weight_device device_read_bps device_read_iops device_write_bps "
    "device_write_iops",
    "deploy": "mode labels update_config rollback_config resources restart_policy placement "
    "endpoint_mode",
    "deploy.update_config": "parallelism delay failure_action monitor max_failure_ratio order",
    "deploy.rollback_config": "parallelism delay failure_action monitor max_failure_ratio order",
    "deploy.resources": "limits reservations",
    "deploy.resources.limits": "cpus memory pids devices generic_resources",
    "deploy.resources.reservations": "cpus memory pids devices generic_resources",
    "deploy.resources.reservations.devices": "capabilities driver count device_ids options",
    "deploy.restart_policy": "condition delay max_attempts window",
    "deploy.placement": "constraints preferences max_replicas_per_node",
    "develop": "watch",
    "develop.watch": "path action target exec include ignore initial_sync",
    "develop.watch.exec": "command user privileged working_dir environment",
    "devices": "source target permissions",
    "gpus": "capabilities driver count device_ids options",
    "logging": "driver options",
    "healthcheck": "test timeout interval retries start_period start_interval disable",
    "networks.*": "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address "
    "link_local_ips mac_address priority",
    "ports": "name mode host_ip target published protocol app_protocol",
    "configs": "source target uid gid mode",
    "secrets": "source target uid gid mode",
    "ulimits.*": "single soft hard",
    "volumes": "type source target read_only consistency bind volume tmpfs image",
    "volumes.bind": "selinux propagation create_host_path recursive",
    "volumes.volume": "labels nocopy subpath",
    "volumes.tmpfs": "size mode",
    "credential_spec": "config file registry",
    "post_start": "command user privileged working_dir environment",
    "pre_stop": "command user privileged working_dir environment",
}
_ORDERS = {path: names.split() for path, names in _RECORDS.items()} | {"": _SERVICE}
_LEFT_OUT = frozenset({"build", "pull_policy", "scale", "depends_on", "profiles"})


def compose_hash(
    stack: Stack, service: Service, container_of: Callable[[str], str] | None = None
) -> str:
    """Return the hash as 64 hexadecimal digits; empty when the stack has no normalised form of the service.

    ``container_of`` gives the ID of a service's first container, "" for a service that has none; without it the hash
    is that of the service as the file has it (``config --hash``).
    """
    try:
        tree = stack.service_tree(service.name)
    except KeyError:
        return ""
    kept: JsonObject = {name: value for name, value in tree.items() if name not in _LEFT_OUT}
    kept.setdefault("command", None)
    kept.setdefault("entrypoint", None)
    if container_of is not None:
        kept.update(_shared(kept, container_of))
    text = json.dumps(_ordered(kept, ""), separators=(",", ":"), ensure_ascii=False)
    for plain in "<>&\u2028\u2029":
        text = text.replace(plain, f"\\u{ord(plain):04x}")
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _shared(tree: JsonObject, container_of: Callable[[str], str]) -> JsonObject:
    """Return the keys that name other services, with their containers instead."""
    found: JsonObject = {}
    for key in ("network_mode", "ipc", "pid"):
        mode = tree.get(key)
        if isinstance(mode, str) and mode.startswith("service:"):
            found[key] = f"container:{container_of(mode.removeprefix('service:'))}"
    sources = tree.get("volumes_from")
    if isinstance(sources, list):
        found["volumes_from"] = [_volumes_from(str(entry), container_of) for entry in sources]
    return found


def _volumes_from(entry: str, container_of: Callable[[str], str]) -> str:
    name, _, rest = entry.partition(":")
    return rest.partition(":")[0] if name == "container" else container_of(name)


def _ordered(value: Json, path: str) -> Json:
    if isinstance(value, list):
        return [_ordered(item, path) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)  # JSON as Go writes it has no ".0"
    if not isinstance(value, dict):
        return value
    order = _ORDERS.get(path)
    names = sorted(value)
    if order is not None:
        names = [name for name in order if name in value]
        if path == "deploy":
            names = [name for name in names if name != "replicas"]
    map_path = f"{path}.*"
    return {
        name: _ordered(
            value[name],
            map_path if order is None and map_path in _ORDERS else f"{path}.{name}".lstrip("."),
        )
        for name in names
        if not name.startswith("x-") or order is None
    }
