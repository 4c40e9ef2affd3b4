"""Clock: now and sleep, so that nobody else asks the time."""

from typing import Protocol


class Clock(Protocol):
    """Time as an argument; tests pass one that never waits."""

    def now(self) -> float:
        """Return the wall clock, seconds since the epoch."""

    def monotonic(self) -> float:
        """Return a clock that never goes back, seconds."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
