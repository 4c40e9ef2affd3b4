"""The files the engine keeps for each container: hosts, resolv.conf, hostname and the log's place.

They are written in place: a running container has them mounted, and a new inode would stay invisible to it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from stackctl.frozen import frozen


@frozen
class FileSet:
    """Host paths of the three files a container has mounted; "" leaves the image's."""

    hosts: str = ""
    resolv: str = ""
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class ContainerFiles:
    """The directories under data_root/containers."""

    root: Path

    def directory(self, container_id: str) -> Path:
        return self.root / container_id

    def log_path(self, container_id: str) -> Path:
        return self.directory(container_id) / "log"

    def paths(self, container_id: str) -> FileSet:
        base = self.directory(container_id)
        return FileSet(
            hosts=str(base / "hosts"),
            resolv=str(base / "resolv.conf"),
            hostname=str(base / "hostname"),
        )

    def make(self, container_id: str) -> None:
        """Make the container's directory; success when it is there."""
        self.directory(container_id).mkdir(mode=0o710, parents=True, exist_ok=True)

    def write(self, container_id: str, *, hosts: str, resolv: str, hostname: str) -> FileSet:
        """Write all three and return where they are."""
        self.make(container_id)
        paths = self.paths(container_id)
        _write_in_place(Path(paths.hosts), hosts)
        _write_in_place(Path(paths.resolv), resolv)
        _write_in_place(Path(paths.hostname), f"{hostname}\n")
        return paths

    def write_hosts(self, container_id: str, text: str) -> None:
        _write_in_place(Path(self.paths(container_id).hosts), text)

    def remove(self, container_id: str) -> None:
        """Remove all of them, the log too; success when they are gone."""
        shutil.rmtree(self.directory(container_id), ignore_errors=True)

    def known(self) -> list[str]:
        """Return the IDs that have a directory."""
        if not self.root.is_dir():
            return []
        return [entry.name for entry in self.root.iterdir() if entry.is_dir()]


def _write_in_place(path: Path, text: str) -> None:
    with path.open("r+" if path.exists() else "w", encoding="utf-8") as file:
        file.truncate()
        file.write(text)
    path.chmod(0o644)
