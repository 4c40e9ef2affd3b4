"""One service of a stack, every key of the Compose Specification."""

from collections.abc import Mapping

from stackctl.frozen import frozen
from stackctl.orchestrator.model.build import Build
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings
from stackctl.orchestrator.model.deploy import Deploy
from stackctl.orchestrator.model.develop import Hook, WatchRule
from stackctl.orchestrator.model.files import FileReference
from stackctl.orchestrator.model.health import Healthcheck
from stackctl.orchestrator.model.limits import (
    BlkioConfig,
    CredentialSpec,
    Device,
    DeviceRequest,
    Ulimit,
)
from stackctl.orchestrator.model.mounts import Mount
from stackctl.orchestrator.model.network import Endpoint
from stackctl.orchestrator.model.ports import Port
from stackctl.orchestrator.model.ready import Ready


@frozen
class Dependency:
    """One entry of ``depends_on``.

    ``condition`` is ``service_started``, ``service_healthy`` or ``service_completed_successfully``. ``restart``:
    restart the dependent when the dependency is restarted by us. Not ``required``: go on when it is missing.
    ``timeout`` is how many seconds this dependent waits for it (0: no limit), None where that is not its business.
    """

    condition: str = "service_started"
    restart: bool = False
    required: bool = True
    timeout: float | None = None


@frozen
class EnvFile:
    """One entry of ``env_file``; its variables are already in ``environment``."""

    path: str
    required: bool = True
    format: str = ""


@frozen
class Logging:
    """The ``logging`` element."""

    driver: str = ""
    options: Strings = EMPTY


@frozen
class Provider:
    """A service that another program provides; its options may repeat."""

    type: str
    options: Mapping[str, tuple[str, ...]] = EMPTY


@frozen
class ModelUse:
    """How a service gets at a top-level model: the variables that name it."""

    endpoint_var: str = ""
    model_var: str = ""


@frozen
class Service:
    """One service.

    ``command`` and ``entrypoint`` are None where the image's own holds, and empty where the file clears it.
    ``environment`` holds the final variables, env files included; a value of None means: declared without a value
    and unset everywhere, so not passed. ``networks`` is empty exactly when ``network_mode`` is set. ``scale`` is
    the number of replicas wanted (of ``scale`` or ``deploy.replicas``, else 1). Sizes in bytes, 0 where not given
    (``memswap_limit`` may be -1: unlimited); times in seconds.
    """

    name: str
    # image and build
    image: str = ""
    build: Build | None = None
    platform: str = ""
    pull_policy: str = ""
    pull_refresh_after: str = ""
    provider: Provider | None = None
    models: Mapping[str, ModelUse] = EMPTY
    # command and process
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    init: bool | None = None
    tty: bool = False
    stdin_open: bool = False
    stop_signal: str = ""
    stop_grace_period: float | None = None
    pre_start: tuple[Hook, ...] = ()
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    # environment and metadata
    environment: Mapping[str, str | None] = EMPTY
    env_file: tuple[EnvFile, ...] = ()
    label_file: tuple[str, ...] = ()
    labels: Strings = EMPTY
    annotations: Strings = EMPTY
    container_name: str = ""
    hostname: str = ""
    domainname: str = ""
    profiles: tuple[str, ...] = ()
    attach: bool = True
    logging: Logging | None = None
    # order and lifecycle
    depends_on: Mapping[str, Dependency] = EMPTY
    healthcheck: Healthcheck | None = None
    ready: Ready | None = None
    restart: str = ""
    scale: int = 1
    deploy: Deploy | None = None
    watch: tuple[WatchRule, ...] = ()
    # network
    networks: Mapping[str, Endpoint] = EMPTY
    network_mode: str = ""
    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()  # "name=address"
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    mac_address: str = ""
    # storage
    volumes: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    volume_driver: str = ""
    tmpfs: tuple[str, ...] = ()
    configs: tuple[FileReference, ...] = ()
    secrets: tuple[FileReference, ...] = ()
    read_only: bool = False
    storage_opt: Strings = EMPTY
    shm_size: int = 0
    # processor, memory, I/O
    blkio_config: BlkioConfig | None = None
    cpu_count: int = 0
    cpu_percent: float = 0.0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    cpu_shares: int = 0
    cpus: float = 0.0
    cpuset: str = ""
    mem_limit: int = 0
    mem_reservation: int = 0
    mem_swappiness: int | None = None
    memswap_limit: int = 0
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    pids_limit: int = 0
    ulimits: Mapping[str, Ulimit] = EMPTY
    # devices
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    gpus: tuple[DeviceRequest, ...] = ()
    # isolation and security
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroup: str = ""
    cgroup_parent: str = ""
    credential_spec: CredentialSpec | None = None
    group_add: tuple[str, ...] = ()
    ipc: str = ""
    isolation: str = ""
    pid: str = ""
    privileged: bool = False
    runtime: str = ""
    security_opt: tuple[str, ...] = ()
    sysctls: Strings = EMPTY
    userns_mode: str = ""
    uts: str = ""
    use_api_socket: bool = False
    extensions: Extensions = EMPTY
