"""What a container was asked to be and what became of it: the values the core keeps.

Names follow the Docker Engine API (create body: Config, HostConfig, NetworkingConfig) in snake case, with these units:
times are float seconds (wall clock since the epoch for instants, 0.0 for "never"), sizes are int bytes with 0 for
"no limit", CPU is nano-CPUs.
"""

import enum
from collections.abc import Mapping
from dataclasses import field

from stackctl.frozen import frozen


class Status(enum.Enum):
    """The container states of the Docker Engine API."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@frozen
class Healthcheck:
    """Config.Healthcheck. ``test`` is ("NONE",), ("CMD", …) or ("CMD-SHELL", text); 0 takes the default."""

    test: tuple[str, ...] = ()
    interval: float = 0.0
    timeout: float = 0.0
    start_period: float = 0.0
    start_interval: float = 0.0
    retries: int = 0


@frozen
class RestartPolicy:
    """HostConfig.RestartPolicy: name is "", "no", "always", "unless-stopped" or "on-failure"."""

    name: str = "no"
    maximum_retry_count: int = 0


@frozen
class Ulimit:
    """One resource limit; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@frozen
class Device:
    """One HostConfig.Devices entry; ``permissions`` is a subset of "rwm"."""

    path_on_host: str
    path_in_container: str
    permissions: str = "rwm"


@frozen
class MountRequest:
    """One mount asked for, from Binds, Mounts, Tmpfs or Config.Volumes alike.

    ``type`` is "bind", "volume", "tmpfs" or "image". ``source`` is a host path, a volume name ("" for an anonymous
    one) or an image reference. ``create_source`` makes a missing bind source (-v does, --mount does not).
    ``origin`` says which field asked ("binds", "mounts", "tmpfs", "volumes", "image"), so that inspect can echo it.
    """

    type: str
    target: str
    source: str = ""
    read_only: bool = False
    propagation: str = ""
    non_recursive: bool = False
    create_source: bool = False
    no_copy: bool = False
    subpath: str = ""
    driver: str = ""
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tmpfs_size: int = 0
    tmpfs_mode: int = 0
    tmpfs_options: str = ""
    mode: str = ""
    origin: str = "mounts"


@frozen
class PortBinding:
    """One published port. ``container_port`` 1-65535; ``host_port`` 0 asks for a free one, ``host_port_end`` > it a range."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: int = 0
    host_port_end: int = 0


@frozen
class EndpointRequest:
    """One entry of NetworkingConfig.EndpointsConfig, or the body of a connect."""

    network: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    link_local_ips: tuple[str, ...] = ()


@frozen
class BlkioLimit:
    """A limit of one block device: ``kind`` is the OCI key ("throttleReadBpsDevice"), ``value`` a rate or weight."""

    kind: str
    path: str
    value: int


@frozen
class LogConfig:
    """HostConfig.LogConfig."""

    type: str = "json-file"
    config: Mapping[str, str] = field(default_factory=dict)


@frozen
class ContainerSpec:
    """Everything the create call asked for. ``cmd``/``entrypoint`` None means "the image's"; () means empty."""

    # Config
    image: str
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    network_disabled: bool = False
    mac_address: str = ""
    args_escaped: bool = False
    # HostConfig
    mounts: tuple[MountRequest, ...] = ()
    volumes_from: tuple[str, ...] = ()
    port_bindings: tuple[PortBinding, ...] = ()
    publish_all_ports: bool = False
    network_mode: str = "default"
    endpoints: tuple[EndpointRequest, ...] = ()
    links: tuple[str, ...] = ()
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    read_only_rootfs: bool = False
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = 0
    init: bool | None = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    ipc_mode: str = ""
    pid_mode: str = ""
    uts_mode: str = ""
    userns_mode: str = ""
    cgroupns_mode: str = ""
    cgroup_parent: str = ""
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    blkio_weight: int = 0
    blkio_devices: tuple[BlkioLimit, ...] = ()
    pids_limit: int = 0
    oom_score_adj: int = 0
    oom_kill_disable: bool = False
    log_config: LogConfig = LogConfig()
    runtime: str = ""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    console_size: tuple[int, int] = (0, 0)
    container_id_file: str = ""
    volume_driver: str = ""
    isolation: str = ""


@frozen
class PublishedPort:
    """A port as it is published now: what inspect shows and the firewall forwards."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


@frozen
class Endpoint:
    """A container's place in one network. Its addresses are kept over restarts, unless others need them meanwhile."""

    network_id: str
    network_name: str
    endpoint_id: str
    ipv4_address: str = ""
    ipv4_prefix: int = 0
    gateway: str = ""
    ipv6_address: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""
    aliases: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    interface: str = ""
    requested_ipv4: str = ""
    requested_ipv6: str = ""
    link_local_ips: tuple[str, ...] = ()


@frozen
class MountPoint:
    """A mount as resolved at create: ``source`` is the host path that is mounted (never "" but for tmpfs)."""

    type: str
    target: str
    source: str = ""
    name: str = ""
    driver: str = ""
    read_only: bool = False
    propagation: str = ""
    non_recursive: bool = False
    subpath: str = ""
    anonymous: bool = False
    no_copy: bool = False
    tmpfs_options: tuple[str, ...] = ()
    mode: str = ""
    image_id: str = ""


@frozen
class ProbeResult:
    """One health probe: exit code 0 healthy, -1 timed out; output cut at 4096 bytes."""

    start: float
    end: float
    exit_code: int
    output: str


@frozen
class Health:
    """State.Health: status is "starting", "healthy", "unhealthy"; the last five probes, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()


@frozen
class ContainerRecord:
    """One container as the state store keeps it.

    ``path`` and ``args`` are the resolved program. ``pid`` is the init's pid in the host's namespace, meaningful only
    together with ``pid_start`` (field 22 of /proc/PID/stat) and ``boot_id``: nothing trusts a bare pid.
    ``manually_stopped`` is Docker's HasBeenManuallyStopped. ``aside``: it runs with neither its published ports nor
    its aliases, which another container has meanwhile.
    """

    id: str
    name: str
    created: float
    spec: ContainerSpec
    image_id: str
    layers: tuple[str, ...]
    path: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    hostname: str = ""
    mounts: tuple[MountPoint, ...] = ()
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    ports: tuple[PublishedPort, ...] = ()
    status: Status = Status.CREATED
    pid: int = 0
    pid_start: int = 0
    monitor_pid: int = 0
    monitor_start: int = 0
    boot_id: str = ""
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: float = 0.0
    finished_at: float = 0.0
    restart_count: int = 0
    manually_stopped: bool = False
    aside: bool = False
    health: Health | None = None
    log_path: str = ""
    platform: str = "linux"
