"""What the engine is told to create: the request bodies of containers, networks and volumes; pure.

The bodies are those of ``POST /containers/create``, ``/networks/create`` and ``/volumes/create`` of the Docker Engine
API.
"""

from collections.abc import Callable, Iterable, Mapping

from stackctl import __version__
from stackctl.orchestrator.model.files import FileObject, FileReference
from stackctl.orchestrator.model.mounts import (
    BindMount,
    ImageMount,
    Mount,
    OtherMount,
    TmpfsMount,
    VolumeMount,
)
from stackctl.orchestrator.model.network import Endpoint, Network
from stackctl.orchestrator.model.service import Service
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.model.volume import Volume
from stackctl.orchestrator.planning import labels
from stackctl.orchestrator.planning.compose_hash import compose_hash
from stackctl.orchestrator.planning.fingerprint import (
    Inputs,
    network_fingerprint,
    service_fingerprint,
    volume_fingerprint,
)
from stackctl.orchestrator.planning.graph import dependencies
from stackctl.orchestrator.planning.plan import CreateContainer
from stackctl.values import Json, JsonObject

ContainerOf = Callable[[str], str]
_MOUNT_TYPES: dict[type, str] = {BindMount: "bind", VolumeMount: "volume", TmpfsMount: "tmpfs", ImageMount: "image"}  # fmt: skip


