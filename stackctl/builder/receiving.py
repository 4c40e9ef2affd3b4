"""A build context as it comes in: a directory of this host, or a tar.

A client of the classic wire sends its whole context for every build, mostly to find that nothing changed. Making
thousands of small files on a disk takes most of such a build, so a plain tar that is not large is unpacked in memory
(a tmpfs) where there is room for it; everything else, and what does not fit after all, goes to the disk.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stackctl.builder.context import Context, Digests
from stackctl.contracts.storage import RootTree
from stackctl.errors import HostError, InvalidInputError

_LARGEST = 256 << 20
_AT_ONCE = 2
# A compressed tar may hold far more than what came.
_MAGIC_AT, _MAGIC = 257, b"ustar"


class Receiver:
    """Receives contexts below ``disk``, or below ``memory`` where there is one."""

    def __init__(self, files: RootTree, digests: Digests, disk: Path, memory: Path | None) -> None:
        self._files = files
        self._digests = digests
        self._disk = disk
        self._memory = memory
        self._in_memory = 0
        # What a daemon that was killed left there.
        for place in (disk, memory):
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)

    async def receive(self, source: AsyncIterator[bytes] | Path) -> Context:
        """Return the context; the caller closes it. Raises InvalidInputError for a bad tar or a missing directory."""
        if isinstance(source, Path):
            if not await asyncio.to_thread(source.is_dir):
                raise InvalidInputError(f"the build context {source} is not a directory")
            return Context(source, self._digests, temporary=False)
        if self._memory is None or self._in_memory >= _AT_ONCE or not _has_room(self._memory):
            return await self._unpacked(self._disk, source)
        self._in_memory += 1
        try:
            first, whole = await _collected(source)
            if whole:
                try:
                    return await self._unpacked(self._memory, _again(first))
                except HostError:  # full after all
                    return await self._unpacked(self._disk, _again(first))
            return await self._unpacked(self._disk, _chained(first, source))
        finally:
            self._in_memory -= 1

    async def _unpacked(self, directory: Path, chunks: AsyncIterator[bytes]) -> Context:
        root = await asyncio.to_thread(_new_directory, directory)
        context = Context(root, self._digests, temporary=True, tidy=directory == self._memory)
        try:
            await self._files.unpack(root, "/", chunks)
        except BaseException:
            await asyncio.to_thread(context.close)
            raise
        return context


def _new_directory(parent: Path) -> Path:
    for _ in range(100):
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(prefix="context-", dir=parent))
            path.chmod(
                0o755
            )  # a step may mount it, and be anyone; the directory above lets nobody in
            return path
        except (FileNotFoundError, FileExistsError):
            # Another context was the last one in it, and took it away in between (mkdir says "exists" for that too).
            continue
    raise HostError(f"cannot make a directory in {parent}")


async def _collected(source: AsyncIterator[bytes]) -> tuple[list[bytes], bool]:
    """Return the first chunks, and whether they are all of a plain tar that is not large."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in source:
        chunks.append(chunk)
        size += len(chunk)
        if size > _LARGEST:
            return chunks, False
    return chunks, _is_plain(chunks)


def _is_plain(chunks: Sequence[bytes]) -> bool:
    head = b""
    for chunk in chunks:
        head += chunk[: 512 - len(head)]
        if len(head) >= 512:
            break
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


async def _again(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def _chained(chunks: Sequence[bytes], source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    async for chunk in source:
        yield chunk


def _has_room(memory: Path) -> bool:
    """Tell whether a context more in memory would not be missed: twice its size there, four times in all."""
    try:
        free = shutil.disk_usage(memory.parent).free
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except (OSError, ValueError):
        return False
    available = re.search(r"^MemAvailable: *([0-9]+) kB", text, re.MULTILINE)
    known = int(available[1]) << 10 if available else 0
    return free > 2 * _LARGEST and known > 4 * _LARGEST
