"""The keys of an attached ``up``: what each does, and the line that says so."""

from collections.abc import Callable
from typing import Protocol

from stackctl.cli import joining
from stackctl.cli.context import Session
from stackctl.cli.keyboard import Keyboard
from stackctl.cli.logview import LogView
from stackctl.cli.planned import UpRequest
from stackctl.cli.render import plan as render
from stackctl.errors import StackctlError
from stackctl.orchestrator.model.stack import Stack

HELP = "keys: w watch · l logs of one service · r restart · p plan · d detach · q quit · ? this"


class Reload(Protocol):
    """Hot reload that can be switched."""

    @property
    def on(self) -> bool: ...
    def turn_on(self) -> None: ...
    def turn_off(self) -> None: ...


class Attached(Protocol):
    """The attached stack: ``leave`` stops following it; while ``restarting`` is on, containers end on purpose."""

    view: LogView

    def leave(self, how: str) -> None: ...
    def restarting(self, *, on: bool) -> None: ...


class Menu:
    """Does what keys ask for; ``press`` is called in the keyboard's thread."""

    def __init__(
        self,
        session: Session,
        stack: Stack,
        request: UpRequest,
        attached: Attached,
        reload: Reload,
        services: set[str],
    ) -> None:
        self._session = session
        self._stack = stack
        self._request = request
        self._attached = attached
        self._reload = reload
        self._services = sorted(services)
        self.keyboard = Keyboard(self.press)
        self._keys: dict[str, Callable[[], None]] = {
            "w": self._toggle_watch,
            "l": self._choose_logs,
            "r": self._restart,
            "p": self._plan,
            "d": lambda: attached.leave("detach"),
            "q": lambda: attached.leave("quit"),
            "?": self.help,
            "h": self.help,
            "\r": lambda: session.note(""),
            "\n": lambda: session.note(""),
        }

    def press(self, key: str) -> None:
        act = self._keys.get(key.lower())
        if act is None:
            return
        try:
            act()
        except StackctlError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            self._session.note(f"{error.message}{hint}")

    def help(self) -> None:
        self._session.note(HELP)

    def _toggle_watch(self) -> None:
        if self._reload.on:
            self._reload.turn_off()
            self._session.note("watch is off")
        else:
            self._reload.turn_on()

    def _ask(self, question: str) -> str | None:
        """Ask for a service; "" for all of them."""
        if len(self._services) == 1:
            return self._services[0]
        return self.keyboard.ask(f"{question} (Enter: all) ", self._services)

    def _choose_logs(self) -> None:
        with self._attached.view.held():
            name = self._ask("logs of which service?")
            if name is None:
                return
            self._attached.view.narrow({name} if name else None)
            self._session.note(f"logs of {name or 'all services'}")

    def _restart(self) -> None:
        with self._attached.view.held():
            name = self._ask("restart which service?")
        if name is None:
            return
        self._attached.restarting(on=True)
        try:
            chosen = (name,) if name else self._request.services
            joining.restart(self._session, self._stack.name, chosen, timeout=self._request.timeout)
        finally:
            self._attached.restarting(on=False)

    def _plan(self) -> None:
        request = UpRequest(services=self._request.services, no_deps=self._request.no_deps)
        stack = self._session.stack_to_start(request.services, no_deps=request.no_deps)
        plan = joining.plan_up(self._session.engine(), stack, request, self._session.key())
        text = render.text(plan, colour=self._session.colour_of_progress)
        self._session.note(text.rstrip("\n"))
