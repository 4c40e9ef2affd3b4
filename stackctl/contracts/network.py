"""NetworkDriver and Keeper: connecting containers, publishing ports, answering names."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from stackctl.contracts.container import Endpoint, PortBinding, PublishedPort
from stackctl.contracts.state import NetworkRecord
from stackctl.frozen import frozen


@frozen
class NetworkState:
    """What should exist in the kernel for one running container; the unit of restore after a daemon's death."""

    container_id: str
    endpoints: tuple[Endpoint, ...]
    ports: tuple[PublishedPort, ...]


@frozen
class Zone:
    """What one container may resolve: its networks, in order, and names only it knows (links).

    ``upstream`` are the servers queries go on to (from the host's namespace); empty means none (internal networks).
    """

    container_id: str
    networks: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    upstream: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class NetworkDriver(Protocol):
    """Bridges, namespaces, addresses and the packet filter. Every call may be repeated."""

    async def start(self) -> None:
        """Set up what all networks share (the nft table, forwarding, rules beside other engines)."""

    async def stop(self) -> None:
        """Remove what all networks share; called when no network is left."""

    async def create_network(self, network: NetworkRecord) -> None:
        """Make its bridge, gateway addresses and filter elements. Raises HostError when the kernel refuses."""

    async def remove_network(self, network: NetworkRecord) -> None:
        """Remove them."""

    async def networks(self) -> Sequence[str]:
        """Return the bridge interface names of ours that exist (for recovery)."""

    async def host_subnets(self) -> Sequence[str]:
        """Return the subnets that the host routes already (IPv4 and IPv6 CIDRs), so that new ones avoid them."""

    async def create_sandbox(
        self, container_id: str, sysctls: Mapping[str, str] | None = None
    ) -> Path:
        """Make a network namespace, loopback up, and return its path."""

    async def remove_sandbox(self, container_id: str) -> None:
        """Remove the namespace, and the links in it at once or in a moment."""

    async def finish(self) -> None:
        """Return when the links of all removed namespaces are gone."""

    async def sandboxes(self) -> Sequence[str]:
        """Return the container IDs that have one."""

    def sandbox_path(self, container_id: str) -> Path:
        """Return where the namespace is (whether or not it exists)."""

    async def connect(
        self, container_id: str, network: NetworkRecord, endpoint: Endpoint, *, default_route: bool
    ) -> str:
        """Join the sandbox to the network and return the interface's name inside (eth0, eth1, …)."""

    async def disconnect(
        self, container_id: str, network: NetworkRecord, endpoint: Endpoint
    ) -> None:
        """Take it out."""

    async def set_default_route(self, container_id: str, endpoint: Endpoint) -> None:
        """Make the endpoint's gateway the way out."""

    async def publish(
        self, container_id: str, endpoint: Endpoint, ports: Sequence[PortBinding]
    ) -> Sequence[PublishedPort]:
        """Reserve host ports and forward them to the endpoint; all or nothing.

        An empty host address gives one entry for 0.0.0.0 and one for :: with the same port. Raises PortTakenError
        "… address already in use", with the container of ours that holds it or naming the process that does.
        """

    async def hand_over(
        self, donor_id: str, container_id: str, endpoint: Endpoint, ports: Sequence[PortBinding]
    ) -> Sequence[PublishedPort]:
        """Publish as ``publish`` does, taking from another container what it has of these host ports.

        There is no moment in which a packet to such a port is refused, and connections that are open go on to the
        donor. When it raises, the donor has its ports as before.
        """

    async def unpublish(self, container_id: str) -> None:
        """Give all its ports back and forget its flows."""

    async def restore(
        self, networks: Sequence[NetworkRecord], containers: Sequence[NetworkState]
    ) -> None:
        """Make the shared table and the keeper hold exactly these after a restart; removes what is not named."""


class Keeper(Protocol):
    """The process that outlives the daemon: it answers names and reserves ports. Every call may be repeated."""

    async def start(self) -> bool:
        """Connect to the keeper, starting it when absent; True when a fresh one was started (it knows nothing)."""

    async def serve(self, zone: Zone, netns: Path) -> None:
        """Answer 127.0.0.11:53 inside the namespace for that container; replaces a former zone."""

    async def unserve(self, container_id: str) -> None:
        """Stop answering there."""

    async def add_names(
        self, network_id: str, container_id: str, addresses: Sequence[str], names: Sequence[str]
    ) -> None:
        """In that network the names mean these addresses (of this container); replaces its former names there."""

    async def remove_names(self, network_id: str, container_id: str) -> None:
        """Forget the container's names in that network."""

    async def reset(self, keep: Sequence[str]) -> None:
        """Forget every container but these (recovery)."""

    async def stop(self) -> None:
        """End the keeper; called when the daemon ends and no container runs."""
