"""The ``deploy`` element: replicas, resources, placement, update and restart policies."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings
from stackctl.orchestrator.model.limits import DeviceRequest


@frozen
class GenericResource:
    """A countable resource that the user defines."""

    kind: str
    value: int


@frozen
class Resource:
    """One side of ``resources``; ``cpus`` in processors, ``memory`` in bytes, 0 where not given."""

    cpus: float = 0.0
    memory: int = 0
    pids: int = 0
    devices: tuple[DeviceRequest, ...] = ()
    generic_resources: tuple[GenericResource, ...] = ()


@frozen
class RestartPolicy:
    """When a replica is started again; times in seconds."""

    condition: str = ""
    delay: float | None = None
    max_attempts: int | None = None
    window: float | None = None


@frozen
class UpdateConfig:
    """How replicas are exchanged; times in seconds."""

    parallelism: int | None = None
    delay: float = 0.0
    failure_action: str = ""
    monitor: float = 0.0
    max_failure_ratio: float = 0.0
    order: str = ""


@frozen
class Placement:
    """Where replicas may run."""

    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    max_replicas_per_node: int = 0


@frozen
class Deploy:
    """The ``deploy`` element of a service."""

    mode: str = ""
    replicas: int | None = None
    labels: Strings = EMPTY
    limits: Resource | None = None
    reservations: Resource | None = None
    restart_policy: RestartPolicy | None = None
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    placement: Placement = Placement()
    endpoint_mode: str = ""
    extensions: Extensions = EMPTY
