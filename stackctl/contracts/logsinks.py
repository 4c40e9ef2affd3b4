"""LogSinks: where the logs of containers go besides their files, as the journald and syslog drivers have it."""

from typing import Protocol


class LogSink(Protocol):
    """One open way to a log of the machine or the network."""

    async def send(self, message: bytes) -> None:
        """Hand over one message; waits where the other side is slow or gone for a while, and loses none."""

    async def close(self) -> None:
        """Let go of it; may be repeated."""


class LogSinks(Protocol):
    """The logs there are."""

    def has_journal(self) -> bool:
        """Tell whether this machine keeps a journal."""

    def has_syslog(self) -> bool:
        """Tell whether a syslog daemon listens on this machine."""

    def journal(self) -> LogSink:
        """Return a way to the journal, for messages in its native protocol."""

    def syslog(self, address: str) -> LogSink:
        """Return a way to a syslog daemon: "unix://", "unixgram://", "udp://", "tcp://", or "" for this machine's."""
