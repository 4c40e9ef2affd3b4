"""The packet filter: one nft table of sets and maps, so that a container adds elements, not rules.

The texts are made by pure functions; ``Firewall`` runs them. Family inet, so one table serves IPv4 and IPv6.
Verdicts touch packets of our own bridges only, never what else the host forwards.
"""

import ipaddress
import threading
from collections.abc import Iterable, Sequence

from stackctl.contracts.container import PublishedPort
from stackctl.contracts.state import NetworkRecord
from stackctl.errors import HostError
from stackctl.frozen import frozen
from stackctl.host.nftables import Nftables

_ICC = "com.docker.network.bridge.enable_icc"
_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
# The order of the priorities: raw (-300) sees packets before connection tracking (-200) and NAT (-100).
_TABLE = """
table inet {table} {{
  set bridges {{ type ifname; }}
  set internal {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  set guarded4 {{ type ipv4_addr; flags interval; }}
  set guarded6 {{ type ipv6_addr; flags interval; }}
  set hidden4 {{ type ipv4_addr; flags interval; }}
  set hidden6 {{ type ipv6_addr; flags interval; }}
  set routed4 {{ type ifname; }}
  set routed6 {{ type ifname; }}
  set unprotected4 {{ type ifname; }}
  set unprotected6 {{ type ifname; }}
  set open4 {{ type ipv4_addr . inet_proto . inet_service; }}
  set open6 {{ type ipv6_addr . inet_proto . inet_service; }}
  set hairpin4 {{ type ifname . ipv4_addr; flags interval; }}
  set hairpin6 {{ type ifname . ipv6_addr; flags interval; }}
  map pub4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map pub6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
  map pub4at {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map pub6at {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
  chain raw_prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname "lo" accept
    ip daddr 127.0.0.0/8 drop
    ip saddr 127.0.0.0/8 drop
    ip6 daddr ::1 drop
    iifname != @bridges ip daddr @guarded4 drop
    iifname != @bridges ip6 daddr @guarded6 drop
  }}
  chain to_container {{
    dnat ip to ip daddr . meta l4proto . th dport map @pub4at
    dnat ip to meta l4proto . th dport map @pub4
    ip6 daddr ::1 return
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @pub6at
    dnat ip6 to meta l4proto . th dport map @pub6
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump to_container
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    meta l4proto {{ tcp, udp, sctp }} fib daddr type local jump to_container
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    oifname @bridges ct status dnat jump as_host
    oifname != @bridges ip saddr @hidden4 masquerade
    oifname != @bridges ip6 saddr @hidden6 masquerade
  }}
  chain as_host {{
    ip saddr 127.0.0.0/8 masquerade
    oifname . ip saddr @hairpin4 masquerade
    oifname . ip6 saddr @hairpin6 masquerade
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    oifname @bridges jump to_bridge
    iifname @bridges jump from_bridge
  }}
  chain to_bridge {{
    iifname . oifname @same accept
    iifname @internal drop
    oifname @internal drop
    ct state vmap {{ established : accept, related : accept, invalid : drop }}
    ct status dnat accept
    meta l4proto {{ tcp, udp, sctp }} ip daddr . meta l4proto . th dport @open4 accept
    meta l4proto {{ tcp, udp, sctp }} ip6 daddr . meta l4proto . th dport @open6 accept
    oifname @routed4 meta l4proto icmp accept
    oifname @routed6 meta l4proto ipv6-icmp accept
    iifname != @bridges oifname @unprotected4 meta nfproto ipv4 accept
    iifname != @bridges oifname @unprotected6 meta nfproto ipv6 accept
    drop
  }}
  chain from_bridge {{
    iifname @internal drop
  }}
}}
"""


@frozen
class Publication:
    """One published port and where it leads; either address may be "" (then the keeper's proxy serves it)."""

    port: PublishedPort
    ipv4_address: str = ""
    ipv6_address: str = ""


def network_elements(network: NetworkRecord) -> dict[str, list[str]]:
    """Return the elements a network stands for, by set name."""
    name = f'"{network.bridge}"'
    elements = {"bridges": [name]}
    if network.options.get(_ICC, "true") != "false":
        elements["same"] = [f"{name} . {name}"]
    if network.internal:
        elements["internal"] = [name]
    is_hidden = network.options.get(_MASQUERADE, "true") != "false"
    for subnet in network.subnets:
        family = "6" if ":" in subnet.subnet else "4"
        mode = network.gateway_mode(ipv6=family == "6")
        cidr = str(ipaddress.ip_network(subnet.subnet, strict=False))
        elements.setdefault(f"hairpin{family}", []).append(f"{name} . {cidr}")
        if mode in ("routed", "nat-unprotected"):
            elements[f"{mode.removeprefix('nat-')}{family}"] = [name]
        if is_hidden and mode != "routed":
            elements.setdefault(f"hidden{family}", []).append(cidr)
            if mode != "nat-unprotected":
                elements.setdefault(f"guarded{family}", []).append(cidr)
    return elements


