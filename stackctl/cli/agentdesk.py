"""What commands tell the agents that keep stacks true to their files; the agents themselves are in ``agents``."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackctl.cli.context import Session
    from stackctl.cli.planned import UpRequest
    from stackctl.orchestrator.model.stack import Stack


class AgentDesk:
    """The agents noted in a folder, seen from one command; what it takes is imported where there are any."""

    def __init__(self, session: "Session", folder: Path) -> None:
        self.folder = folder
        self._session = session

    def start(self, stack: "Stack", request: "UpRequest") -> None:
        """Let an agent keep the stack as this ``up`` made it."""
        from stackctl.cli import agents

        order = agents.order_of(self._session, stack, request)
        known = agents.start(self._session, self.folder, order)
        self._session.note(
            f"an agent (pid {known.pid}) keeps {stack.name} true to its file from now on"
        )

    def tell(self, stack: "Stack", request: "UpRequest") -> None:
        """Let the stack's agent, where there is one, keep what this ``up`` asked for."""
        if self._are_there and not self._session.options.dry_run:
            from stackctl.cli import agents

            agents.follow(self._session, self.folder, stack, request)

    def stop(self, project: str) -> None:
        """Stop the stack's agent, where there is one."""
        if self._are_there and not self._session.options.dry_run:
            from stackctl.cli import agents

            for known in agents.find(self.folder, project, self._session.address()):
                if agents.stop(known):
                    self._session.note(f"stopped the agent of {project}")

    def stop_all(self) -> None:
        """Stop every agent of the built-in engine."""
        from stackctl.cli import agents

        address = f"unix://{self._session.paths().socket}"
        for known in agents.find_all(self.folder):
            if known.order.engine == address:
                agents.stop(known)

    def warn_of(self, project: str) -> None:
        """Say that what is about to be taken away comes back, where an agent keeps the stack."""
        if self._are_there:
            from stackctl.cli import agents

            for known in agents.find(self.folder, project, self._session.address()):
                if known.pid:
                    self._session.warn(
                        f"an agent keeps {project} true to its file and brings back what stops"
                        f" (stackctl agent stop {project} ends it)"
                    )

    @property
    def _are_there(self) -> bool:
        return self.folder.is_dir()
