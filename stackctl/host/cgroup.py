"""Leaving the control groups of whoever started a program, so that their end is not its own; small, for the keeper."""

import os


def leave() -> None:
    """Go to the root of every hierarchy, unless this process is there, or among an engine's monitors, already.

    What the kernel refuses stays as it is. Moving costs some 10 ms a hierarchy.
    """
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        lines = file.read().splitlines()
    for line in lines:
        _, names, path = line.split(":", 2)
        if path != "/" and not path.endswith("/monitors"):
            name = names.removeprefix("name=") or "unified"
            _enter(f"/sys/fs/cgroup/{name}") or _enter("/sys/fs/cgroup")


def _enter(directory: str) -> bool:
    try:
        with open(os.path.join(directory, "cgroup.procs"), "r+", encoding="ascii") as procs:
            procs.write("0")
    except OSError:
        return False  # not a hierarchy's root, or not ours to move in: then it stays where it is
    return True
