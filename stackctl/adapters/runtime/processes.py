"""Processes by pidfd."""

from stackctl.host import pidfd, procstat


class HostProcesses:
    """The processes that the daemon sees in /proc."""

    def space(self) -> str:
        return procstat.pid_space()

    def start_time(self, pid: int) -> int:
        return procstat.start_time(pid) if pid > 0 else 0

    async def gone(self, pid: int, started: int) -> None:
        await pidfd.wait_gone(pid, started)
