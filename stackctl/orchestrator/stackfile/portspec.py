"""The short form of a port, ``[[IP:]HOST:]CONTAINER[/PROTOCOL]``, ranges included."""

import ipaddress
import re

from stackctl.errors import InvalidInputError
from stackctl.values import JsonObject

_PORT = re.compile(r"[0-9]{1,19}", re.ASCII)
_HINT = 'write it as "8080:80", "127.0.0.1:8080:80" or "8000-8009:8000-8009/udp"'
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})


def parse_ports(text: str) -> list[JsonObject]:
    """Return one long-form entry per container port, in the order Compose gives them; raises InvalidInputError."""
    # As in Compose: what follows a second slash is ignored, and nothing after the slash is TCP.
    spec, *rest = text.split("/")
    protocol = rest[0] if rest and rest[0] else "tcp"
    if protocol.lower() not in _PROTOCOLS:
        raise _invalid(text, f"{protocol!r} is not a protocol: tcp, udp or sctp")
    host_ip, host, container = _split(spec)
    if not container:
        raise _invalid(text, "no container port")
    first, last = _range(container, text, "container port")
    entries: list[JsonObject] = []
    host_first = host_last = 0
    if host:
        host_first, host_last = _range(host, text, "host port")
    single = first == last
    if host and host_last - host_first != last - first and not single:
        raise _invalid(text, f"the ranges {container} and {host} differ in length")
    for offset in range(last - first + 1):
        entry: JsonObject = {"mode": "ingress"}
        if host_ip:
            entry["host_ip"] = host_ip
        entry["target"] = first + offset
        if host and single and host_first != host_last:
            entry["published"] = f"{host_first}-{host_last}"
        elif host:
            entry["published"] = str(host_first + offset)
        entry["protocol"] = protocol.lower()
        entries.append(entry)
    # Compose orders by the text of port and protocol.
    entries.sort(key=lambda entry: f"{entry['target']}/{protocol}")
    return entries


def _split(spec: str) -> tuple[str, str, str]:
    """Split into address, host port and container port; an IPv6 address has brackets or many colons."""
    parts = spec.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3:
        return _address(parts[0], spec), parts[1], parts[2]
    return _address(":".join(parts[:-2]), spec), parts[-2], parts[-1]


def _address(text: str, spec: str) -> str:
    if not text:
        return ""
    bracketed = text.startswith("[") and text.endswith("]")
    bare = text[1:-1] if bracketed else text
    if not is_address(bare):
        raise _invalid(spec, f"{text!r} is not an IP address")
    if ":" in bare and not bracketed:
        raise _invalid(spec, f"the IPv6 address needs brackets: [{bare}]")
    return bare


def is_address(text: str) -> bool:
    """Say whether the text is an IPv4 or IPv6 address, without zone."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _range(text: str, spec: str, what: str) -> tuple[int, int]:
    first, *rest = text.split("-")
    dash, last = bool(rest), rest[0] if rest else ""
    low = _number(first, spec, what)
    high = _number(last, spec, what) if dash else low
    if high < low:
        raise _invalid(spec, f"the {what} range {text} runs backwards")
    return low, high


def _number(text: str, spec: str, what: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535 or (int(text) == 0 and what != "host port"):
        raise _invalid(spec, f"{text!r} is not a {what}")
    return int(text)


def _invalid(spec: str, reason: str) -> InvalidInputError:
    return InvalidInputError(f"invalid port {spec!r}: {reason}", hint=_HINT)
