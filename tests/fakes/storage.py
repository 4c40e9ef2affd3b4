"""What storage and image tests share: a state store in memory, a clock that does not wait, small tars, a whole shelf."""

import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.overlay import OverlayStore
from stackctl.contracts.container import ContainerRecord
from stackctl.contracts.registry import Registry
from stackctl.contracts.state import Record
from stackctl.engine.image_values import ImageParts
from stackctl.engine.images import Images
from stackctl.oci.platform import Platform

BUSYBOX = Path("/bin/busybox")


class MemoryState:
    """A StateStore without a disk."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.settings: dict[str, str] = {}

    def load(self, kind):
        return [record for record in self.records.values() if isinstance(record, kind)]

    def save(self, record) -> None:
        self.records[record.id] = record

    def delete(self, record) -> None:
        self.records.pop(record.id, None)

    def setting(self, name: str) -> str:
        return self.settings.get(name, "")

    def save_setting(self, name: str, value: str) -> None:
        self.settings[name] = value

    def close(self) -> None:
        pass


class QuickClock:
    """The real time, but sleeping takes none; what was asked for is kept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def tar_of(files: dict[str, bytes | str | None], *, mode: int = 0o644) -> bytes:
    """A tar of files: bytes are content, text a symlink's target, None a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, what in files.items():
            info = tarfile.TarInfo(name)
            info.mode = mode
            if what is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                tar.addfile(info)
            else:
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
    return buffer.getvalue()


def busybox_tar(extra: dict[str, bytes | str | None] | None = None) -> bytes:
    """A root file system that can run sh."""
    files = {"bin": None, "bin/busybox": BUSYBOX.read_bytes(), "bin/sh": "busybox", **(extra or {})}
    return tar_of(files, mode=0o755)


async def chunks(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def collected(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


class Shelf:
    """Images on real stores in a directory of the test's own."""

    def __init__(self, root: Path, registry: Registry | None = None) -> None:
        self.root = root
        self.state = MemoryState()
        self.events: list[tuple[str, str, str]] = []
        self.containers: list[ContainerRecord] = []
        self.registry = registry
        self.open()

    def open(self) -> None:
        """Build the services anew on what is on the disk, as a restarted daemon does."""
        self.content = BlobStore(self.root / "data" / "content")
        self.layers = OverlayStore(
            self.root / "data", self.root / "run", self.content, boot_id=f"boot-{os.getpid()}"
        )
        self.images = Images(
            ImageParts(
                content=self.content,
                layers=self.layers,
                registry=self.registry,  # type: ignore[arg-type]
                state=self.state,
                clock=QuickClock(),
                platform=Platform(),
                users_of=self._users,
                layers_in_use=lambda: {layer for item in self.containers for layer in item.layers},
                publish=lambda kind, action, name, _: self.events.append((kind, action, name)),
            )
        )

    def _users(self, image_id: str) -> Sequence[ContainerRecord]:
        return [item for item in self.containers if item.image_id == image_id]
