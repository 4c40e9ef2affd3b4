"""A clock that a test moves."""

import asyncio


class ManualClock:
    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    async def sleep(self, seconds: float) -> None:
        """Time passes at once, in which others do what takes no time."""
        self.slept.append(seconds)
        self._now += seconds
        for _ in range(20):
            await asyncio.sleep(0)
