"""Cgroups: limits and usage from cgroup v1, hybrid and v2, and what must be gone when a container is.

One container has the same path, its group, in every hierarchy (OCI cgroupsPath, mostly PARENT/ID). Limits are written by the OCI runtime; here they are
read, and directories are swept.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path

from stackctl.contracts.runtime import Usage
from stackctl.frozen import frozen

_ROUNDS = 8
_MONITORS = "monitors"
_UNLIMITED = 1 << 62
_OPERATIONS = {"rbytes": "read", "wbytes": "write", "dbytes": "discard"}


@frozen
class CgroupFacts:
    """Where the hierarchies are mounted: controller (or "name=systemd") to directory; ``unified`` is cgroup2's."""

    controllers: Mapping[str, Path] = field(default_factory=dict)
    unified: Path | None = None

    @property
    def version(self) -> str:
        """Return "2" when cgroup2 holds the controllers, "1" also for hybrid."""
        return "1" if self.controllers else "2"


def read_facts(mountinfo: str) -> CgroupFacts:
    """Return the hierarchies named in the text of /proc/self/mountinfo."""
    controllers: dict[str, Path] = {}
    unified: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind, _, rest = after.partition(" ")
        if len(fields) < 5:
            continue
        if kind == "cgroup2":
            unified = unified or Path(fields[4])
        elif kind == "cgroup":
            options = rest.split()[-1].split(",")
            for name in options:
                if name not in ("rw", "ro", "xattr", "clone_children", "noprefix"):
                    controllers.setdefault(name, Path(fields[4]))
    return CgroupFacts(controllers=controllers, unified=unified)


def own_facts() -> CgroupFacts:
    """Return this machine's hierarchies."""
    return read_facts(Path("/proc/self/mountinfo").read_text())


