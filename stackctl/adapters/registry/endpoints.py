"""Where a registry is: its host, the schemes to try, its certificates (Docker's certs.d directory)."""

import contextlib
import ipaddress
import ssl
import urllib.request
from collections.abc import Collection
from pathlib import Path

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.oci.reference import DEFAULT_REGISTRY

_HUB = "registry-1.docker.io"


@frozen
class Endpoint:
    """One way to a registry. ``verify`` is False for an insecure one's TLS; ``base`` ends without "/"."""

    base: str
    verify: bool = True


def endpoints(registry: str, insecure: Collection[str]) -> list[Endpoint]:
    """Return the ways to a registry, the best first: TLS; for an insecure one TLS unverified, then plain HTTP."""
    host = _HUB if registry == DEFAULT_REGISTRY else registry
    if not is_insecure(registry, insecure):
        return [Endpoint(base=f"https://{host}")]
    return [Endpoint(base=f"https://{host}", verify=False), Endpoint(base=f"http://{host}")]


def is_insecure(registry: str, insecure: Collection[str]) -> bool:
    """Tell whether plain HTTP will do: loopback, and what was configured (names, name:port, CIDR)."""
    host = registry.rpartition(":")[0] if _has_port(registry) else registry
    if registry in insecure or host in insecure or host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if address.is_loopback:
        return True
    for item in insecure:
        try:
            if address in ipaddress.ip_network(item, strict=False):
                return True
        except ValueError:
            continue
    return False


def tls_context(registry: str, homes: Collection[Path], *, verify: bool) -> ssl.SSLContext:
    """Return the TLS settings of a registry: *.crt to trust, *.cert with *.key to show, in its certs.d directories.

    Raises InvalidInputError naming a file that is no certificate or a certificate that has no key.
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for home in homes:
        for authority in sorted(home.glob("*.crt")):
            try:
                context.load_verify_locations(authority)
            except (OSError, ssl.SSLError) as error:
                raise InvalidInputError(
                    f"{authority} is no certificate that {registry} could be trusted by: {error}"
                ) from error
        for certificate in sorted(home.glob("*.cert")):
            key = certificate.with_suffix(".key")
            try:
                context.load_cert_chain(certificate, key)
            except (OSError, ssl.SSLError) as error:
                raise InvalidInputError(
                    f"cannot show {certificate} with {key} to {registry}: {error}"
                ) from error
    return context


def certs_homes(registry: str, directories: Collection[Path]) -> tuple[tuple[Path, int], ...]:
    """Return the registry's directories that exist, each with its time of change, so that a new file is noticed."""
    found = []
    for directory in directories:
        home = directory / registry
        with contextlib.suppress(OSError):
            found.append((home, home.stat().st_mtime_ns))
    return tuple(found)


def proxy_for(url_scheme: str, host: str) -> str | None:
    """Return the proxy that the environment names for a host (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)."""
    proxies = urllib.request.getproxies_environment()
    if url_scheme not in proxies or urllib.request.proxy_bypass(host) or _is_loopback(host):
        return None
    return proxies[url_scheme]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _has_port(registry: str) -> bool:
    return ":" in registry.rpartition("]")[2]
