"""Clock: the machine's time."""

import asyncio
import time


class SystemClock:
    """The Clock contract by the kernel's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
