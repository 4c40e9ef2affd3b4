"""What a container may do: capabilities, resource limits, sysctls, security options, hidden paths; pure."""

import json
from collections.abc import Mapping, Sequence

from stackctl.contracts.container import Ulimit
from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.values import Json

DEFAULT_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
# In the order of their numbers in the kernel.
ALL_CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ULIMITS = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
))  # fmt: skip
_IPC_SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
    "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
))  # fmt: skip
_UNLIMITED = (1 << 64) - 1
# Accepted and without effect: this engine has no label based access control.
_IGNORED = ("apparmor", "label")


@frozen
class SecurityOptions:
    """HostConfig.SecurityOpt. ``seccomp`` is "", "default", "unconfined" or a profile's JSON text."""

    no_new_privileges: bool = False
    seccomp: str = ""
    system_paths_unconfined: bool = False
    writable_cgroups: bool = False


def parse_security_opt(options: Sequence[str]) -> SecurityOptions:
    """Return the options' meaning; "key=value" and the older "key:value" alike.

    Raises InvalidInputError for one that is not known.
    """
    no_new_privileges = unconfined_paths = writable_cgroups = False
    seccomp = ""
    for option in options:
        split = "=" if "=" in option.partition("{")[0] else ":"
        key, _, value = option.partition(split)
        if key == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif key == "seccomp" and value:
            seccomp = _seccomp(value)
        elif key == "systempaths" and value == "unconfined":
            unconfined_paths = True
        elif key == "writable-cgroups" and value in ("true", "false"):
            writable_cgroups = value == "true"
        elif key not in _IGNORED:
            raise InvalidInputError(
                f'invalid HostConfig.SecurityOpt: invalid --security-opt: "{option[:200]}"',
                hint="it takes no-new-privileges, seccomp=, writable-cgroups= and systempaths=unconfined.",
            )
    return SecurityOptions(
        no_new_privileges=no_new_privileges,
        seccomp=seccomp,
        system_paths_unconfined=unconfined_paths,
        writable_cgroups=writable_cgroups,
    )


def _seccomp(value: str) -> str:
    if value in ("unconfined", "default"):
        return value
    if value == "builtin":
        return "default"
    try:
        profile = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"HostConfig.SecurityOpt: decoding seccomp profile failed: {error}",
            hint="The client sends the profile's text, not its path.",
        ) from error
    if not isinstance(profile, dict):
        raise InvalidInputError("HostConfig.SecurityOpt: the seccomp profile is not an object")
    return value


def pick_capabilities(
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    privileged: bool = False,
    available: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Return the CAP_ names of a container, within what the daemon itself has (``available``; empty: all).

    Raises InvalidInputError for an unknown name, and for one asked for by name that the daemon lacks.
    """
    held = available or frozenset(ALL_CAPABILITIES)
    everything = tuple(name for name in ALL_CAPABILITIES if name in held)
    added = _names(add, "HostConfig.CapAdd")
    dropped = _names(drop, "HostConfig.CapDrop")
    if privileged:
        return everything
    if "ALL" in added:
        return tuple(name for name in everything if name not in dropped)
    for name in added:
        if name not in held:
            raise InvalidInputError(
                f'invalid CapAdd: capability not supported by your kernel or not available in the current environment: "{name}"',
                hint="The engine has no more capabilities to give than it was started with.",
            )
    base = () if "ALL" in dropped else DEFAULT_CAPABILITIES
    chosen = {name for name in base if name in held and name not in dropped} | set(added)
    return tuple(name for name in ALL_CAPABILITIES if name in chosen)


def _names(given: Sequence[str], field: str) -> tuple[str, ...]:
    names = []
    for text in given:
        name = text.upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in ALL_CAPABILITIES:
                kind = field.rpartition(".")[2]
                raise InvalidInputError(
                    f'invalid {kind}: unknown capability: "{name[:80]}"',
                    hint=f"{field} takes names as in capabilities(7), or ALL.",
                )
        names.append(name)
    return tuple(names)


def rlimits(ulimits: Sequence[Ulimit], most: Mapping[str, int]) -> list[Json]:
    """Return OCI ``process.rlimits``; see ``rlimit_values``."""
    return [
        {"type": kind, "soft": soft, "hard": hard}
        for kind, soft, hard in rlimit_values(ulimits, most)
    ]


def rlimit_values(
    ulimits: Sequence[Ulimit], most: Mapping[str, int]
) -> tuple[tuple[str, int, int], ...]:
    """Return (type, soft, hard) for each limit; what exceeds the daemon's own hard limit (``most``) is cut to it.

    Raises InvalidInputError for an unknown name or a soft limit above the hard one.
    """
    found = []
    for limit in ulimits:
        if limit.name not in _ULIMITS:
            raise InvalidInputError(
                f"invalid ulimit type: {limit.name}",
                hint=f"HostConfig.Ulimits takes {', '.join(sorted(_ULIMITS))}.",
            )
        soft, hard = (_UNLIMITED if value < 0 else value for value in (limit.soft, limit.hard))
        if soft > hard:
            raise InvalidInputError(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}",
                hint=f"HostConfig.Ulimits: {limit.name}.",
            )
        top = most.get(limit.name, _UNLIMITED)
        top = _UNLIMITED if top < 0 else top
        found.append((f"RLIMIT_{limit.name.upper()}", min(soft, top), min(hard, top)))
    return tuple(found)


def check_sysctls(sysctls: Mapping[str, str], *, network: bool, ipc: bool) -> None:
    """Refuse what would change the host: only sysctls of a namespace that is the container's own may be set.

    Raises InvalidInputError naming the sysctl.
    """
    for name in sysctls:
        plain = name.replace("/", ".")
        if ".." in plain:
            allowed, why = False, "it is not the name of one"
        elif plain.startswith("net."):
            allowed, why = network, "it uses the host's network"
        elif plain in _IPC_SYSCTLS or plain.startswith("fs.mqueue."):
            allowed, why = ipc, "it uses the host's IPC namespace"
        else:
            allowed, why = False, "it is not in a namespace of the container"
        if not allowed:
            raise InvalidInputError(
                f"HostConfig.Sysctls: sysctl '{name}' is not allowed: {why}",
                hint="Set it on the host, with sysctl(8).",
            )
