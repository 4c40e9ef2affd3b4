"""Processes: those of the host that something is bound to, known by number and start time."""

from typing import Protocol


class Processes(Protocol):
    """Processes of the host as a lease's owners."""

    def space(self) -> str:
        """Return what process numbers are numbers of (boot and pid namespace); "" when it cannot be told."""

    def start_time(self, pid: int) -> int:
        """Return when a process began, in the kernel's ticks; 0 when there is no such living process."""

    async def gone(self, pid: int, started: int) -> None:
        """Return when that very process has ended, at once when it has already; never polls."""
