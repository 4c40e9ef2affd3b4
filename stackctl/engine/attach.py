"""Attaching to a container: its streams, also before it starts, and what it wrote before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from stackctl.contracts.runtime import Streams

_AFTER_HEAD = 0.02
History = Callable[[], AsyncIterator[tuple[int, bytes]]]


class Attached:
    """The streams of a container as one client sees them; joins when the container starts."""

    def __init__(
        self,
        opener: Callable[[], Awaitable[Streams]],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        stream: bool,
        history: History | None,
        left: Callable[["Attached"], None],
    ) -> None:
        self._opener = opener
        self._stdin = stdin
        self._wanted = {number for number, on in ((1, stdout), (2, stderr)) if on}
        self._stream = stream
        self._history = history
        self._left = left
        self._joined: asyncio.Future[Streams | None] = asyncio.get_running_loop().create_future()

    async def join(self) -> None:
        """Join the streams now; the container is created or running."""
        if self._joined.done():
            return
        streams = await self._opener()
        if self._joined.done():  # the client left while it was opened
            await streams.close()
            return
        self._joined.set_result(streams)

    def give_up(self) -> None:
        """The container will not start: there is no output."""
        if not self._joined.done():
            self._joined.set_result(None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield (1|2, bytes): what it wrote before, when that was asked for, then what it writes."""
        if self._history is not None:
            # docker-py reads the head of the answer through a buffer that it then drops: what comes with it is lost.
            await asyncio.sleep(_AFTER_HEAD)
            async for number, data in self._history():
                if number in self._wanted:
                    yield number, data
        if not self._stream:
            return
        streams = await asyncio.shield(self._joined)
        if streams is None:
            return
        async for number, data in streams.output():
            if number in self._wanted:
                yield number, data

    async def write(self, data: bytes) -> None:
        """Write to standard input, once the container has started."""
        if not self._stdin:
            return
        streams = await asyncio.shield(self._joined)
        if streams is not None:
            await streams.write(data)

    async def close_input(self) -> None:
        """Let the process see end of file on standard input."""
        if not self._stdin:
            return
        streams = await asyncio.shield(self._joined)
        if streams is not None:
            await streams.close_input()

    async def close(self) -> None:
        """Leave; the container goes on."""
        self._left(self)
        if not self._joined.done():
            self._joined.set_result(None)
            return
        streams = self._joined.result()
        if streams is not None:
            await streams.close()
