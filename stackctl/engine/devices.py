"""Device nodes of the host, looked up for a container."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from stackctl.contracts.container import ContainerSpec
from stackctl.engine.runtime_spec import BlockDevice, HostDevice
from stackctl.errors import InvalidInputError

# These are made anew in every container, with a terminal and a shm of its own.
_OWN = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/fd", "/dev/.lxc")


def lookup(spec: ContainerSpec) -> tuple[HostDevice, ...]:
    """Return the nodes a container gets: those asked for, all when privileged; raises InvalidInputError."""
    if spec.privileged:
        return tuple(_all_devices(Path("/dev")))
    found: list[HostDevice] = []
    for device in spec.devices:
        source = Path(device.path_on_host)
        target = device.path_in_container or device.path_on_host
        if source.is_dir():
            for node in _all_devices(source):
                inside = target + node.path.removeprefix(str(source))
                found.append(_node(Path(node.path), inside, device.permissions))
            continue
        if not _is_node(source):
            raise InvalidInputError(
                f'error gathering device information while adding custom device "{source}": '
                "no such file or directory"
                if not source.exists()
                else f'error gathering device information while adding custom device "{source}": '
                "not a device node"
            )
        found.append(_node(source, target, device.permissions))
    return tuple(found)


def limited(spec: ContainerSpec) -> tuple[BlockDevice, ...]:
    """Return the block devices whose rates are limited; raises InvalidInputError for one that is none."""
    found = []
    for limit in spec.blkio_devices:
        try:
            number = Path(limit.path).stat().st_rdev
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"stat {limit.path[:200]}: no such file or directory",
                hint="HostConfig.BlkioDevice… name device files of the host",
            ) from error
        found.append(
            BlockDevice(
                kind=limit.kind,
                major=os.major(number),
                minor=os.minor(number),
                value=limit.value,
            )
        )
    return tuple(found)


def _all_devices(root: Path) -> Iterator[HostDevice]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if f"{directory}/{name}" not in _OWN]
        for name in files:
            path = Path(directory, name)
            if str(path) not in _OWN and not path.is_symlink() and _is_node(path):
                yield _node(path, str(path), "rwm")


def _is_node(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _node(path: Path, inside: str, permissions: str) -> HostDevice:
    status = path.stat()
    return HostDevice(
        path=inside,
        kind="b" if stat.S_ISBLK(status.st_mode) else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions or "rwm",
    )


def thermal_paths(cpus: Iterable[int]) -> tuple[str, ...]:
    """Return the paths that tell a container of its neighbours' load by the CPU's temperature."""
    return tuple(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in cpus)