class Cgroups:
    """The containers' directories below one parent in every hierarchy."""

    def __init__(self, facts: CgroupFacts, parent: str) -> None:
        self.facts = facts
        self._parent = parent.strip("/")
        self._roots = list(dict.fromkeys(facts.controllers.values()))
        if facts.unified is not None:
            self._roots.append(facts.unified)

    def directories(self, group: str) -> list[Path]:
        """Return its directories that exist, one a hierarchy."""
        found = (root / group.lstrip("/") for root in self._roots)
        return [path for path in found if path.is_dir()]

    def processes(self, group: str) -> list[int]:
        """Return the pids in it and in the groups it made below."""
        directory = self._of("pids", group)
        if not directory.is_dir():
            directory = next(iter(self.directories(group)), directory)
        pids: set[int] = set()
        for path in _below(str(directory)):
            pids.update(map(int, _read(f"{path}/cgroup.procs").split()))
        return sorted(pids)

    def kill(self, group: str) -> None:
        """Kill every process in it; success when there is none."""
        if not group.strip("/"):
            return  # never the whole machine
        if self.facts.version == "2":
            with contextlib.suppress(OSError):
                (self._of("", group) / "cgroup.kill").write_text("1")
        # Processes that fork while they are being killed need another round; SIGKILL is pending on every one we saw.
        for _ in range(_ROUNDS):
            pids = self.processes(group)
            if not pids:
                break
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def thaw(self, group: str) -> None:
        """Let a frozen container run; success when it is not frozen or not there."""
        with contextlib.suppress(OSError):
            if self.facts.version == "2":
                (self._of("", group) / "cgroup.freeze").write_text("0")
            else:
                (self._of("freezer", group) / "freezer.state").write_text("THAWED")

    def remove(self, group: str) -> bool:
        """Remove its empty directories everywhere; False when a process still holds one."""
        clean = True
        for root in self._roots:
            directory = f"{root}/{group.lstrip('/')}"
            clean = (_rmdir(directory) or _remove_all(directory)) and clean
        return clean

    def remove_parent(self) -> None:
        """Remove the parent where it is empty (engine stop); what still holds a container stays."""
        for root in self._roots:
            for path in (root / self._parent / _MONITORS, root / self._parent):
                with contextlib.suppress(OSError):
                    path.rmdir()

    def leave(self, pid: int, *, group: str = "") -> None:
        """Take a process out of the cgroups it inherited, so that their end or limits are not its own.

        Only groups other than the root are left, for ``group`` ("" is PARENT/monitors). What the kernel refuses (a
        hierarchy that is mounted read-only) stays as it is.
        """
        monitors = group or f"/{self._parent}/{_MONITORS}"
        for root, names, path in self._memberships(pid):
            if path in ("/", monitors):
                continue
            with contextlib.suppress(OSError):
                directory = root / monitors.lstrip("/")
                if not directory.is_dir():
                    _make(root, directory, cpuset="cpuset" in names)
                (directory / "cgroup.procs").write_text(str(pid))

    @contextlib.contextmanager
    def staying(self) -> Iterator[Callable[[], None]]:
        """Give a move of this process to the cgroup it is in, which changes nothing (see ``moves``); raises OSError.

        Only for a short while: once somebody has moved the process, this would move it back.
        """
        procs = os.open(self._own_procs(), os.O_WRONLY | os.O_CLOEXEC)

        def move() -> None:
            os.write(procs, b"0")

        try:
            yield move
        finally:
            os.close(procs)

    def _own_procs(self) -> Path:
        for root, _, path in self._memberships("self"):
            return root / path.lstrip("/") / "cgroup.procs"
        raise FileNotFoundError(errno.ENOENT, "no hierarchy of cgroups is mounted here")

    def _memberships(self, pid: int | str) -> Iterator[tuple[Path, str, str]]:
        """Yield root, controllers and path of each cgroup that a process is in, of the hierarchies mounted here."""
        for line in _read(Path(f"/proc/{pid}/cgroup")).splitlines():
            _, names, path = line.split(":", 2)
            root = self._root(names)
            if root is not None:
                yield root, names, path

    def give_back(self, pid: int) -> bool:
        """Undo ``leave`` and remove the parent; False while another process is among the monitors."""
        for root in self._roots:
            monitors = root / self._parent / _MONITORS
            if str(pid) in _read(monitors / "cgroup.procs").split():
                with contextlib.suppress(OSError):
                    (root / "cgroup.procs").write_text(str(pid))
        self.remove_parent()
        return not any((root / self._parent / _MONITORS).is_dir() for root in self._roots)

    def inherited(self) -> bool:
        """Tell whether this process is in a cgroup that what it starts must ``leave``: not cheap, some 10 ms each."""
        ours = ("/", f"/{self._parent}/{_MONITORS}")
        lines = _read(Path("/proc/self/cgroup")).splitlines()
        return any(line.split(":", 2)[2] not in ours for line in lines)

    def oom_kills(self, group: str) -> int:
        """Return how many processes the kernel's out-of-memory killer took in it."""
        name = "memory.events" if self.facts.version == "2" else "memory.oom_control"
        return _table(self._of("memory", group) / name).get("oom_kill", 0)

    def usage(self, group: str) -> Usage:
        """Return resource use now; a limit of 0 is no limit. Zeros for a container that is gone."""
        return self._usage2(group) if self.facts.version == "2" else self._usage1(group)

    def _root(self, names: str) -> Path | None:
        """Return where the hierarchy of a line of /proc/PID/cgroup is mounted; None when it is not."""
        if not names:
            return self.facts.unified
        return self.facts.controllers.get(names.split(",")[0])

    def _of(self, controller: str, group: str) -> Path:
        root = self.facts.controllers.get(controller) or self.facts.unified
        return (root or Path("/sys/fs/cgroup")) / group.lstrip("/")

    def _usage1(self, group: str) -> Usage:
        cpu = self._of("cpu", group)
        cpuacct = self._of("cpuacct", group)
        memory = self._of("memory", group)
        pids = self._of("pids", group)
        blkio = self._of("blkio", group)
        ticks = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        times = _table(cpuacct / "cpuacct.stat")
        throttled = _table(cpu / "cpu.stat")
        return Usage(
            cpu_total=_number(cpuacct / "cpuacct.usage"),
            cpu_user=times.get("user", 0) * ticks,
            cpu_system=times.get("system", 0) * ticks,
            cpu_per_cpu=tuple(int(n) for n in _read(cpuacct / "cpuacct.usage_percpu").split()),
            cpu_periods=throttled.get("nr_periods", 0),
            cpu_throttled_periods=throttled.get("nr_throttled", 0),
            cpu_throttled_time=throttled.get("throttled_time", 0),
            memory_usage=_number(memory / "memory.usage_in_bytes"),
            memory_max_usage=_number(memory / "memory.max_usage_in_bytes"),
            memory_limit=_limit(memory / "memory.limit_in_bytes"),
            memory_failcnt=_number(memory / "memory.failcnt"),
            memory_stats=_table(memory / "memory.stat"),
            pids=_number(pids / "pids.current"),
            pids_limit=_limit(pids / "pids.max"),
            block_bytes=_blkio(_read(blkio / "blkio.throttle.io_service_bytes_recursive")),
        )

    def _usage2(self, group: str) -> Usage:
        unified = self._of("", group)
        cpu = _table(unified / "cpu.stat")
        return Usage(
            cpu_total=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_system=cpu.get("system_usec", 0) * 1000,
            cpu_periods=cpu.get("nr_periods", 0),
            cpu_throttled_periods=cpu.get("nr_throttled", 0),
            cpu_throttled_time=cpu.get("throttled_usec", 0) * 1000,
            memory_usage=_number(unified / "memory.current"),
            memory_max_usage=_number(unified / "memory.peak"),
            memory_limit=_limit(unified / "memory.max"),
            memory_failcnt=_table(unified / "memory.events").get("oom", 0),
            memory_stats=_table(unified / "memory.stat"),
            pids=_number(unified / "pids.current"),
            pids_limit=_limit(unified / "pids.max"),
            block_bytes=_iostat(_read(unified / "io.stat")),
        )