def container_body(
    stack: Stack,
    service: Service,
    action: CreateContainer,
    *,
    image_id: str,
    container_of: ContainerOf,
    inputs: Inputs,
    one_network: bool,
) -> JsonObject:
    """Return the body for one replica.

    ``container_of`` gives the ID of a service's first container (for shared namespaces). ``one_network``: the
    engine takes one endpoint at creation (API before 1.44), the others are connected afterwards.
    """
    body: JsonObject = {
        "Image": action.image,
        "Env": [f"{k}={v}" for k, v in service.environment.items() if v is not None],
        "Labels": dict(
            container_labels(
                stack, service, action, image_id=image_id, inputs=inputs, container_of=container_of
            )
        ),
        "Tty": service.tty,
        "OpenStdin": service.stdin_open,
        "HostConfig": host_config(stack, service, action, container_of=container_of),
        "NetworkingConfig": {"EndpointsConfig": endpoints(stack, service, action, one_network)},
    }
    exposed: JsonObject = {port: {} for port in _exposed(service)}
    optional: dict[str, Json] = {
        "Cmd": None if service.command is None else list(service.command),
        "Entrypoint": None if service.entrypoint is None else list(service.entrypoint),
        "Hostname": service.hostname or None,
        "Domainname": service.domainname or None,
        "User": service.user or None,
        "WorkingDir": service.working_dir or None,
        "StopSignal": service.stop_signal or None,
        "StopTimeout": None
        if service.stop_grace_period is None
        else round(service.stop_grace_period),
        "ExposedPorts": exposed or None,
        "Healthcheck": _healthcheck(service),
        "MacAddress": service.mac_address or None,
        "Volumes": {entry.target: {} for entry in service.volumes if _anonymous(entry, action)}
        or None,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def container_labels(
    stack: Stack,
    service: Service,
    action: CreateContainer,
    *,
    image_id: str,
    inputs: Inputs,
    container_of: ContainerOf,
    oneoff: bool = False,
) -> dict[str, str]:
    """Return the labels of a container: the service's own, those of docker compose, and ours."""
    fingerprint = service_fingerprint(stack, service, inputs)
    needed = {
        name: (dependency.condition, dependency.restart)
        for name, dependency in dependencies(service).items()
    }
    found = {
        **service.labels,
        labels.PROJECT: stack.name,
        labels.SERVICE: service.name,
        labels.NUMBER: str(action.number),
        labels.ONEOFF: "True" if oneoff else "False",
        labels.CONFIG_HASH: compose_hash(stack, service, container_of),
        labels.WORKING_DIR: stack.working_dir,
        labels.CONFIG_FILES: ",".join(stack.files),
        labels.DEPENDS_ON: labels.write_depends_on(needed),
        labels.IMAGE: image_id,
        labels.VERSION: labels.COMPOSE_VERSION,
        labels.STACKCTL_VERSION: __version__,
        labels.FINGERPRINT: fingerprint.digest,
        labels.DEFINITION: fingerprint.definition,
    }
    if stack.env_files:
        found[labels.ENVIRONMENT_FILE] = ",".join(stack.env_files)
    if action.replaces and action.created_as != action.name:
        found[labels.REPLACE] = action.name
    return found


def host_config(
    stack: Stack, service: Service, action: CreateContainer, *, container_of: ContainerOf
) -> JsonObject:
    """Return the host's part of a container: limits, namespaces, mounts, ports."""
    deploy = service.deploy
    limits = deploy.limits if deploy else None
    reservations = deploy.reservations if deploy else None
    found: dict[str, Json] = {
        "NetworkMode": _network_mode(stack, service, container_of),
        "IpcMode": _namespace(service.ipc, container_of),
        "PidMode": _namespace(service.pid, container_of),
        "UTSMode": service.uts,
        "UsernsMode": service.userns_mode,
        "CgroupnsMode": service.cgroup,
        "CgroupParent": service.cgroup_parent,
        "Runtime": service.runtime,
        "Isolation": service.isolation,
        "PortBindings": _port_bindings(service),
        "RestartPolicy": _restart_policy(service),
        "CapAdd": list(service.cap_add),
        "CapDrop": list(service.cap_drop),
        "Privileged": service.privileged,
        "ReadonlyRootfs": service.read_only,
        "Init": service.init,
        "Dns": list(service.dns),
        "DnsOptions": list(service.dns_opt),
        "DnsSearch": list(service.dns_search),
        "ExtraHosts": [entry.replace("=", ":", 1) for entry in service.extra_hosts],
        "GroupAdd": list(service.group_add),
        "SecurityOpt": list(service.security_opt),
        "Sysctls": dict(service.sysctls),
        "StorageOpt": dict(service.storage_opt),
        "Annotations": dict(service.annotations),
        "ShmSize": service.shm_size,
        "Tmpfs": dict(entry.partition(":")[::2] for entry in service.tmpfs),
        "VolumesFrom": [_volumes_from(entry, container_of) for entry in service.volumes_from],
        "VolumeDriver": service.volume_driver,
        "Mounts": _mounts(stack, service, action),
        "OomScoreAdj": service.oom_score_adj,
        "OomKillDisable": service.oom_kill_disable,
        "Memory": service.mem_limit or (limits.memory if limits else 0),
        "MemoryReservation": service.mem_reservation
        or (reservations.memory if reservations else 0),
        "MemorySwap": service.memswap_limit,
        "MemorySwappiness": service.mem_swappiness,
        "PidsLimit": service.pids_limit or (limits.pids if limits else 0),
        "NanoCpus": round((service.cpus or (limits.cpus if limits else 0.0)) * 1e9),
        "CpuShares": service.cpu_shares,
        "CpuPeriod": service.cpu_period,
        "CpuQuota": service.cpu_quota,
        "CpuRealtimePeriod": service.cpu_rt_period,
        "CpuRealtimeRuntime": service.cpu_rt_runtime,
        "CpusetCpus": service.cpuset,
        "CpuCount": service.cpu_count,
        "CpuPercent": round(service.cpu_percent),
        "DeviceCgroupRules": list(service.device_cgroup_rules),
        "Links": _links(service, container_of),
        **_devices(service),
        **_blkio(service),
    }
    if service.logging is not None:
        found["LogConfig"] = {
            "Type": service.logging.driver,
            "Config": dict(service.logging.options),
        }
    if service.ulimits:
        found["Ulimits"] = [
            {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
            for name, limit in service.ulimits.items()
        ]
    return {
        name: value
        for name, value in found.items()
        if value is not None
        and value != ""
        and value != []
        and value != {}
        and value is not False
        # Zero is the default of every number here but this one.
        and (value != 0 or name == "MemorySwappiness")
    }


def endpoints(
    stack: Stack, service: Service, action: CreateContainer, one_network: bool
) -> JsonObject:
    """Return the endpoints to create the container with, the most important network first."""
    keys = ordered_networks(service)
    return {
        stack.networks[key].name: endpoint_body(service, action.name, service.networks[key])
        for key in (keys[:1] if one_network else keys)
    }


def ordered_networks(service: Service) -> list[str]:
    """Return the keys of the service's networks by priority, then name."""
    return sorted(service.networks, key=lambda key: (-service.networks[key].priority, key))


def endpoint_body(service: Service, container: str, endpoint: Endpoint) -> JsonObject:
    """Return how a container stands in a network; its service's name and its own are aliases."""
    aliases = dict.fromkeys((container, service.name, *endpoint.aliases))
    body: JsonObject = {"Aliases": list(aliases)}
    addresses: JsonObject = {}
    if endpoint.ipv4_address:
        addresses["IPv4Address"] = endpoint.ipv4_address
    if endpoint.ipv6_address:
        addresses["IPv6Address"] = endpoint.ipv6_address
    if endpoint.link_local_ips:
        addresses["LinkLocalIPs"] = list(endpoint.link_local_ips)
    if addresses:
        body["IPAMConfig"] = addresses
    if endpoint.mac_address:
        body["MacAddress"] = endpoint.mac_address
    options = dict(endpoint.driver_opts)
    if endpoint.interface_name:
        options["com.docker.network.endpoint.ifname"] = endpoint.interface_name
    if options:
        body["DriverOpts"] = dict(options)
    if endpoint.gw_priority:
        body["GwPriority"] = endpoint.gw_priority
    return body


def network_body(stack: Stack, network: Network) -> JsonObject:
    """Return the body that creates a network."""
    fingerprint = network_fingerprint(network)
    ipam: JsonObject = {
        "Driver": network.ipam.driver or "default",
        "Options": dict(network.ipam.options),
        "Config": [
            {
                **{
                    name: value
                    for name, value in (
                        ("Subnet", pool.subnet),
                        ("Gateway", pool.gateway),
                        ("IPRange", pool.ip_range),
                    )
                    if value
                },
                **({"AuxiliaryAddresses": dict(pool.aux_addresses)} if pool.aux_addresses else {}),
            }
            for pool in network.ipam.config
        ],
    }
    body: JsonObject = {
        "Name": network.name,
        "Driver": network.driver or "bridge",
        "Options": dict(network.driver_opts),
        "IPAM": ipam,
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Labels": {
            **network.labels,
            labels.PROJECT: stack.name,
            labels.NETWORK: network.key,
            labels.VERSION: labels.COMPOSE_VERSION,
            labels.FINGERPRINT: fingerprint.digest,
            labels.DEFINITION: fingerprint.definition,
        },
    }
    if network.enable_ipv6 is not None:
        body["EnableIPv6"] = network.enable_ipv6
    if network.enable_ipv4 is not None:
        body["EnableIPv4"] = network.enable_ipv4
    return body


def volume_body(stack: Stack, volume: Volume) -> JsonObject:
    """Return the body that creates a volume."""
    fingerprint = volume_fingerprint(volume)
    return {
        "Name": volume.name,
        "Driver": volume.driver or "local",
        "DriverOpts": dict(volume.driver_opts),
        "Labels": {
            **volume.labels,
            labels.PROJECT: stack.name,
            labels.VOLUME: volume.key,
            labels.VERSION: labels.COMPOSE_VERSION,
            labels.FINGERPRINT: fingerprint.digest,
            labels.DEFINITION: fingerprint.definition,
        },
    }


def file_target(reference: FileReference, *, kind: str) -> str:
    """Return where a config or secret goes in the container."""
    target = reference.target or reference.source
    if target.startswith("/"):
        return target
    return f"/run/secrets/{target}" if kind == "secret" else f"/{target}"


def files_of(stack: Stack, service: Service) -> Iterable[tuple[str, FileReference, FileObject]]:
    """Return (kind, reference, object) for every config and secret of a service."""
    for kind, references, objects in (
        ("config", service.configs, stack.configs),
        ("secret", service.secrets, stack.secrets),
    ):
        for reference in references:
            item = objects.get(reference.source)
            if item is not None:
                yield kind, reference, item


def _anonymous(entry: Mount, action: CreateContainer) -> bool:
    inherited = {target.rstrip("/") for target, _ in action.inherited}
    return (
        isinstance(entry, VolumeMount)
        and not entry.source
        and not entry.read_only
        and entry.target.rstrip("/") not in inherited
    )


def _exposed(service: Service) -> Iterable[str]:
    for text in service.expose:
        number, _, protocol = text.partition("/")
        first, _, last = number.partition("-")
        for port in range(int(first), int(last or first) + 1):
            yield f"{port}/{protocol or 'tcp'}"
    for entry in service.ports:
        yield f"{entry.target}/{entry.protocol}"


def _port_bindings(service: Service) -> JsonObject:
    found: dict[str, list[Json]] = {}
    for port in service.ports:
        binding: Json = {"HostIp": port.host_ip, "HostPort": port.published}
        found.setdefault(f"{port.target}/{port.protocol}", []).append(binding)
    return dict(found)


def _healthcheck(service: Service) -> Json:
    check = service.healthcheck
    if check is None:
        return None
    if check.disable or check.test[:1] == ("NONE",):
        return {"Test": ["NONE"]}
    body: JsonObject = {"Test": list(check.test)} if check.test else {}
    times = (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    )
    body |= {name: round(value * 1e9) for name, value in times if value is not None}
    if check.retries is not None:
        body["Retries"] = check.retries
    return body


def _restart_policy(service: Service) -> JsonObject:
    if service.restart:
        name, _, count = service.restart.partition(":")
        body: JsonObject = {"Name": name}
        return body | ({"MaximumRetryCount": int(count)} if count.isdigit() else {})
    policy = service.deploy.restart_policy if service.deploy else None
    if policy is None:
        return {}
    name = {"any": "always", "on-failure": "on-failure", "none": "no"}.get(
        policy.condition, "always"
    )
    found: JsonObject = {"Name": name}
    if name == "on-failure" and policy.max_attempts:
        found["MaximumRetryCount"] = policy.max_attempts
    return found


def _network_mode(stack: Stack, service: Service, container_of: ContainerOf) -> str:
    if service.network_mode:
        return _namespace(service.network_mode, container_of)
    keys = ordered_networks(service)
    return stack.networks[keys[0]].name if keys else "none"


def _namespace(mode: str, container_of: ContainerOf) -> str:
    if mode.startswith("service:"):
        return f"container:{container_of(mode.removeprefix('service:'))}"
    return mode


def _volumes_from(entry: str, container_of: ContainerOf) -> str:
    if entry.startswith("container:"):
        return entry.removeprefix("container:")
    name, colon, mode = entry.partition(":")
    return f"{container_of(name)}{colon}{mode}"


def _links(service: Service, container_of: ContainerOf) -> list[Json]:
    found: list[Json] = []
    for link in service.links:
        name, _, alias = link.partition(":")
        found.append(f"{container_of(name)}:{alias or name}")
    found += [link if ":" in link else f"{link}:{link}" for link in service.external_links]
    return found


def _mounts(stack: Stack, service: Service, action: CreateContainer) -> list[Json]:
    inherited = dict(action.inherited)
    found: list[Json] = []
    for entry in service.volumes:
        if (
            isinstance(entry, VolumeMount)
            and not entry.source
            and (entry.target in inherited or _anonymous(entry, action))
        ):
            continue  # taken over below, or among the anonymous Volumes of the body
        found.append(_mount(stack, entry))
    for target, volume in inherited.items():
        found.append({"Type": "volume", "Source": volume, "Target": target})
    for kind, reference, item in files_of(stack, service):
        if item.file:
            found.append(
                {
                    "Type": "bind",
                    "Source": item.file,
                    "Target": file_target(reference, kind=kind),
                    "ReadOnly": True,
                }
            )
    if service.use_api_socket:
        path = "/var/run/docker.sock"
        found.append({"Type": "bind", "Source": path, "Target": path})
    return found


def _mount(stack: Stack, entry: Mount) -> JsonObject:
    kind = entry.type if isinstance(entry, OtherMount) else _MOUNT_TYPES[type(entry)]
    body: JsonObject = {"Type": kind, "Target": entry.target}
    if entry.read_only:
        body["ReadOnly"] = True
    if entry.consistency:
        body["Consistency"] = entry.consistency
    match entry:
        case BindMount():
            body["Source"] = entry.source
            options: JsonObject = {"CreateMountpoint": True} if entry.create_host_path else {}
            if entry.propagation:
                options["Propagation"] = entry.propagation
            if entry.recursive == "disabled":
                options["NonRecursive"] = True
            elif entry.recursive == "writable":
                options["ReadOnlyNonRecursive"] = True
            elif entry.recursive == "readonly":
                options["ReadOnlyForceRecursive"] = True
            if options:
                body["BindOptions"] = options
        case VolumeMount():
            if entry.source:
                known = stack.volumes.get(entry.source)
                body["Source"] = known.name if known else entry.source
            options = {"NoCopy": True} if entry.nocopy else {}
            if entry.subpath:
                options["Subpath"] = entry.subpath
            if entry.labels:
                options["Labels"] = dict(entry.labels)
            if options:
                body["VolumeOptions"] = options
        case TmpfsMount():
            options = {"SizeBytes": entry.size} if entry.size else {}
            if entry.mode:
                options["Mode"] = entry.mode
            if options:
                body["TmpfsOptions"] = options
        case ImageMount():
            body["Source"] = entry.source
            if entry.subpath:
                body["ImageOptions"] = {"Subpath": entry.subpath}
        case OtherMount():
            body["Source"] = entry.source
    return body


def _devices(service: Service) -> Mapping[str, Json]:
    requests = [*service.gpus]
    if service.deploy and service.deploy.reservations:
        requests += service.deploy.reservations.devices
    return {
        "Devices": [
            {
                "PathOnHost": device.source,
                "PathInContainer": device.target,
                "CgroupPermissions": device.permissions,
            }
            for device in service.devices
        ],
        "DeviceRequests": [
            {
                "Driver": request.driver,
                "Count": request.count,
                "DeviceIDs": list(request.device_ids),
                "Capabilities": [list(request.capabilities)],
                "Options": dict(request.options),
            }
            for request in requests
        ],
    }


def _blkio(service: Service) -> Mapping[str, Json]:
    config = service.blkio_config
    if config is None:
        return {}
    throttles = {
        "BlkioDeviceReadBps": config.device_read_bps,
        "BlkioDeviceReadIOps": config.device_read_iops,
        "BlkioDeviceWriteBps": config.device_write_bps,
        "BlkioDeviceWriteIOps": config.device_write_iops,
    }
    return {
        "BlkioWeight": config.weight,
        "BlkioWeightDevice": [
            {"Path": item.path, "Weight": item.weight} for item in config.weight_device
        ],
        **{
            name: [{"Path": item.path, "Rate": item.rate} for item in items]
            for name, items in throttles.items()
        },
    }
