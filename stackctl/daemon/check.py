"""stackctld check: what this machine has and lacks, with the command that mends each."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from stackctl.daemon import hostfacts
from stackctl.daemon.settings import Settings
from stackctl.frozen import frozen
from stackctl.host.process import run_sync

_GIB = 1 << 30
_SECCOMP = Path("/usr/share/containers/seccomp.json")
_LIBRARIES = (
    "usr/lib/*/libnftables.so.1",
    "usr/lib*/libnftables.so.1",
    "usr/local/lib/libnftables.so.1",
)
_OTHER_ENGINES = (
    ("Docker", Path("/run/docker.sock")),
    ("Docker", Path("/var/run/docker.sock")),
    ("Podman", Path("/run/podman/podman.sock")),
    ("containerd", Path("/run/containerd/containerd.sock")),
)


@frozen
class Finding:
    """One line: ``state`` is "ok", "missing" (something required lacks) or "note"; ``mend`` a command, "" for none."""

    name: str
    state: str
    detail: str = ""
    mend: str = ""


def run_check(settings: Settings, *, form: str) -> int:
    """Print every finding; return 1 when something required lacks."""
    found = list(findings(settings))
    if form == "json":
        body = [
            {"name": item.name, "state": item.state, "detail": item.detail, "mend": item.mend}
            for item in found
        ]
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
    else:
        width = max(len(item.name) for item in found)
        for item in found:
            mend = f"   mend: {item.mend}" if item.mend else ""
            sys.stdout.write(f"{item.state:8} {item.name:{width}}  {item.detail}{mend}\n")
    return 1 if any(item.state == "missing" for item in found) else 0


def findings(settings: Settings) -> Iterable[Finding]:
    yield _root()
    yield _kernel()
    yield _cgroups()
    yield from _programs()
    yield _libnftables()
    yield _seccomp()
    yield _init()
    yield from _kernel_features()
    yield _forwarding()
    yield _capabilities()
    yield _space(settings)
    yield from _other_engines(settings)


def _verdict(
    name: str, *, good: bool, detail: str, mend: str = "", required: bool = True
) -> Finding:
    if good:
        return Finding(name=name, state="ok", detail=detail)
    return Finding(name=name, state="missing" if required else "note", detail=detail, mend=mend)


def _root() -> Finding:
    uid = os.geteuid()
    return _verdict(
        "root", good=uid == 0, detail=f"running as user {uid}", mend="sudo stackctl engine check"
    )


def _kernel() -> Finding:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    return _verdict(
        "kernel", good=numbers >= (5, 6), detail=f"Linux {release}", mend="use Linux 5.6 or newer"
    )


def _cgroups() -> Finding:
    mounts = hostfacts.read_text("/proc/self/mountinfo")
    unified = hostfacts.cgroup_version() == "2"
    legacy = " - cgroup " in mounts
    mode = "v2" if unified else "v1, hybrid" if " - cgroup2 " in mounts else "v1"
    return _verdict(
        "cgroups",
        good=unified or legacy,
        detail=mode if unified or legacy else "no controller is mounted",
        mend="mount -t cgroup2 none /sys/fs/cgroup",
    )


def _programs() -> Iterable[Finding]:
    for name, package, required in (
        ("runc", "runc", True),
        ("conmon", "conmon", True),
        ("nft", "nftables", True),
        ("git", "git", False),
    ):
        path = shutil.which(name)
        detail = f"{path}, {_version(path)}" if path else "not found on PATH"
        yield _verdict(
            name,
            good=path is not None,
            detail=detail,
            mend=f"apt-get install {package}",
            required=required,
        )


def _version(path: str) -> str:
    done = run_sync([path, "--version"], timeout=5.0, check=False)
    return done.stdout.decode(errors="replace").split("\n", 1)[0].strip() or "version unknown"


def _libnftables() -> Finding:
    library = next((str(file) for place in _LIBRARIES for file in Path("/").glob(place)), None)
    return _verdict(
        "libnftables",
        good=library is not None,
        detail=library or "not found; the slower nft program is used",
        mend="apt-get install libnftables1",
        required=False,
    )


def _seccomp() -> Finding:
    return _verdict(
        "seccomp profile",
        good=_SECCOMP.exists(),
        detail=str(_SECCOMP) if _SECCOMP.exists() else f"{_SECCOMP} is not there",
        mend="apt-get install golang-github-containers-common",
        required=False,
    )


def _init() -> Finding:
    path = hostfacts.find_init()
    return _verdict(
        "init for containers",
        good=bool(path),
        detail=path or "none; docker run --init cannot work",
        mend="apt-get install tini",
        required=False,
    )


def _kernel_features() -> Iterable[Finding]:
    filesystems = hostfacts.read_text("/proc/filesystems").split()
    # The kernel loads the module itself at the first mount.
    overlay = "overlay" in filesystems or _has_module("overlay")
    yield _feature("overlay", overlay, "the overlay file system")
    for module, what in (
        ("bridge", "network bridges"),
        ("veth", "virtual Ethernet pairs"),
        ("nf_tables", "the nftables packet filter"),
        ("nf_nat", "address translation"),
        ("nf_conntrack", "connection tracking"),
    ):
        yield _feature(module, _has_module(module), what)
    for name, path in (
        ("seccomp", "/proc/sys/kernel/seccomp/actions_avail"),
        ("network namespaces", "/proc/self/ns/net"),
        ("user namespaces", "/proc/self/ns/user"),
        ("IPv6", "/proc/net/if_inet6"),
    ):
        required = name != "IPv6" and name != "user namespaces"
        yield _verdict(
            name,
            good=Path(path).exists(),
            detail="offered by the kernel" if Path(path).exists() else "not offered by the kernel",
            mend="use a kernel that has it",
            required=required,
        )


def _feature(module: str, present: bool, what: str) -> Finding:
    return _verdict(
        module,
        good=present,
        detail=what if present else f"{what}: not in the kernel and no module is loaded",
        mend=f"modprobe {module}",
    )


def _has_module(name: str) -> bool:
    """Tell whether a feature is loaded, built in or can be loaded."""
    if Path("/sys/module", name).exists():
        return True
    directory = Path("/lib/modules") / os.uname().release
    lists = (directory / "modules.builtin", directory / "modules.dep")
    if any(f"/{name}.ko" in hostfacts.read_text(file) for file in lists):
        return True
    return _PROBES.get(name, lambda: False)()


def _probe_nftables() -> bool:
    path = shutil.which("nft")
    return (
        path is not None and run_sync([path, "list", "tables"], timeout=5.0, check=False).code == 0
    )


def _probe_symbols(*names: str) -> Callable[[], bool]:
    """Return a probe that looks for kernel symbols: what is built in without a module's name has those."""

    def probe() -> bool:
        wanted = {name.encode() for name in names}
        try:
            with Path("/proc/kallsyms").open("rb") as file:
                return any(line.split()[2] in wanted for line in file)
        except (OSError, IndexError):
            return False

    return probe


