"""Error kind to HTTP status and body: the one place of the engine half where an error becomes text."""

from stackctl.errors import (
    ConflictError,
    DeadlineError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    NotModifiedError,
    StackctlError,
    StartError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedError,
)

_STATUSES: tuple[tuple[type[StackctlError], int], ...] = (
    (InvalidInputError, 400),
    (UnauthorizedError, 401),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (NotModifiedError, 304),
    (UnsupportedError, 501),
    (UnavailableError, 503),
    (DeadlineError, 504),
)


def status_of(error: StackctlError) -> int:
    """Return the HTTP status; a program that cannot be started is the request's fault, as in Docker."""
    if isinstance(error, StartError):
        return 400 if error.exit_code in (126, 127) else 500
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def text_of(error: StackctlError) -> str:
    """Return the message with its hint."""
    return error.worded
