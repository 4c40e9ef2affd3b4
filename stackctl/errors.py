"""Every kind of failure, on one page.

The kind tells a program what to do; the text tells a person what happened, where, and what to try.
Only ``cli.main`` and ``daemon.errors`` turn a kind into an exit code or an HTTP status. A foreign exception is
mapped at the door it comes through, with ``raise ... from``.
"""

from errno import ENOSPC

from stackctl.frozen import frozen


class StackctlError(Exception):
    """The root of every failure we name.

    ``hint`` is one sentence saying what to try, shown after the message; empty when there is nothing to add.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def worded(self) -> str:
        """The message with its hint: in brackets behind a line, on a line of its own below an excerpt."""
        if not self.hint:
            return self.message
        return (
            f"{self.message}\nhint: {self.hint}"
            if "\n" in self.message
            else f"{self.message} ({self.hint})"
        )


class InvalidInputError(StackctlError):
    """The request or file is wrong and repeating it cannot help (HTTP 400)."""


class UnauthorizedError(StackctlError):
    """Credentials are missing or refused (HTTP 401)."""


class ForbiddenError(StackctlError):
    """The caller may not do this (HTTP 403)."""


class NotFoundError(StackctlError):
    """The thing named does not exist (HTTP 404)."""


class ConflictError(StackctlError):
    """The thing exists, but its state forbids the request (HTTP 409)."""


class PortTakenError(ConflictError):
    """A host port is taken; ``holder`` is the ID of the container of ours that has it, else empty."""

    def __init__(self, message: str, *, holder: str = "") -> None:
        super().__init__(message)
        self.holder = holder


class NotModifiedError(StackctlError):
    """It already is as asked for (HTTP 304)."""


class UnsupportedError(StackctlError):
    """Valid, but not offered here (HTTP 501)."""


class UnavailableError(StackctlError):
    """The other side cannot be reached or is not ready; later it may be (HTTP 503)."""


class DeadlineError(StackctlError):
    """It did not happen in the time allowed."""


class HostError(StackctlError):
    """The kernel or a program of the host refused.

    ``errno`` is the kernel's error number where there was one, else 0; ``exit_code`` the program's, else -1.
    """

    def __init__(
        self, message: str, *, hint: str = "", errno: int = 0, exit_code: int = -1
    ) -> None:
        if errno == ENOSPC and not hint:
            hint = "free some space: stackctl image prune; or move STACKCTL_DATA_ROOT"
        super().__init__(message, hint=hint)
        self.errno = errno
        self.exit_code = exit_code


class StartError(StackctlError):
    """The container's program could not be started; ``exit_code`` is 126, 127 or 128 as Docker reports them."""

    def __init__(self, message: str, *, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class InterruptedByUserError(StackctlError):
    """The user asked to stop (Ctrl-C or SIGTERM)."""


@frozen
class Problem:
    """One mistake in a stack file.

    ``path`` is the file as the user would name it, ``line`` and ``column`` count from 1 (0: unknown, or the file as
    a whole). ``excerpt`` is the source line (of a long one the part around the mistake), empty where there is none,
    ``caret`` the column in it, counted from 1; ``where`` the dotted path of the key.
    """

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""
    caret: int = 0
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        lines = [f"{place}: {self.message}" if place else self.message]
        if self.excerpt:
            number = str(self.line)
            lines.append(f"  {number} | {self.excerpt}")
            if self.caret:
                lines.append(f"  {' ' * len(number)} | {' ' * (self.caret - 1)}^")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class StackFileError(InvalidInputError):
    """The stack files are wrong; ``problems`` are all the mistakes found, in the order of the files."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @property
    def no_file(self) -> bool:
        """Whether the one mistake is that there is no stack file."""
        return all(not problem.path for problem in self.problems)
