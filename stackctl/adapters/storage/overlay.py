"""LayerStore by overlayfs: layers as directories named by chain ID, snapshots as overlays on them.

On disk, below the data root::

    layers/<hex>/fs            a layer's files, overlayfs's own marks for what is deleted
    layers/<hex>/layer.json    what it is; written last, so that a layer without it is not there
    layers/l/<short>           a short link to fs, for kernels that take a mount's options as one string
    snapshots/<key>/           upper, work, merged (the mount point), snapshot.json

A layer's files are not flushed one by one: the file system is flushed in the background, and what was not flushed when
the machine went down is removed at the next start and unpacked again from its blob, which was.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import stat
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from weakref import WeakValueDictionary

from stackctl.adapters.storage.bridge import to_the_end
from stackctl.adapters.storage.content import BlobStore
from stackctl.adapters.storage.diff import compare
from stackctl.adapters.storage.furnish import furnish
from stackctl.adapters.storage.layers import JobResult, PackJob, UnpackJob, pack, unpack
from stackctl.contracts.storage import Change, Furnishing, PackedLayer, TarLimits
from stackctl.errors import HostError, InvalidInputError, NotFoundError
from stackctl.frozen import frozen
from stackctl.host.files import atomic_write, directory_fd, remove_tree, sync_filesystem, tree_usage
from stackctl.host.mounts import Overlay, bind, is_mount_point, overlay, unmount
from stackctl.oci.descriptor import OCI_LAYER
from stackctl.oci.digest import chain_ids, check_digest, digest_of
from stackctl.values import from_json, to_json_text

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FLUSH_AFTER = 2.0


@frozen
class _Layer:
    """layer.json. ``boot_id`` is "" once the files are known to be on the disk."""

    chain_id: str
    diff_id: str
    size: int
    link: str
    boot_id: str = ""


@frozen
class _Snapshot:
    """snapshot.json. A ``volatile`` one is never flushed: it is worthless after a crash anyway."""

    layers: tuple[str, ...]
    volatile: bool = False


LOG = logging.getLogger(__name__)


class OverlayStore:
    """Layers and snapshots below ``data_root``; short-lived views below ``run_root``. One process at a time."""

    def __init__(
        self,
        data_root: Path,
        run_root: Path,
        content: BlobStore,
        *,
        boot_id: str,
        limits: TarLimits | None = None,
    ) -> None:
        self._limits = limits or TarLimits()
        self._layers_root = data_root / "layers"
        self._links = self._layers_root / "l"
        self._temporary = data_root / "tmp"
        self._snapshots_root = data_root / "snapshots"
        self._views = run_root / "views"
        self._content = content
        self._boot_id = boot_id
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(max(2, min(4, os.cpu_count() or 2)))
        self._flush: asyncio.Task[None] | None = None
        self._removals: set[asyncio.Task[None]] = set()
        for directory in (
            self._layers_root, self._links, self._temporary, self._snapshots_root, self._views,
            self._temporary / "empty",
        ):  # fmt: skip
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known = {layer.chain_id: layer for layer in self._scan()}
        self._numbers = _next_link(self._links)

    async def recover(self) -> None:
        """Remove half-made layers, layers that may have lost bytes in a crash of the machine, and old views."""
        for layer in [
            item for item in self._known.values() if item.boot_id not in ("", self._boot_id)
        ]:
            await self.remove(layer.chain_id)
        named = {_hex(chain_id) for chain_id in self._known} | {"l"}
        for left in (
            *(path for path in self._layers_root.iterdir() if path.name not in named),
            *(path for path in self._temporary.iterdir() if path.name != "empty"),
        ):
            await to_the_end(remove_tree, left)
        for view in list(self._views.iterdir()):
            await to_the_end(unmount, view)
            await to_the_end(view.rmdir)

    async def close(self) -> None:
        """Finish flushing; mounts stay."""
        await asyncio.gather(*self._removals, return_exceptions=True)
        if self._flush is not None:
            self._flush.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flush
            await self._mark_flushed()

    # Layers

    def has(self, chain_id: str) -> bool:
        return chain_id in self._known

    async def unpack(self, chain_id: str, blob: Path, media_type: str, diff_id: str) -> int:
        del media_type  # what the bytes say is what counts; registries mislabel
        check_digest(chain_id)
        async with self._lock(chain_id):
            if chain_id in self._known:
                return self._known[chain_id].size
            async with self._slots:
                temporary = await to_the_end(self._new_directory)
                try:
                    job = UnpackJob(
                        blob=str(blob),
                        target=str(temporary / "fs"),
                        diff_id=diff_id,
                        max_bytes=self._limits.size,
                        max_entries=self._limits.entries,
                    )
                    result = await unpack(job)
                    return await self._publish(
                        temporary, chain_id, diff_id or result.digest, result.size
                    )
                finally:
                    await to_the_end(remove_tree, temporary)

    async def size(self, chain_id: str) -> int:
        return self._layer(chain_id).size

    async def remove(self, chain_id: str) -> None:
        async with self._lock(chain_id):
            layer = self._known.pop(chain_id, None)
            if layer is None:
                return
            if layer.link:
                (self._links / layer.link).unlink(missing_ok=True)
            # Renamed first, so that a crash in the middle does not leave half a layer under its name.
            trash = self._temporary / os.urandom(8).hex()
            with contextlib.suppress(FileNotFoundError):
                (self._layers_root / _hex(chain_id)).rename(trash)
                self._remove_later(trash)

    def _remove_later(self, trash: Path) -> None:
        """Remove files nobody can find any more beside other work; what is left when the daemon ends, ``recover`` takes."""
        task = asyncio.create_task(to_the_end(remove_tree, trash), name=f"remove {trash.name}")
        self._removals.add(task)
        task.add_done_callback(self._removed)

    def _removed(self, task: "asyncio.Task[None]") -> None:
        self._removals.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.warning("files of a removed layer or container are still there: %s", error)

    async def layers(self) -> Sequence[str]:
        return tuple(self._known)

    # Snapshots

    async def prepare(
        self,
        key: str,
        layers: Sequence[str],
        *,
        volatile: bool = False,
        files: Sequence[str] = (),
    ) -> None:
        home = self._home(key)
        for chain_id in layers:
            self._layer(chain_id)
        async with self._lock(key):
            if (home / "snapshot.json").exists():
                return
            snapshot = _Snapshot(layers=tuple(layers), volatile=volatile)
            await to_the_end(self._make_snapshot, home, snapshot, files)

    async def mount(self, key: str) -> Path:
        home = self._home(key)
        async with self._lock(key):
            return await to_the_end(self._mount, key, home)

    async def unmount(self, key: str) -> None:
        home = self._home(key)
        async with self._lock(key):
            await to_the_end(unmount, home / "merged")

    async def discard(self, key: str) -> None:
        home = self._home(key)
        async with self._lock(key):
            if not home.exists():
                return
            trash = self._temporary / os.urandom(8).hex()
            await to_the_end(_set_aside, home, trash)
            self._remove_later(trash)

    async def snapshots(self) -> Sequence[str]:
        return sorted(path.name for path in self._snapshots_root.iterdir())

    async def commit(
        self,
        key: str,
        parent: Sequence[str],
        *,
        consume: bool = False,
        without: Collection[str] = (),
    ) -> PackedLayer | None:
        """See LayerStore. With ``consume`` the snapshot's files become the layer's and the snapshot is discarded."""
        home = self._home(key)
        self._snapshot(key)
        target = self._content.new_file()
        async with self._lock(key):
            try:
                packed = await pack(
                    PackJob(
                        source=str(home / "upper"),
                        target=str(target),
                        without=tuple(sorted(without)),
                    )
                )
                if not packed.entries:
                    return None
                blob = await self._content.adopt(target, packed.digest, packed.length, OCI_LAYER)
            finally:
                target.unlink(missing_ok=True)
            chain_id = _chain(parent, packed.digest)
            if consume:
                size = await self._promote(home, chain_id, packed)
            else:
                size = await self.unpack(
                    chain_id, self._content.path(packed.digest), OCI_LAYER, packed.digest
                )
        if consume:
            await self.discard(key)
        return PackedLayer(chain_id=chain_id, diff_id=packed.digest, blob=blob, size=size)

    async def changes(self, key: str) -> Sequence[Change]:
        snapshot = self._snapshot(key)
        lowers = [str(self._files(chain_id)) for chain_id in reversed(snapshot.layers)]
        return await to_the_end(compare, str(self._home(key) / "upper"), lowers)

    async def usage(self, key: str) -> int:
        self._snapshot(key)
        return await to_the_end(tree_usage, self._home(key) / "upper")

    def places(self, layers: Sequence[str], key: str = "") -> Mapping[str, str]:
        known = [chain_id for chain_id in reversed(layers) if chain_id in self._known]
        lowers = [str(self._files(chain_id)) for chain_id in known]
        found: dict[str, str] = {}
        if key:
            home = self._home(key)
            for name, part in (("UpperDir", "upper"), ("WorkDir", "work"), ("MergedDir", "merged")):
                found[name] = str(home / part)
        elif lowers:
            found["UpperDir"] = lowers.pop(0)
        return {**found, "LowerDir": ":".join(lowers)} if lowers else found

    @contextlib.asynccontextmanager
    async def view(self, layers: Sequence[str]) -> AsyncIterator[Path]:
        target = self._views / os.urandom(8).hex()
        lowers = self._lowers(layers)
        target.mkdir(mode=0o700)
        try:
            if len(lowers.lowers) == 1:
                await to_the_end(bind, lowers.lowers[0], target, read_only=True)
            else:
                await to_the_end(overlay, target, lowers)
            yield target
        finally:
            await to_the_end(unmount, target)
            with contextlib.suppress(OSError):
                target.rmdir()

    @contextlib.asynccontextmanager
    async def furnished(self, key: str, items: Sequence[Furnishing]) -> AsyncIterator[Path]:
        root = await self.mount(key)
        target = self._views / os.urandom(8).hex()
        target.mkdir(mode=0o700)
        try:
            await asyncio.to_thread(bind, root, target, recursive=False)
            await asyncio.to_thread(furnish, target, items)
            yield target
        finally:
            await asyncio.to_thread(unmount, target)
            with contextlib.suppress(OSError):
                target.rmdir()

    # What the above is made of

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _layer(self, chain_id: str) -> _Layer:
        try:
            return self._known[chain_id]
        except KeyError:
            raise NotFoundError(f"the layer {chain_id} is not unpacked") from None

    def _files(self, chain_id: str) -> Path:
        self._layer(chain_id)
        return self._layers_root / _hex(chain_id) / "fs"

    def _home(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise InvalidInputError(f'"{key[:200]}" is not a possible snapshot key')
        return self._snapshots_root / key

    def _snapshot(self, key: str) -> _Snapshot:
        try:
            data = (self._home(key) / "snapshot.json").read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"the snapshot {key} does not exist") from None
        return from_json(_Snapshot, json.loads(data))

    def _scan(self) -> list[_Layer]:
        found = []
        for home in self._layers_root.iterdir():
            with contextlib.suppress(OSError, ValueError, InvalidInputError):
                found.append(from_json(_Layer, json.loads((home / "layer.json").read_bytes())))
        return found

    def _new_directory(self) -> Path:
        path = self._temporary / os.urandom(8).hex()
        path.mkdir(mode=0o700)
        (path / "fs").mkdir(mode=0o755)
        (path / "fs").chmod(0o755)
        return path

    async def _publish(self, temporary: Path, chain_id: str, diff_id: str, size: int) -> int:
        self._numbers += 1
        layer = _Layer(
            chain_id=chain_id,
            diff_id=diff_id,
            size=size,
            link=_base36(self._numbers),
            boot_id=self._boot_id,
        )
        home = self._layers_root / _hex(chain_id)

        def work() -> None:
            _write(temporary / "layer.json", layer)
            if home.exists():
                remove_tree(home)
            temporary.rename(home)
            (self._links / layer.link).symlink_to(f"../{home.name}/fs")

        await to_the_end(work)
        self._known[chain_id] = layer
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._flush_later(), name="flush layers")
        return size

    async def _promote(self, home: Path, chain_id: str, packed: JobResult) -> int:
        """Make the upper of an unmounted snapshot the layer itself."""
        async with self._lock(chain_id):
            if chain_id in self._known:
                return self._known[chain_id].size
            await to_the_end(unmount, home / "merged")
            temporary = await to_the_end(self._new_directory)
            try:
                (temporary / "fs").rmdir()
                (home / "upper").rename(temporary / "fs")
                size = await to_the_end(tree_usage, temporary / "fs")
                return await self._publish(temporary, chain_id, packed.digest, size)
            finally:
                await to_the_end(remove_tree, temporary)

    async def _flush_later(self) -> None:
        await asyncio.sleep(_FLUSH_AFTER)
        await self._mark_flushed()

    async def _mark_flushed(self) -> None:
        waiting = [layer for layer in self._known.values() if layer.boot_id]
        if not waiting:
            return

        def work() -> None:
            with directory_fd(self._layers_root) as fd:
                sync_filesystem(fd)

        # What is not marked is only unpacked once more after the next crash.
        with contextlib.suppress(OSError, HostError):
            await to_the_end(work)
            for layer in waiting:
                if self._known.get(layer.chain_id) is layer:
                    flushed = replace(layer, boot_id="")
                    _write(self._layers_root / _hex(layer.chain_id) / "layer.json", flushed)
                    self._known[layer.chain_id] = flushed

    def _make_snapshot(self, home: Path, snapshot: _Snapshot, files: Sequence[str]) -> None:
        for directory in (home, home / "work", home / "merged"):
            directory.mkdir(mode=0o700, exist_ok=True)
        upper = home / "upper"
        upper.mkdir(mode=0o755, exist_ok=True)
        top = self._files(snapshot.layers[-1]).lstat() if snapshot.layers else None
        # The merged root shows the upper's own mode and owner: take over what the image's root has.
        upper.chmod(stat.S_IMODE(top.st_mode) if top else 0o755)
        if top and (top.st_uid, top.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(upper, top.st_uid, top.st_gid)
        for name in files:
            fd = os.open(upper / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o755)
            os.fchmod(fd, 0o755)
            os.close(fd)
        _write(home / "snapshot.json", snapshot)

    def _mount(self, key: str, home: Path) -> Path:
        snapshot = self._snapshot(key)
        target = home / "merged"
        if is_mount_point(target):
            return target
        lowers = self._lowers(snapshot.layers)
        if snapshot.volatile:
            # The kernel marks the work directory so that it is not used twice; after a crash the mark stays.
            remove_tree(home / "work")
            (home / "work").mkdir(mode=0o700)
        overlay(
            target,
            replace(lowers, upper=home / "upper", work=home / "work", volatile=snapshot.volatile),
        )
        return target

    def _lowers(self, layers: Sequence[str]) -> Overlay:
        """Return the overlay of the layers, the topmost first as the kernel wants them."""
        ordered = list(reversed(layers))
        if not ordered:
            return Overlay(lowers=[self._temporary / "empty"])
        return Overlay(
            lowers=[self._files(chain_id) for chain_id in ordered],
            links=self._links,
            short_names=[self._layer(chain_id).link for chain_id in ordered],
        )


def _set_aside(home: Path, trash: Path) -> None:
    unmount(home / "merged")
    home.rename(trash)


def _chain(parent: Sequence[str], diff_id: str) -> str:
    return digest_of(f"{parent[-1]} {diff_id}".encode()) if parent else chain_ids([diff_id])[0]


def _hex(chain_id: str) -> str:
    return chain_id.partition(":")[2]


def _write(path: Path, value: object) -> None:
    try:
        atomic_write(path, to_json_text(value).encode(), durable=False)
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", errno=error.errno or 0) from error


def _next_link(links: Path) -> int:
    return max((int(path.name, 36) for path in links.iterdir()), default=0)


def _base36(number: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number:
        number, rest = divmod(number, 36)
        text = digits[rest] + text
    return text or "0"
