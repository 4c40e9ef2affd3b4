"""A build context as it comes in: a directory of this host, or a tar.

A client of the classic wire sends its whole context for every build, mostly to find that nothing changed. Making
thousands of small files on a disk takes most of such a build, so a plain tar that is not large is unpacked in memory
(a tmpfs) where there is room for it; everything else, and what does not fit after all, goes to the disk.
"""

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from stackctl.builder.context import Context, Digests
from stackctl.contracts.storage import RootTree
from stackctl.errors import HostError, InvalidInputError

_LARGEST = 256 << 20
_AT_ONCE = 2
# A compressed tar may hold far more than what came.
_HEAD = 512
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
        tape = _Tape(source, _LARGEST)
        try:
            if await tape.is_plain():
                # What does not fit after all is known when much of it is there.
                with contextlib.suppress(_TooLargeError, HostError):
                    return await self._unpacked(self._memory, tape.play())
            return await self._unpacked(self._disk, tape.play(beyond=True))
        finally:
            await tape.close()
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
            # A step may mount it, and be anyone; the directory above lets nobody in.
            path.chmod(0o755)
            return path
        except (FileNotFoundError, FileExistsError):
            # Another context was the last one in it, and took it away in between (mkdir says "exists" for that too).
            continue
    raise HostError(f"cannot make a directory in {parent}")


class _TooLargeError(Exception):
    """More came than may be kept."""


class _Tape:
    """What comes in, kept so that it can be read from the start again, until it is more than ``limit`` bytes.

    It is unpacked while it still comes, from here, so that trying again elsewhere loses nothing.
    """

    def __init__(self, source: AsyncIterator[bytes], limit: int) -> None:
        self._source = source
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0
        self._large = False
        self._more = asyncio.Event()
        self._recording = asyncio.create_task(self._record())

    async def _record(self) -> None:
        try:
            async for chunk in self._source:
                self._chunks.append(chunk)
                self._size += len(chunk)
                self._more.set()
                if self._size > self._limit:
                    self._large = True
                    return
        finally:
            self._more.set()

    async def is_plain(self) -> bool:
        """Tell whether it is a tar that is not compressed."""
        while self._size < _HEAD and not self._recording.done():
            await self._wait()
        head = b"".join(self._chunks[: _HEAD + 1])[:_HEAD]
        return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC

    async def play(self, *, beyond: bool = False) -> AsyncIterator[bytes]:
        """Yield all of it; raises _TooLargeError where the limit is reached, unless it is to be read on beyond that."""
        place = 0
        while True:
            over = self._recording.done()
            while place < len(self._chunks):
                yield self._chunks[place]
                place += 1
            if over:
                break
            await self._wait()
        self._recording.result()
        if self._large:
            if not beyond:
                raise _TooLargeError
            async for chunk in self._source:
                yield chunk

    async def close(self) -> None:
        """Stop listening; may be called twice."""
        self._recording.cancel()
        await asyncio.gather(self._recording, return_exceptions=True)
        self._chunks.clear()

    async def _wait(self) -> None:
        await self._more.wait()
        self._more.clear()


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