def publication_elements(publications: Iterable[Publication]) -> dict[str, list[str]]:
    """Return the map elements of published ports, by map name. ::1 has none: it cannot be translated."""
    elements: dict[str, list[str]] = {}
    for publication in publications:
        port = publication.port
        at = ipaddress.ip_address(port.host_ip)
        target = publication.ipv6_address if at.version == 6 else publication.ipv4_address
        if not port.host_port:
            # Of a network that is routed: reached at the container's own address.
            elements.setdefault(f"open{at.version}", []).append(
                f"{target} . {port.protocol} . {port.container_port}"
            )
            continue
        if not target or (at.version == 6 and at.is_loopback):
            continue
        key = f"{port.protocol} . {port.host_port}"
        name = f"pub{at.version}"
        if not at.is_unspecified:
            key, name = f"{at} . {key}", f"{name}at"
        elements.setdefault(name, []).append(f"{key} : {target} . {port.container_port}")
    return elements


def element_commands(verb: str, table: str, elements: dict[str, list[str]]) -> str:
    """Return one command a set: ``verb`` is add or delete (of maps, deleting names keys and values alike)."""
    return "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(members)} }}\n"
        for name, members in sorted(elements.items())
    )


def table_text(
    table: str, networks: Sequence[NetworkRecord], publications: Sequence[Publication]
) -> str:
    """Return the transaction after which the table holds exactly these."""
    text = f"add table inet {table}\ndelete table inet {table}\n" + _TABLE.format(table=table)
    for network in networks:
        text += element_commands("add", table, network_elements(network))
    return text + element_commands("add", table, publication_elements(publications))


class Firewall:
    """One engine's table, and its rules in the chains of others that would drop our packets."""

    def __init__(self, table: str, bridge_prefix: str) -> None:
        self._table = table
        self._wildcard = f"{bridge_prefix}*"
        self._nft: Nftables | None = None
        self._lock = threading.Lock()

    def replace(
        self, networks: Sequence[NetworkRecord], publications: Sequence[Publication]
    ) -> None:
        """Make the table hold exactly these, in one step that no packet falls through."""
        self._run(table_text(self._table, networks, publications))

    def exists(self) -> bool:
        try:
            # The youngest of its sets: a table that lacks it is one of a version before.
            self._run(f"list set inet {self._table} open6\n")
        except HostError:
            return False
        return True

    def remove(self) -> None:
        """Remove the table and the rules beside it; gone already is success."""
        self._run(f"add table inet {self._table}\ndelete table inet {self._table}\n")
        for family, table, chain, rules in self._foreign_chains():
            self._run_foreign(_deletions(family, table, chain, rules))

    def add(self, elements: dict[str, list[str]]) -> None:
        """Add the elements; those there already are success."""
        if elements:
            self._run(element_commands("add", self._table, elements))

    def delete(self, elements: dict[str, list[str]]) -> None:
        """Delete the elements; those gone already are success."""
        if elements:
            # What is added first can always be deleted, whatever was there before: one transaction.
            self._run(
                element_commands("add", self._table, elements)
                + element_commands("delete", self._table, elements)
            )

    def exchange(self, before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
        """Put elements in the place of others, in one step that no packet falls through."""
        self._run(
            element_commands("add", self._table, before)
            + element_commands("delete", self._table, before)
            + element_commands("add", self._table, after)
        )

    def accept_beside_others(self) -> None:
        """Accept our bridges in foreign forward chains whose policy drops, and in DOCKER-USER.

        An accept in our own table cannot overrule the drop of another one (dockerd's, a firewall's).
        """
        for family, table, chain, rules in self._foreign_chains():
            if rules:
                continue
            accept = f'accept comment "{self._table}"'
            self._run_foreign(
                f'insert rule {family} {table} {chain} oifname "{self._wildcard}" {accept}\n'
                f'insert rule {family} {table} {chain} iifname "{self._wildcard}" {accept}\n'
            )

    def _run(self, commands: str) -> str:
        return self._filter().run(commands)

    def _filter(self) -> Nftables:
        with self._lock:
            if self._nft is None:
                self._nft = Nftables()
            return self._nft

    def _run_foreign(self, commands: str) -> None:
        try:
            self._run(commands)
        except HostError as error:
            # Another program changes its chains as it likes; the next network looks again.
            if "No such file" not in error.message:
                raise

    def _foreign_chains(self) -> list[tuple[str, str, str, list[int]]]:
        """Return (family, table, chain, handles of our rules in it) of each foreign chain we must be in."""
        nft = self._filter()
        found = []
        for entry in nft.objects("list chains"):
            match entry:
                case {
                    "chain": {"family": str(family), "table": str(table), "name": str(name), **rest}
                }:
                    drops = rest.get("hook") == "forward" and rest.get("policy") == "drop"
                    is_ours = table.startswith("stackctl") or family not in ("ip", "ip6", "inet")
                    if not is_ours and (drops or name == "DOCKER-USER"):
                        handles = self._own_rules(nft, f"{family} {table} {name}")
                        found.append((family, table, name, handles))
        return found

    def _own_rules(self, nft: Nftables, chain: str) -> list[int]:
        handles = []
        for entry in nft.objects(f"list chain {chain}"):
            match entry:
                case {"rule": {"comment": self._table, "handle": int(number)}}:
                    handles.append(number)
        return handles


def _deletions(family: str, table: str, chain: str, handles: Sequence[int]) -> str:
    return "".join(f"delete rule {family} {table} {chain} handle {n}\n" for n in handles)
