"""What callers ask of the engine's services and what they get back, beside the records themselves.

Times are float seconds since the epoch (0.0 for "not set"), sizes int bytes, CPU nano-CPUs, as in the contracts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from stackctl.contracts.container import RestartPolicy
from stackctl.contracts.runtime import WHOLE_LOG, LogPart
from stackctl.contracts.state import Subnet
from stackctl.frozen import frozen

Filters = Mapping[str, Sequence[str]]
"""Docker's filters: a key to the values any of which may match."""
Claim = Callable[[str, float], None]
"""Told the ID (a volume's name) and time of a thing right before it is written; what it raises undoes the thing."""


def unclaimed(_thing: str, _created: float) -> None:
    """Nobody claims it."""


@frozen
class LeaseRequest:
    """A lease to make. ``space`` is what ``pid`` is a number of, ``seconds`` its time to live (0.0: no end).

    What is created with all the labels of ``claims`` is listed by itself.
    """

    pid: int = 0
    pid_start: int = 0
    space: str = ""
    connection: bool = False
    seconds: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)


@frozen
class Created:
    """What a create gave: the container's ID and what the user should know."""

    id: str
    warnings: tuple[str, ...] = ()


@frozen
class Update:
    """Limits and policy to change on a container. None (0 where that means "no limit" in the API) leaves it alone."""

    cpu_shares: int | None = None
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    nano_cpus: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    blkio_weight: int | None = None
    pids_limit: int | None = None
    restart_policy: RestartPolicy | None = None


@frozen
class ExecRequest:
    """A further process to run in a container. ``console_size`` is (height, width), zeros for unknown."""

    cmd: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    privileged: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] = (0, 0)


@frozen
class ExecRecord:
    """One exec as inspect shows it. ``exit_code`` is None until it ended; ``started`` stays true afterwards."""

    id: str
    container_id: str
    request: ExecRequest
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    pid: int = 0


@frozen
class LogQuery:
    """Which lines of a container's log, of which streams, and whether to go on as more come."""

    stdout: bool = True
    stderr: bool = True
    part: LogPart = WHOLE_LOG
    follow: bool = False


@frozen
class Event:
    """One thing that happened. ``type`` is container, image, network, volume or daemon; ``time_ns`` wall clock."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0


@frozen
class EventQuery:
    """Which events. ``since`` > 0 replays what the ring still holds; ``until`` > 0 ends the stream then."""

    since: float = 0.0
    until: float = 0.0
    filters: Filters = field(default_factory=dict)


@frozen
class NetworkRequest:
    """A network to make. ``subnets`` empty takes them from the pool; ``enable_ipv6`` without one makes a ULA.

    ``config_from`` names the network of settings alone (``config_only``) that it is made by.
    """

    name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    scope: str = ""
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    subnets: tuple[Subnet, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    config_only: bool = False
    config_from: str = ""


@frozen
class VolumeRequest:
    """A volume to make. ``name`` "" makes an anonymous one."""

    name: str = ""
    driver: str = "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@frozen
class NetworkCounters:
    """What went through one interface of a container, as /proc/PID/net/dev counts it."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0
