"""Published ports."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions


@frozen
class Port:
    """One container port published on the host.

    ``published`` is a host port, a range ``first-last`` from which the engine takes a free one, or empty for any
    free port. ``host_ip`` is empty for all addresses. Ranges of container ports are already single entries.
    """

    target: int
    published: str = ""
    host_ip: str = ""
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str = ""
    app_protocol: str = ""
    extensions: Extensions = EMPTY
