"""An engine that is only looked at: ``--dry-run`` says which calls would change something, and makes none."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from stackctl.errors import StackctlError

E = TypeVar("E")

_CHANGING = (
    "create_", "start_", "stop_", "restart_", "kill_", "pause_", "unpause_", "rename_", "remove_", "put_", "commit_",
    "connect_", "disconnect_", "pull_", "push_", "build_", "import_", "load_", "tag_", "attach", "wait_", "resize_",
    "relieve_", "drain_",
)  # fmt: skip


class Rehearsed(StackctlError):
    """A call whose answer the command needs was not made: the rehearsal ends here."""

    def __init__(self) -> None:
        super().__init__("the dry run ends here")


class RehearsalEngine:
    """Passes reading calls on and tells of the others."""

    def __init__(self, engine: Any, say: Callable[[str], None]) -> None:  # noqa: ANN401 - as above
        self._engine = engine
        self._say = say

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the engine has
        found = getattr(self._engine, name)
        if not name.startswith(_CHANGING):
            return found

        def tell(*positional: object, **_options: object) -> None:
            what = name.replace("_", " ")
            subject = next((word for word in positional if isinstance(word, str)), "")
            self._say(f"dry run: would {what} {self._name(subject)}".rstrip())
            if name in ("create_exec", "attach", "create_container"):
                raise Rehearsed

        return tell

    def _name(self, subject: str) -> str:
        """Return a container's name for its ID: people know it by that."""
        if len(subject) != 64:
            return subject
        try:
            return str(self._engine.inspect_container(subject).get("Name", subject)).lstrip("/")
        except StackctlError:
            return subject


def rehearsal(engine: E, say: Callable[[str], None]) -> E:
    """Return the engine as one that changes nothing."""
    return cast("E", RehearsalEngine(engine, say))
