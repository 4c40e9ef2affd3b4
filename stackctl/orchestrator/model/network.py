"""Networks, and the endpoint of a service in one."""

from stackctl.frozen import frozen
from stackctl.orchestrator.model.common import EMPTY, Extensions, Strings


@frozen
class IpamPool:
    """One address range of a network."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: Strings = EMPTY
    extensions: Extensions = EMPTY


@frozen
class Ipam:
    """Address management of a network."""

    driver: str = ""
    config: tuple[IpamPool, ...] = ()
    options: Strings = EMPTY
    extensions: Extensions = EMPTY


@frozen
class Network:
    """A top-level network; ``key`` is its name in the file, ``name`` its name on the engine."""

    key: str
    name: str
    driver: str = ""
    driver_opts: Strings = EMPTY
    ipam: Ipam = Ipam()
    external: bool = False
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    labels: Strings = EMPTY
    extensions: Extensions = EMPTY


@frozen
class Endpoint:
    """How a service stands in a network.

    ``aliases`` are those of the file; the service's own name and container name are for the planner to add.
    """

    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    interface_name: str = ""
    driver_opts: Strings = EMPTY
    priority: int = 0
    gw_priority: int = 0
    extensions: Extensions = EMPTY
