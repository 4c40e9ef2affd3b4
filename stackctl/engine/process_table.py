"""A container's processes and interfaces as /proc shows them: what top and stats print."""

import os
import pwd
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stackctl.engine.requests import NetworkCounters
from stackctl.errors import InvalidInputError

_TICKS = os.sysconf("SC_CLK_TCK")
_FULL = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_BSD = ("USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND")
_KEYS = {
    "pid": "PID", "ppid": "PPID", "user": "USER", "uid": "UID", "comm": "COMM",
    "cmd": "CMD", "args": "COMMAND", "command": "COMMAND", "stat": "STAT", "state": "S", "s": "S",
    "rss": "RSS", "vsz": "VSZ", "time": "TIME", "tty": "TTY", "stime": "STIME", "start": "START",
    "c": "C", "etime": "ELAPSED", "nlwp": "NLWP", "pcpu": "%CPU", "%cpu": "%CPU",
    "pmem": "%MEM", "%mem": "%MEM", "ucmd": "CMD", "tname": "TTY", "group": "GROUP", "gid": "GID",
}  # fmt: skip


# What ps prints above a column that goes by another name here.
_TITLES = {"COMM": "COMMAND"}


def process_table(
    pids: Sequence[int], ps_args: str, now: float
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return titles and rows as ps would print them for these processes; raises InvalidInputError for bad options."""
    columns, titles = _columns(ps_args or "-ef")
    rows = [
        row
        for pid in sorted(pids)
        if (facts := _facts(pid, now)) is not None
        for row in [tuple(facts.get(column, "-") for column in columns)]
    ]
    return titles, rows


def _columns(ps_args: str) -> tuple[Sequence[str], Sequence[str]]:
    try:
        words = shlex.split(ps_args)
    except ValueError as error:
        raise InvalidInputError(f"invalid ps arguments: {ps_args!r}") from error
    chosen: list[tuple[str, str]] = []
    wide = False
    while words:
        word = words.pop(0)
        if word in ("-o", "o", "--format", "-eo", "-Ao", "-axo", "axo") and words:
            chosen += _formats(words.pop(0))
        elif word.startswith("-o") and len(word) > 2:
            chosen += _formats(word[2:])
        elif not word.startswith("-") and "u" in word:
            wide = True
    if chosen:
        if "PID" not in [key for key, _ in chosen]:
            raise InvalidInputError("Couldn't find PID field in ps output")
        return [key for key, _ in chosen], [title for _, title in chosen]
    return (_BSD, _BSD) if wide else (_FULL, _FULL)


def _formats(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in text.split(","):
        name, equals, title = item.partition("=")
        key = _KEYS.get(name.strip().lower())
        if key is None:
            raise InvalidInputError(f'error: unknown user-defined format specifier "{name}"')
        found.append((key, title if equals else _TITLES.get(key, key)))
    return found


def _facts(pid: int, now: float) -> Mapping[str, str] | None:
    base = Path(f"/proc/{pid}")
    try:
        stat = (base / "stat").read_text(errors="replace")
        command = (base / "cmdline").read_bytes()
        status = (base / "status").read_text(errors="replace")
    except OSError:
        return None
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    ticks = int(fields[11]) + int(fields[12])
    seconds = ticks / _TICKS
    started = now - max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _TICKS)
    lasted = max(now - started, 0.01)
    words = command.replace(b"\0", b" ").decode(errors="replace").strip() or f"[{name}]"
    uid, gid = _ids(status)
    user = _user_name(uid)
    rss = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024
    same_day = time.localtime(started)[:3] == time.localtime(now)[:3]
    begun = time.strftime("%H:%M" if same_day else "%b%d", time.localtime(started))
    return {
        "UID": user, "USER": user, "PID": str(pid), "PPID": fields[1],
        "C": str(int(100 * seconds / lasted)), "STIME": begun, "START": begun,
        "TTY": _tty(int(fields[4])), "TIME": _clock(seconds), "CMD": words, "COMMAND": words,
        "COMM": name,
        "STAT": fields[0], "S": fields[0], "RSS": str(rss), "VSZ": str(int(fields[20]) // 1024),
        "%CPU": f"{100 * seconds / lasted:.1f}", "%MEM": "0.0", "NLWP": fields[17],
        "ELAPSED": _clock(lasted), "GID": str(gid), "GROUP": str(gid),
    }  # fmt: skip


def _ids(status: str) -> tuple[int, int]:
    found = {"Uid:": 0, "Gid:": 0}
    for line in status.splitlines():
        words = line.split()
        if words and words[0] in found:
            found[words[0]] = int(words[2])
    return found["Uid:"], found["Gid:"]


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _tty(number: int) -> str:
    if number == 0:
        return "?"
    major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    return f"pts/{minor + 256 * (major - 136)}" if 136 <= major <= 143 else f"tty{minor}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def network_counters(pid: int) -> dict[str, NetworkCounters]:
    """Return the counters of every interface but loopback in a process's network namespace."""
    try:
        text = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        name = name.strip()
        numbers = [int(item) for item in rest.split()]
        if name == "lo" or len(numbers) < 12:
            continue
        found[name] = NetworkCounters(
            rx_bytes=numbers[0], rx_packets=numbers[1], rx_errors=numbers[2], rx_dropped=numbers[3],
            tx_bytes=numbers[8], tx_packets=numbers[9], tx_errors=numbers[10], tx_dropped=numbers[11],
        )  # fmt: skip
    return found
