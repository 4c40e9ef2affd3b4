"""Who holds a port: a search in /proc/net and the descriptors of every process."""

import os


def holder_of_port(protocol: str, port: int) -> str:
    """Return "NAME (pid N)" of a process with a socket on that local port, "" when it cannot be found."""
    inodes = _inodes(protocol, port)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if _has_any(pid, wanted):
            return f"{_program(pid)} (pid {pid})"
    return ""


def _inodes(protocol: str, port: int) -> set[str]:
    found = set()
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        for row in rows:
            is_remote = protocol == "tcp" and row[3] != "0A"
            if int(row[1].rsplit(":", 1)[1], 16) == port and not is_remote:
                found.add(row[9])
    return found - {"0"}


def _has_any(pid: str, wanted: set[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            if os.readlink(f"{directory}/{descriptor}") in wanted:
                return True
        except OSError:
            continue
    return False


def _program(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process that has ended"
