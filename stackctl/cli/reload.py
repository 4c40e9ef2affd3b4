"""Hot reload beside an attached ``up``: a switch."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stackctl.cli.context import Session
from stackctl.orchestrator.model.stack import Stack

if TYPE_CHECKING:
    from stackctl.cli.watching import Watching


class Switch:
    """Hot reload that is turned on and off while the stack runs; ``prepare`` refuses wrong rules at once."""

    def __init__(
        self,
        session: Session,
        services: Sequence[str],
        *,
        yes: bool,
        say: Callable[[str], None],
    ) -> None:
        self._session = session
        self._services = tuple(services)
        self._yes = yes
        self._say = say
        self._ready: Watching | None = None
        self._running = contextlib.ExitStack()
        self.on = False

    def prepare(self, stack: Stack) -> None:
        """Read the rules; raises NotFoundError, InvalidInputError."""
        from stackctl.cli.watching import Watching

        self._ready = Watching(self._session, stack, self._services, yes=self._yes, say=self._say)

    def turn_on(self) -> None:
        """Watch from now on, by what the stack file says now; raises as ``prepare``."""
        if self._ready is None:
            self.prepare(self._session.stack(self._services))
        ready, self._ready = self._ready, None
        if ready is not None:
            self._running.enter_context(ready.alongside())
            self.on = True

    def turn_off(self) -> None:
        """Stop watching; nothing happens where it is off."""
        self._running.close()
        self.on = False
