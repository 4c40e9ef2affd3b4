"""VolumeStore by directories: volumes/<name>/_data, with what the local driver's options mount on it."""

import asyncio
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from stackctl.adapters.storage.bridge import to_the_end
from stackctl.adapters.storage.roottree import unpack_stream
from stackctl.adapters.storage.tarwriter import TreePacker, end
from stackctl.adapters.storage.treewriter import TreeWriter
from stackctl.errors import HostError, InvalidInputError
from stackctl.host.files import directory_fd, remove_tree, tree_usage
from stackctl.host.mounts import bind, is_mounted, mount, unmount

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_OPTIONS = frozenset({"type", "o", "device", "size"})
_MANDATORY = ("device", "type")
_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "dirsync": 128, "noatime": 1024,
    "nodiratime": 2048, "relatime": 1 << 21, "strictatime": 1 << 24, "silent": 1 << 15, "lazytime": 1 << 25,
}  # fmt: skip
_IGNORED = frozenset({"rw", "defaults", "async", "suid", "dev", "exec", "atime", "diratime"})
_BIND = frozenset({"bind", "rbind"})


class DirectoryVolumes:
    """Volumes below ``root``, which is made when it is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        root.mkdir(mode=0o701, parents=True, exist_ok=True)

    async def create(self, name: str, options: Mapping[str, str]) -> Path:
        """See VolumeStore; what options ask for is mounted if it is not. Raises InvalidInputError, HostError."""
        home = self._home(name)
        check_options(options)
        async with self._lock(name):
            return await to_the_end(_create, home, dict(options))

    async def copy_up(self, mountpoint: Path, source: Path) -> None:
        async with self._lock(str(mountpoint)):
            await to_the_end(_copy_up, mountpoint, source)

    async def remove(self, name: str) -> None:
        home = self._home(name)
        async with self._lock(name):
            await to_the_end(_remove, home)

    async def usage(self, name: str) -> int:
        return await to_the_end(tree_usage, self._home(name) / "_data")

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or len(name) > 255:
            raise InvalidInputError(
                f'"{name[:200]}" includes invalid characters for a local volume name, '
                'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'
            )
        return self._root / name

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())


def check_options(options: Mapping[str, str]) -> None:
    """Check the local driver's options. Raises InvalidInputError with Docker's texts."""
    for key in options:
        if key not in _OPTIONS:
            raise InvalidInputError(f'invalid option: "{key}"')
    if options and set(options) != {"size"}:
        for key in _MANDATORY:
            if key not in options:
                raise InvalidInputError(f'missing required option: "{key}"')
    if "size" in options:
        raise InvalidInputError(
            "quota size requested but no quota support",
            hint="a size needs a file system with project quotas; leave the option out",
        )


def _create(home: Path, options: dict[str, str]) -> Path:
    data = home / "_data"
    try:
        home.mkdir(mode=0o701, exist_ok=True)
        if not data.exists():
            data.mkdir(mode=0o755)
            data.chmod(0o755)
    except OSError as error:
        raise HostError(f"cannot make {data}: {error.strerror}", errno=error.errno or 0) from error
    if options and not is_mounted(data):
        try:
            _mount(data, options)
        except HostError as error:
            # Whoever asked for the volume said what to mount.
            raise InvalidInputError(
                f"failed to mount local volume: {error.message}", hint=error.hint
            ) from error
    return data


def _remove(home: Path) -> None:
    # Nothing is removed while anything is mounted: what is there may be a directory of the host.
    while is_mounted(home / "_data"):
        unmount(home / "_data")
    remove_tree(home)


def _mount(target: Path, options: dict[str, str]) -> None:
    words = [word for word in options.get("o", "").split(",") if word]
    device = options["device"]
    if _BIND & set(words):
        if not Path(device).exists():
            raise HostError(
                f"mount {device}:{target}, flags: 0x1000: no such file or directory",
                hint="the directory of a volume bound to the host must exist",
            )
        bind(Path(device), target, read_only="ro" in words, recursive="rbind" in words)
        return
    flags = 0
    data = []
    for word in words:
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word not in _IGNORED:
            data.append(_resolved(word) if options["type"].startswith(("nfs", "cifs")) else word)
    mount(device, target, options["type"], flags, ",".join(data))


def _resolved(word: str) -> str:
    """Replace the name in addr= by its address: the kernel resolves none."""
    key, _, value = word.partition("=")
    if key != "addr":
        return word
    try:
        return f"addr={socket.getaddrinfo(value, None)[0][4][0]}"
    except OSError as error:
        raise HostError(f"cannot resolve {value}: {error.strerror}") from error


class _Reader:
    """What an iterator yields, as a stream."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._head = b""

    def read(self, size: int, /) -> bytes:
        while not self._head:
            chunk = next(self._source, None)
            if chunk is None:
                return b""
            self._head = chunk
        data, self._head = self._head[:size], self._head[size:]
        return data


def _copy_up(mountpoint: Path, source: Path) -> None:
    with directory_fd(mountpoint) as target_fd, os.scandir(target_fd) as scan:
        if next(scan, None) is not None:
            return
        with directory_fd(source) as source_fd:
            writer = TreeWriter(target_fd)
            try:
                unpack_stream(_Reader(_with_end(TreePacker().directory(source_fd, b"."))), writer)
            finally:
                writer.close()


def _with_end(chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from chunks
    yield end()
