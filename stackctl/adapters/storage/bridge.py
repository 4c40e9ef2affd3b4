"""Between the event loop and code that blocks: streams into a thread, and out of one.

A slow sender must not occupy one of the few shared worker threads, so a stream into a thread has a thread of its own.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from stackctl.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")
_AHEAD = 8
_END = object()


class _Pipe:
    """Chunks from the loop to one thread; at most a few wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_AHEAD)
        self._ready = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._broken = False
        self._head = b""

    async def put(self, chunk: bytes) -> None:
        await self._room.acquire()
        with self._ready:
            self._chunks.append(chunk)
            self._ready.notify()

    def end(self, *, broken: bool = False) -> None:
        with self._ready:
            self._ended = True
            self._broken = broken
            self._ready.notify()

    def read(self, size: int = -1, /) -> bytes:
        """For the thread: return the next bytes, b"" at the end. Raises UnavailableError when the sender is gone."""
        if not self._head:
            self._head = self._next()
        if 0 <= size < len(self._head):
            data, self._head = self._head[:size], self._head[size:]
        else:
            data, self._head = self._head, b""
        return data

    def _next(self) -> bytes:
        with self._ready:
            while not self._chunks and not self._ended:
                self._ready.wait()
            if self._broken:
                raise UnavailableError("the stream was cut off")
            if not self._chunks:
                return b""
            chunk = self._chunks.popleft()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for room
            self._loop.call_soon_threadsafe(self._room.release)
        return chunk


async def into_thread(chunks: AsyncIterator[bytes], work: Callable[[_Pipe], T]) -> T:
    """Run ``work(reader)`` in a thread of its own, fed by the chunks; return what it returns, raise what it raises.

    ``work`` reads to the end what it wants read to the end. Cancelled, this waits for the thread to notice.
    """
    loop = asyncio.get_running_loop()
    pipe = _Pipe()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = context.run(work, pipe)
        except BaseException as error:  # noqa: BLE001 - handed to the caller
            failure = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, failure)

    context = contextvars.copy_context()
    threading.Thread(target=run, name="stream", daemon=True).start()
    feeder = asyncio.ensure_future(_feed(chunks, pipe))
    try:
        waiting: tuple[asyncio.Future[Any], ...] = (done, feeder)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if feeder.done() and feeder.exception() is not None:
            pipe.end(broken=True)
            await asyncio.wait({done})
            done.exception()
            raise feeder.exception() or UnavailableError("the stream was cut off")
        return await done
    finally:
        if not done.done():
            pipe.end(broken=True)
            await asyncio.shield(asyncio.wait({done}))
        feeder.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await feeder


async def _feed(chunks: AsyncIterator[bytes], pipe: _Pipe) -> None:
    async for chunk in chunks:
        if chunk:
            await pipe.put(chunk)
    pipe.end()


async def to_the_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run work in a worker thread; cancelled, wait for it all the same, since a thread cannot be stopped.

    So that what the caller cleans up afterwards is not written to any more.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise


async def out_of_thread(make: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """Yield what a blocking iterator yields, each step in a worker thread."""
    iterator = await asyncio.to_thread(make)
    try:
        while (chunk := await asyncio.to_thread(next, iterator, _END)) is not _END:
            if isinstance(chunk, bytes):
                yield chunk
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await asyncio.to_thread(close)
