"""Who has to wait before being brought back again, and who has done its work; pure.

A service that ends soon after it was brought back, or that cannot be brought back, waits twice as long each time; one
that stayed up for a while starts anew.
"""

from collections.abc import Set as AbstractSet

_FIRST, _MOST = 0.2, 60.0
_STAYED = 10.0


class Ledger:
    """Instants are seconds of any clock; "" stands for what concerns no service, which holds all of them."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self._asked: set[str] = set()

    # What happens

    def brought(self, service: str, now: float) -> None:
        """Note that a service was just brought back."""
        self._begun[service] = now

    def failed(self, service: str, now: float) -> None:
        """Note that a service could not be brought back."""
        strikes = self._strikes[service] = self._strikes.get(service, 0) + 1
        self._until[service] = now + min(_FIRST * 2.0 ** (strikes - 1), _MOST)

    def signalled(self, container: str) -> None:
        """Note that someone stops or kills a container: its end is then no fault of its own."""
        self._asked.add(container)

    def started(self, container: str) -> None:
        """Note that a container runs: it is not done, and its end will be of its own."""
        self.done.discard(container)
        self._asked.discard(container)

    def ended(self, service: str, container: str, code: int, now: float) -> None:
        """Note the end of a container.

        One that ended by itself with 0 is done; an end soon after it was brought back makes its service wait.
        """
        if container in self._asked:
            self._asked.discard(container)
        elif code == 0:
            self.done.add(container)
        elif now - self._begun.get(service, now - _STAYED) < _STAYED:
            self.failed(service, now)
        else:
            self._strikes.pop(service, None)

    def gone(self, container: str) -> None:
        """Note that a container was removed."""
        self.done.discard(container)
        self._asked.discard(container)

    # What follows

    def held(self, now: float) -> AbstractSet[str]:
        """Return the services that have to wait still."""
        return {service for service, until in self._until.items() if until > now}

    def patience(self, now: float) -> float | None:
        """Return how many seconds until the first of those that wait may be tried again; None where none waits.

        One whose time has come counts until it is let go: it may have come while others were being mended.
        """
        return min((max(until - now, 0.0) for until in self._until.values()), default=None)

    def let_go(self, now: float) -> None:
        """Note that all whose time has come are tried now."""
        self._until = {service: until for service, until in self._until.items() if until > now}
