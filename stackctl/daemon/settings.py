"""Settings of one daemon: paths, flags and the optional settings file."""

import ipaddress
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from urllib.parse import urlsplit

from stackctl.api.codec import Reader
from stackctl.contracts.registry import TransferLimits
from stackctl.contracts.storage import TarLimits
from stackctl.engine.world import AddressPool
from stackctl.errors import HostError, InvalidInputError
from stackctl.frozen import frozen
from stackctl.paths import SETTINGS_FILE, EnginePaths, engine_paths, with_settings

_PROXIES = {
    "http-proxy": "HTTP_PROXY",
    "https-proxy": "HTTPS_PROXY",
    "no-proxy": "NO_PROXY",
}
_LONGEST_PREFIX = 29
_GROUP = "stackctl"
CERTS_DIRECTORIES = (Path("/etc/stackctl/certs.d"), Path("/etc/docker/certs.d"))


@frozen
class TlsFiles:
    """The authority that clients' certificates must come from, our certificate and its key (PEM files)."""

    ca: Path
    cert: Path
    key: Path


@frozen
class Settings:
    """What a daemon was started with.

    ``address_pools`` are what networks are cut from, ``bridge_address`` the predefined bridge's address with its prefix
    length, ``pidfile`` a file that holds the daemon's number while it runs; all may be empty.
    """

    paths: EnginePaths
    debug: bool = False
    group: str = _GROUP
    insecure_registries: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_directories: tuple[Path, ...] = CERTS_DIRECTORIES
    address_pools: tuple[AddressPool, ...] = ()
    bridge_address: str = ""
    pidfile: str = ""
    default_runtime: str = "runc"
    runtimes: Mapping[str, str] | None = None
    labels: tuple[str, ...] = ()
    tcp_hosts: tuple[str, ...] = ()
    tls: TlsFiles | None = None
    insecure_tcp: bool = False
    experimental: bool = False
    tar_limits: TarLimits = field(default_factory=TarLimits)
    transfers: TransferLimits = TransferLimits()
    proxies: Mapping[str, str] = field(default_factory=dict)

    @property
    def runtime_paths(self) -> Mapping[str, str]:
        """The runtimes by name."""
        return {"runc": "runc", **(self.runtimes or {})}