_PROBES: dict[str, Callable[[], bool]] = {
    "bridge": _probe_symbols("br_add_bridge", "br_dev_setup"),
    "veth": _probe_symbols("veth_newlink", "veth_setup"),
    "nf_nat": _probe_symbols("nf_nat_setup_info"),
    "nf_conntrack": lambda: Path("/proc/sys/net/netfilter/nf_conntrack_max").exists(),
    "nf_tables": _probe_nftables,
}


def _forwarding() -> Finding:
    on = hostfacts.read_text("/proc/sys/net/ipv4/ip_forward").strip() == "1"
    return _verdict(
        "IP forwarding",
        good=on,
        detail="on" if on else "off; the engine turns it on when the first network is made",
        mend="sysctl -w net.ipv4.ip_forward=1",
        required=False,
    )


def _capabilities() -> Finding:
    have = hostfacts.bounding_set(hostfacts.read_text("/proc/self/status"))
    lacking = [f"CAP_{name}" for name in hostfacts.CAPABILITIES if f"CAP_{name}" not in have]
    needed = {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_CHROOT", "CAP_MKNOD"}
    return _verdict(
        "capabilities",
        good=needed <= have,
        detail=f"all but {', '.join(lacking)}" if lacking else "all",
        mend="run the engine outside the container that restricts it",
    )


def _space(settings: Settings) -> Finding:
    place = settings.paths.data_root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    return _verdict(
        "disk space",
        good=free > _GIB,
        detail=f"{free / _GIB:.1f} GiB free under {settings.paths.data_root}",
        mend="docker system prune, or another --data-root",
        required=False,
    )


def _other_engines(settings: Settings) -> Iterable[Finding]:
    seen: set[str] = set()
    for name, path in (*_OTHER_ENGINES, ("stackctl", settings.paths.socket)):
        real = os.path.realpath(path)
        if real in seen or not _answers(real):
            continue
        seen.add(real)
        detail = "this engine is running" if name == "stackctl" else f"{name} is running beside"
        yield Finding(name=f"engine at {path}", state="ok", detail=detail)


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(path)
    except OSError:
        return False
    finally:
        probe.close()
    return True
