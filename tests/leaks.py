"""What of an engine is still on the machine; shared by every real-engine test."""

import subprocess
from pathlib import Path

from stackctl.paths import EnginePaths


def leftovers(paths: EnginePaths, *, roots: tuple[Path, ...] = ()) -> list[str]:
    """Return a line for each mount, namespace, link, nft table, cgroup, process and run file of the engine.

    Images and volumes under the data root are meant to stay and do not count.
    """
    where = {str(paths.run_root), str(paths.data_root), *(str(root) for root in roots)}
    return [
        *_mounts(where),
        *_links(paths),
        *_nft(paths),
        *_cgroups(paths),
        *_processes(where),
        *_files(paths),
    ]


def _mounts(where: set[str]) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [f"mount {line.split()[1]}" for line in lines if any(root in line for root in where)]


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points below a folder, outermost first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")]


def _links(paths: EnginePaths) -> list[str]:
    prefixes = [f"{paths.bridge_prefix}", paths.veth_prefix]
    names = [link.name for link in Path("/sys/class/net").iterdir()]
    return [f"link {name}" for name in names if any(name.startswith(p) for p in prefixes)]


def _nft(paths: EnginePaths) -> list[str]:
    done = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=False)
    tables = [line for line in done.stdout.splitlines() if line.startswith("table ")]
    mine = [f"nft {line}" for line in tables if paths.nft_table in line.split()]
    rules = [
        f"nft rule {line.strip()}"
        for line in done.stdout.splitlines()
        if f'"{paths.nft_table}"' in line
    ]
    return mine + rules


def _cgroups(paths: EnginePaths) -> list[str]:
    name = paths.cgroup_parent.lstrip("/")
    found = [*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)]
    return [f"cgroup {path}" for path in found]


def _processes(where: set[str]) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        line = b" ".join(words).decode(errors="replace")
        program = Path(words[0].decode(errors="replace")).name
        ours = program in ("conmon", "runc") or "stackctl" in line
        if ours and state != "Z" and any(root in line for root in where):
            found.append(f"process {entry.name} {line[:160]}")
    return found


def _files(paths: EnginePaths) -> list[str]:
    if not paths.run_root.exists():
        return []
    kept = {paths.daemon_log.name, paths.lock.name}
    found = []
    for path in paths.run_root.rglob("*"):
        if path.name in kept or path.suffix in (".log", ".lock") or path.is_dir():
            continue
        found.append(f"file {path}")
    return found
