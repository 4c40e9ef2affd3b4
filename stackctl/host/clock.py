"""The clock of the machine."""

import asyncio
import time


class SystemClock:
    """``contracts.clock.Clock`` by the kernel's clocks and the event loop's timers."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
