"""Processes by /proc: is it alive, since when, and whose numbers are meant. Light enough for the command line."""

import os
from pathlib import Path


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat (clock ticks since boot); 0 when there is no such living process."""
    state, started = state_and_start(pid)
    return 0 if state in (b"Z", b"X") else started


def state_and_start(pid: int) -> tuple[bytes, int]:
    """Return a process's state letter and start time; X and 0 when there is none."""
    # Asked several times in every start: a tenth of what a file object costs.
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"X", 0
    try:
        text = os.read(descriptor, 4096)
    except ProcessLookupError:
        return b"X", 0
    finally:
        os.close(descriptor)
    # The name in field 2 may hold spaces and brackets: fields are counted from its last bracket.
    fields = text.rpartition(b")")[2].split()
    return fields[0], int(fields[19])


def pid_space() -> str:
    """Return what process numbers are numbers of: this boot of this machine, this pid namespace.

    Two programs that give the same text mean the same process by the same number.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
