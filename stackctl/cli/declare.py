"""What commands are declared with: the words of typer, without its import, which would cost more than all of ``ps``.

A command is a function whose parameters say, as they would to typer, ``Annotated[type, Option("-d", "--detach",
help=…)]``. ``commandline`` reads plain command lines by these declarations; help, completion and every mistake are
typer's own, from the same declarations (``tree``).
"""

from typing import Any, TypeVar

T = TypeVar("T")


class Parameter:
    """Where a value comes from: ``words`` are an option's, ``told`` what else typer is to know."""

    __slots__ = ("told", "words")

    def __init__(self, *words: str, **told: Any) -> None:  # noqa: ANN401
        self.words = words
        self.told = told


class Option(Parameter):
    """A value with a name on the command line."""


class Argument(Parameter):
    """A value known by its place."""


class Context:
    """What a command gets besides its values; click's own has the same two members."""

    def __init__(self) -> None:
        self.obj: object = None

    def find_object(self, kind: type[T]) -> T | None:
        return self.obj if isinstance(self.obj, kind) else None


class Exit(Exception):
    """Ends the command with an exit code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.exit_code = code


class BadParameter(Exception):
    """A value that cannot be one."""

    def format_message(self) -> str:
        return str(self)


def confirm(question: str, *, abort: bool = False) -> bool:
    """Ask on the terminal; with ``abort`` a no ends the command."""
    import typer

    return typer.confirm(question, abort=abort)