def load_settings(
    environ: Mapping[str, str],
    *,
    uid: int,
    socket: str = "",
    data_root: str = "",
    run_root: str = "",
    config_file: str = "",
    debug: bool = False,
    mirrors: Sequence[str] = (),
    insecure_registries: Sequence[str] = (),
    hosts: Sequence[str] = (),
    tls: TlsFiles | None = None,
    insecure_tcp: bool = False,
    experimental: bool = False,
    bridge_address: str = "",
    address_pools: Sequence[str] = (),
    labels: Sequence[str] = (),
    group: str = "",
    runtimes: Sequence[str] = (),
    default_runtime: str = "",
    pidfile: str = "",
    max_downloads: str = "",
    max_uploads: str = "",
) -> Settings:
    """Return the settings; flags win over the environment, which wins over the settings file.

    The file is JSON with the keys of dockerd's daemon.json that apply: insecure-registries, registry-mirrors,
    default-address-pools, bip, default-runtime, runtimes, labels, group, pidfile, hosts, tlsverify and its files, proxies,
    max-concurrent-downloads, max-concurrent-uploads; and "certs-directories", searched before /etc/stackctl/certs.d and /etc/docker/certs.d; "max-layer-size" and
    "max-layer-entries", what a layer or archive may unfold to. Raises InvalidInputError naming the key, HostError
    for a file that cannot be read.
    """
    named = {
        "STACKCTL_SOCKET": socket,
        "STACKCTL_DATA_ROOT": data_root,
        "STACKCTL_RUN_ROOT": run_root,
        "STACKCTL_ENGINE_CONFIG": config_file,
    }
    given = {**environ, **{key: value for key, value in named.items() if value}}
    paths = engine_paths(with_settings(given, uid=uid), uid=uid)
    text = config_file or environ.get("STACKCTL_ENGINE_CONFIG", "")
    file = Path(text) if text else SETTINGS_FILE
    settings = Settings(
        paths=paths,
        debug=debug,
        mirrors=tuple(_mirror(item) for item in mirrors),
        insecure_registries=tuple(insecure_registries),
        tcp_hosts=tuple(host for host in hosts if host.startswith("tcp://")),
        tls=tls,
        insecure_tcp=insecure_tcp,
        experimental=experimental,
        proxies={
            name: environ.get(name) or environ.get(name.lower(), "")
            for name in _PROXIES.values()
            if environ.get(name) or environ.get(name.lower())
        },
        bridge_address=_bridge_address(bridge_address, "--bip"),
        address_pools=tuple(_pool_of(text) for text in address_pools),
        labels=tuple(labels),
        group=group,
        runtimes=dict(_runtime(text) for text in runtimes),
        default_runtime=default_runtime,
        pidfile=pidfile,
    )
    settings = _read_file(settings, file, required=bool(text))
    for name, value in (("downloads", max_downloads), ("uploads", max_uploads)):
        if value:
            limit = _transfers(name, value)
            settings = replace(settings, transfers=replace(settings.transfers, **{name: limit}))
    for host in (*hosts, *settings.tcp_hosts):
        if not host.startswith(("tcp://", "unix://")):
            raise InvalidInputError(
                f'invalid --host "{host}"', hint="use unix://PATH or tcp://ADDRESS:PORT"
            )
    if settings.tcp_hosts and settings.tls is None and not settings.insecure_tcp:
        raise InvalidInputError(
            f"{settings.tcp_hosts[0]} without TLS would give root on this machine to whoever reaches it",
            hint="give --tlsverify with --tlscacert, --tlscert and --tlskey, or --insecure-tcp",
        )
    return settings


def _read_file(settings: Settings, file: Path, *, required: bool) -> Settings:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise HostError(f"the settings file {file} does not exist") from None
        data = {}
    except (OSError, UnicodeError) as error:
        raise HostError(f"cannot read the settings file {file}: {error}") from error
    except ValueError as error:
        raise InvalidInputError(f"the settings file {file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInputError(f"the settings file {file} must hold a JSON object")
    reader = Reader(data, str(file))
    pools = tuple(
        _pool(pool.text("base"), pool.integer("size", 24), pool.at)
        for pool in reader.children("default-address-pools")
    )
    runtimes = {
        name: reader.child("runtimes").child(name).text("path")
        for name in reader.child("runtimes").names()
    } | dict(settings.runtimes or {})
    default = settings.default_runtime or reader.text("default-runtime") or "runc"
    if default not in runtimes and default != "runc":
        raise reader.fail("default-runtime", f'"{default}" is not among the runtimes')
    return replace(
        settings,
        debug=settings.debug or reader.boolean("debug"),
        group=settings.group or reader.text("group") or _GROUP,
        bridge_address=settings.bridge_address
        or _bridge_address(reader.text("bip"), reader.path("bip")),
        pidfile=settings.pidfile or reader.text("pidfile"),
        insecure_registries=settings.insecure_registries + reader.texts("insecure-registries"),
        mirrors=settings.mirrors
        + tuple(_mirror(text) for text in reader.texts("registry-mirrors")),
        certs_directories=(
            *(Path(name) for name in reader.texts("certs-directories")),
            *CERTS_DIRECTORIES,
        ),
        address_pools=settings.address_pools or pools,
        default_runtime=default,
        runtimes=runtimes,
        labels=settings.labels + reader.texts("labels"),
        experimental=settings.experimental or reader.boolean("experimental"),
        proxies={**settings.proxies, **_proxies(reader.child("proxies"))},
        tar_limits=TarLimits(
            size=_size(reader, "max-layer-size", TarLimits().size),
            entries=_size(reader, "max-layer-entries", TarLimits().entries),
        ),
        transfers=TransferLimits(
            **{
                name: _transfers(name, str(value))
                for name in ("downloads", "uploads")
                if (value := reader.raw(f"max-concurrent-{name}")) is not None
            }
        ),
        tcp_hosts=settings.tcp_hosts
        + tuple(host for host in reader.texts("hosts") if not host.startswith(("unix:", "fd:"))),
        tls=settings.tls or _tls_files(reader),
    )


def _proxies(reader: Reader) -> dict[str, str]:
    """Return the proxies by the variables that programs know them by."""
    found = {}
    for key, name in _PROXIES.items():
        text = reader.text(key)
        if text and name != "NO_PROXY" and not urlsplit(text).hostname:
            raise reader.fail(key, "expected a URL, such as http://proxy.example:3128")
        if text:
            found[name] = text
    return found


def _size(reader: Reader, name: str, default: int) -> int:
    """Return a positive number, which may be written with a unit of 1024 ("64g")."""
    value = reader.raw(name)
    if value is None:
        return default
    match = re.fullmatch(r"([1-9][0-9]{0,17})([kmgt]?)b?", str(value).lower(), re.ASCII)
    if match is None or isinstance(value, bool):
        raise reader.fail(name, "expected a positive number, such as 1000000 or 64g")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]


