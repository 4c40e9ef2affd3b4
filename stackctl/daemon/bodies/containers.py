"""Containers as inspect shows them; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from stackctl.api import times
from stackctl.contracts.container import (
    ContainerRecord,
    ContainerSpec,
    Endpoint,
    EndpointRequest,
    Health,
    Healthcheck,
    Status,
)
from stackctl.daemon.bodies import limits, mounts, ports
from stackctl.daemon.bodies.networks import PREDEFINED
from stackctl.engine.addresses import mac_address
from stackctl.engine.security import MASKED_PATHS, READONLY_PATHS
from stackctl.frozen import frozen
from stackctl.values import Json, JsonObject

LIVE = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})
STORAGE_DRIVER = "overlay2"


@frozen
class Surroundings:
    """What inspect shows of a container beside its record. ``directory`` holds its hosts, hostname, resolv.conf.

    ``volumes`` are the paths of its volumes, those that its image declares among them.
    """

    directory: str
    sandbox: str = ""
    exec_ids: Sequence[str] = ()
    size_rw: int | None = None
    size_root_fs: int | None = None
    graph: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()


def inspect_body(record: ContainerRecord, around: Surroundings) -> JsonObject:
    """Return the answer to GET /containers/{id}/json."""
    # Of a container that was never started Docker tells no places.
    started = record.started_at > 0
    body: JsonObject = {
        "Id": record.id,
        "Created": times.rfc3339(record.created),
        "Path": record.path,
        "Args": [*record.args],
        "State": state_body(record),
        "Image": record.image_id,
        "ResolvConfPath": f"{around.directory}/resolv.conf" if started else "",
        "HostnamePath": f"{around.directory}/hostname" if started else "",
        "HostsPath": f"{around.directory}/hosts" if started else "",
        "LogPath": record.log_path if started else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": STORAGE_DRIVER,
        "Platform": record.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [*around.exec_ids] or None,
        "HostConfig": host_config(record.spec),
        "GraphDriver": {"Data": {**around.graph}, "Name": STORAGE_DRIVER},
        "Mounts": mounts.points_body(record.mounts),
        "Config": _config(record, around.volumes),
        "NetworkSettings": network_settings(record, around.sandbox),
    }
    if around.size_rw is not None:
        body["SizeRw"] = around.size_rw
    if around.size_root_fs is not None:
        body["SizeRootFs"] = around.size_root_fs
    return body


def state_body(record: ContainerRecord) -> JsonObject:
    """Return State; a container waiting to be restarted counts as running, as in Docker."""
    live = record.status in LIVE
    body: JsonObject = {
        "Status": record.status.value,
        "Running": live,
        "Paused": record.status is Status.PAUSED,
        "Restarting": record.status is Status.RESTARTING,
        "OOMKilled": record.oom_killed,
        "Dead": record.status is Status.DEAD,
        "Pid": record.pid if record.status in (Status.RUNNING, Status.PAUSED) else 0,
        "ExitCode": record.exit_code,
        "Error": record.error,
        "StartedAt": times.rfc3339(record.started_at),
        "FinishedAt": times.rfc3339(record.finished_at),
    }
    if record.health is not None:
        body["Health"] = health_body(record.health)
    return body


def health_body(health: Health) -> JsonObject:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": times.rfc3339(probe.start),
                "End": times.rfc3339(probe.end),
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            }
            for probe in health.log
        ],
    }


def _config(record: ContainerRecord, volumes: Sequence[str]) -> JsonObject:
    spec = record.spec
    body: JsonObject = {
        "Hostname": record.hostname or spec.hostname,
        "Domainname": spec.domainname,
        "User": record.user,
        "AttachStdin": spec.attach_stdin,
        "AttachStdout": spec.attach_stdout,
        "AttachStderr": spec.attach_stderr,
        **(
            {"ExposedPorts": {port: {} for port in record.exposed_ports}}
            if record.exposed_ports
            else {}
        ),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": [*record.env] or None,
        "Cmd": None if record.cmd is None else [*record.cmd],
        "Image": spec.image,
        "Volumes": {path: {} for path in volumes} or None,
        "WorkingDir": record.working_dir,
        "Entrypoint": None if record.entrypoint is None else [*record.entrypoint],
        "OnBuild": None,
        "Labels": {**record.labels},
    }
    if record.healthcheck is not None:
        body["Healthcheck"] = healthcheck_body(record.healthcheck)
    if record.stop_signal:
        body["StopSignal"] = record.stop_signal
    if spec.stop_timeout is not None:
        body["StopTimeout"] = spec.stop_timeout
    if spec.shell:
        body["Shell"] = [*spec.shell]
    if spec.network_disabled:
        body["NetworkDisabled"] = True
    if spec.mac_address:
        body["MacAddress"] = spec.mac_address
    return body


def healthcheck_body(check: Healthcheck) -> JsonObject:
    """Return Config.Healthcheck; what was not set is left out."""
    body: JsonObject = {"Test": [*check.test]} if check.test else {}
    for name, seconds in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if seconds:
            body[name] = round(seconds * 10**9)
    if check.retries:
        body["Retries"] = check.retries
    return body


def host_config(spec: ContainerSpec) -> JsonObject:
    """Return HostConfig as it was asked for, defaults filled in as Docker fills them."""
    body: JsonObject = {
        "Binds": mounts.binds_body(spec.mounts),
        "ContainerIDFile": spec.container_id_file,
        "LogConfig": {"Type": spec.log_config.type, "Config": {**spec.log_config.config}},
        "NetworkMode": "bridge" if spec.network_mode == "default" else spec.network_mode,
        "PortBindings": ports.bindings_body(spec.port_bindings),
        "RestartPolicy": {
            "Name": spec.restart_policy.name,
            "MaximumRetryCount": spec.restart_policy.maximum_retry_count,
        },
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": spec.volume_driver,
        "VolumesFrom": [*spec.volumes_from] or None,
        "ConsoleSize": [*spec.console_size],
        "CapAdd": [*spec.cap_add] or None,
        "CapDrop": [*spec.cap_drop] or None,
        "CgroupnsMode": spec.cgroupns_mode or "host",
        "Dns": [*spec.dns],
        "DnsOptions": [*spec.dns_options],
        "DnsSearch": [*spec.dns_search],
        "ExtraHosts": [*spec.extra_hosts] or None,
        "GroupAdd": [*spec.group_add] or None,
        "IpcMode": spec.ipc_mode or "private",
        "Cgroup": "",
        "Links": [*spec.links] or None,
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": spec.pid_mode,
        "Privileged": spec.privileged,
        "PublishAllPorts": spec.publish_all_ports,
        "ReadonlyRootfs": spec.read_only_rootfs,
        "SecurityOpt": [*spec.security_opt] or None,
        "UTSMode": spec.uts_mode,
        "UsernsMode": spec.userns_mode,
        "ShmSize": spec.shm_size or 64 * 1024 * 1024,
        "Runtime": spec.runtime or "runc",
        "Isolation": spec.isolation,
        "Devices": [
            {
                "PathOnHost": device.path_on_host,
                "PathInContainer": device.path_in_container,
                "CgroupPermissions": device.permissions,
            }
            for device in spec.devices
        ],
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in spec.ulimits
        ],
        "MaskedPaths": _paths(spec.masked_paths, spec.privileged, MASKED_PATHS),
        "ReadonlyPaths": _paths(spec.readonly_paths, spec.privileged, READONLY_PATHS),
    }
    body.update(limits.body(spec))
    _add_optional(body, spec)
    return body


def _paths(asked: tuple[str, ...] | None, privileged: bool, default: tuple[str, ...]) -> Json:
    if asked is not None:
        return [*asked]
    return None if privileged else [*default]


def _add_optional(body: JsonObject, spec: ContainerSpec) -> None:
    if asked := mounts.mounts_body(spec.mounts):
        body["Mounts"] = asked
    if tmpfs := mounts.tmpfs_body(spec):
        body["Tmpfs"] = tmpfs
    if spec.sysctls:
        body["Sysctls"] = {**spec.sysctls}
    if spec.init is not None:
        body["Init"] = spec.init
    if spec.annotations:
        body["Annotations"] = {**spec.annotations}


def network_settings(record: ContainerRecord, sandbox: str) -> JsonObject:
    """Return NetworkSettings; addresses only while the container lives, as in Docker."""
    live = record.status in (Status.RUNNING, Status.PAUSED)
    requests = {request.network: request for request in record.spec.endpoints}
    networks: JsonObject = {
        name: endpoint_body(
            endpoint, requests.get(name), record.id, live=live, started=record.started_at > 0
        )
        for name, endpoint in record.endpoints.items()
    }
    # The flat fields are those of the default bridge, kept for clients of the time before networks had names.
    flat = record.endpoints.get("bridge") if live else None
    return {
        "Bridge": "",
        "SandboxID": record.id if live and sandbox else "",
        "SandboxKey": sandbox if live else "",
        "Ports": ports.settings_ports(record, record.ports) if live else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": flat.endpoint_id if flat else "",
        "Gateway": flat.gateway if flat else "",
        "GlobalIPv6Address": flat.ipv6_address if flat else "",
        "GlobalIPv6PrefixLen": flat.ipv6_prefix if flat else 0,
        "IPAddress": flat.ipv4_address if flat else "",
        "IPPrefixLen": flat.ipv4_prefix if flat else 0,
        "IPv6Gateway": flat.ipv6_gateway if flat else "",
        "MacAddress": flat.mac_address if flat else "",
        "Networks": networks,
    }


def endpoint_body(
    endpoint: Endpoint,
    request: EndpointRequest | None,
    container_id: str,
    *,
    live: bool,
    started: bool = True,
) -> JsonObject:
    """Return one NetworkSettings.Networks entry; of a container that was never started Docker tells little."""
    aliases = [*endpoint.aliases]
    names = list(dict.fromkeys(endpoint.dns_names or (*aliases, container_id[:12])))
    ipam: JsonObject = {}
    if ipv4 := endpoint.requested_ipv4 or (request.ipv4_address if request else ""):
        ipam["IPv4Address"] = ipv4
    if ipv6 := endpoint.requested_ipv6 or (request.ipv6_address if request else ""):
        ipam["IPv6Address"] = ipv6
    if endpoint.link_local_ips:
        ipam["LinkLocalIPs"] = [*endpoint.link_local_ips]
    return {
        "IPAMConfig": ipam or None,
        "Links": [*endpoint.links] or None,
        "Aliases": [*aliases] or None,
        "MacAddress": endpoint.mac_address if live or _asked_mac(endpoint) else "",
        "DriverOpts": {**endpoint.driver_opts} or None,
        "GwPriority": endpoint.gw_priority,
        "NetworkID": endpoint.network_id if started else "",
        "EndpointID": endpoint.endpoint_id if live else "",
        "Gateway": endpoint.gateway if live else "",
        "IPAddress": endpoint.ipv4_address if live else "",
        "IPPrefixLen": endpoint.ipv4_prefix if live else 0,
        "IPv6Gateway": endpoint.ipv6_gateway if live else "",
        "GlobalIPv6Address": endpoint.ipv6_address if live else "",
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix if live else 0,
        "DNSNames": [*names] if started and endpoint.network_name not in PREDEFINED else None,
    }


def _asked_mac(endpoint: Endpoint) -> bool:
    """Tell whether the address was asked for; such a one shows before the container runs, a generated one does not."""
    return endpoint.mac_address != mac_address(endpoint.endpoint_id)