def _make(root: Path, directory: Path, *, cpuset: bool) -> None:
    made = root
    for name in directory.relative_to(root).parts:
        above, made = made, made / name
        if made.is_dir():
            continue
        made.mkdir(exist_ok=True)
        if cpuset:
            # A new group of the v1 cpuset controller has no CPUs and takes no process until it is given some.
            for file in ("cpuset.cpus", "cpuset.mems"):
                with contextlib.suppress(OSError):
                    (made / file).write_text(_read(above / file))


def _remove_all(directory: str) -> bool:
    """Remove a group and those below it; False when a process still holds one."""
    clean = True
    for path in reversed(list(_below(directory))):
        clean = _rmdir(path) and clean
    return clean


def _rmdir(directory: str) -> bool:
    try:
        Path(directory).rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def _below(directory: str) -> Iterator[str]:
    """Yield a group and all below it, each before those below it; nothing when it is not there."""
    try:
        with os.scandir(directory) as entries:
            inner = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    yield directory
    for path in inner:
        yield from _below(path)


def _read(path: Path | str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _limit(path: Path) -> int:
    value = _number(path)
    return value if value < _UNLIMITED else 0


def _table(path: Path) -> dict[str, int]:
    table = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            table[name] = int(value)
    return table


def _blkio(text: str) -> tuple[tuple[int, int, str, int], ...]:
    rows = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and ":" in parts[0]:
            major, _, minor = parts[0].partition(":")
            rows.append((int(major), int(minor), parts[1].lower(), int(parts[2])))
    return tuple(rows)


def _iostat(text: str) -> tuple[tuple[int, int, str, int], ...]:
    rows = []
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        if not (major.isdigit() and minor.isdigit()):
            continue
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in _OPERATIONS and value.isdigit():
                rows.append((int(major), int(minor), _OPERATIONS[key], int(value)))
    return tuple(rows)