def _transfers(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not int(text):
        raise InvalidInputError(
            f'invalid max-concurrent-{name}: "{text[:80]}"', hint="write a number from 1 to 9999"
        )
    return int(text)


def _pool_of(text: str) -> AddressPool:
    """Return a pool as dockerd's flag gives it: "base=10.5.0.0/16,size=24"."""
    fields = dict(item.partition("=")[::2] for item in text.split(","))
    base, size = fields.pop("base", ""), fields.pop("size", "24")
    if fields or not size.isdecimal():
        raise InvalidInputError(
            f'invalid --default-address-pool "{text[:80]}"', hint="write base=10.5.0.0/16,size=24"
        )
    return _pool(base, int(size), "--default-address-pool")


def _pool(base: str, size: int, at: str) -> AddressPool:
    try:
        network = ipaddress.IPv4Network(base)
    except ValueError as error:
        raise InvalidInputError(
            f'invalid {at}: "{base[:80]}" is not an IPv4 subnet', hint="write 10.5.0.0/16"
        ) from error
    if not network.prefixlen <= size <= _LONGEST_PREFIX:
        raise InvalidInputError(
            f"invalid {at}: size {size} must be from {network.prefixlen} to {_LONGEST_PREFIX}"
        )
    return AddressPool(base=str(network), size=size)


def _bridge_address(text: str, at: str) -> str:
    if not text:
        return ""
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError as error:
        raise InvalidInputError(
            f'invalid {at}: "{text[:80]}" is not an IPv4 address with a prefix length',
            hint="write 172.26.0.1/16",
        ) from error
    network = interface.network
    if network.prefixlen > _LONGEST_PREFIX or interface.ip in (network[0], network[-1]):
        raise InvalidInputError(f"invalid {at}: {text} is not the address of a host in its subnet")
    return str(interface)


def _runtime(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InvalidInputError(f'invalid --add-runtime "{text[:80]}"', hint="write NAME=PATH")
    return name, path


def _tls_files(reader: Reader) -> TlsFiles | None:
    if not reader.boolean("tlsverify"):
        return None
    ca, cert, key = (reader.text(name) for name in ("tlscacert", "tlscert", "tlskey"))
    return TlsFiles(ca=Path(ca), cert=Path(cert), key=Path(key))


def _mirror(text: str) -> str:
    """Return a mirror's URL as Docker takes it (scheme, host, path; nothing else)."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidInputError(
            f'invalid mirror "{text}": it must be a URL', hint="for example https://mirror.example"
        )
    if parts.query or parts.fragment or parts.username:
        raise InvalidInputError(f'invalid mirror "{text}": only scheme, host and path may be given')
    return text.rstrip("/")


def current_uid() -> int:
    return os.geteuid()
