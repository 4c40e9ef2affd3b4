"""What names mean: by network, container and zone; pure."""

Members = dict[str, tuple[list[str], list[str]]]


class Zone:
    """What one container may resolve; the wire's form of contracts.network.Zone."""

    __slots__ = ("container_id", "links", "networks", "search", "upstream")

    def __init__(
        self,
        container_id: str,
        networks: list[str],
        links: dict[str, str],
        upstream: list[str],
        search: list[str],
    ) -> None:
        self.container_id = container_id
        self.networks = networks
        self.links = {name.lower(): target for name, target in links.items()}
        self.upstream = upstream
        self.search = [domain.lower().strip(".") for domain in search]


class Names:
    """Addresses by network and name. Several containers under one name are answered in turn."""

    def __init__(self) -> None:
        self.networks: dict[str, Members] = {}
        self._index: dict[str, dict[str, list[str]]] = {}
        self._turn = 0

    def add(self, network: str, container: str, addresses: list[str], names: list[str]) -> None:
        """Replace what the container is called in the network."""
        self.networks.setdefault(network, {})[container] = (
            addresses, [name.lower().rstrip(".") for name in names],
        )  # fmt: skip
        self._reindex(network)

    def remove(self, network: str, container: str) -> None:
        members = self.networks.get(network)
        if members and members.pop(container, None):
            if not members:
                del self.networks[network]
            self._reindex(network)

    def keep(self, containers: set[str]) -> None:
        """Forget every container but these."""
        for network in list(self.networks):
            for container in [c for c in self.networks[network] if c not in containers]:
                self.remove(network, container)

    def lookup(self, zone: Zone, name: str) -> list[str] | None:
        """Return the addresses a name means to a zone, None when it means nothing there.

        Links come first, then the zone's networks in order: the first that knows the name answers.
        """
        found = self._lookup(zone, name)
        if found is not None:
            return found
        for domain in zone.search:
            if domain and name.endswith(f".{domain}"):
                return self._lookup(zone, name.removesuffix(f".{domain}"))
        return None

    def reverse(self, zone: Zone, address: str) -> str:
        """Return the first name of the container with that address in the zone's networks, "" for none."""
        for network in zone.networks:
            for addresses, names in self.networks.get(network, {}).values():
                if address in addresses and names:
                    return names[0]
        return ""

    def _lookup(self, zone: Zone, name: str) -> list[str] | None:
        target = zone.links.get(name)
        if target is not None:
            if ":" in target or target.replace(".", "").isdigit():
                return [target]
            name = target.lower()
        for network in zone.networks:
            addresses = self._index.get(network, {}).get(name)
            if addresses:
                self._turn += 1
                start = self._turn % len(addresses)
                return addresses[start:] + addresses[:start]
        return None

    def _reindex(self, network: str) -> None:
        index: dict[str, list[str]] = {}
        for addresses, names in self.networks.get(network, {}).values():
            for name in dict.fromkeys(names):
                index.setdefault(name, []).extend(addresses)
        if index:
            self._index[network] = index
        else:
            self._index.pop(network, None)
