"""An error with its source excerpt and its hint."""

from stackctl.errors import StackctlError


def text(error: StackctlError, *, colour: bool) -> str:
    """Return what the user reads: the message, the hint under it, one newline at the end."""
    red, dim, end = ("\033[31m", "\033[2m", "\033[0m") if colour else ("", "", "")
    message = str(error).rstrip("\n")
    located = hasattr(error, "problems")
    head = message if located else f"{red}stackctl:{end} {message}"
    hint = f"\n{dim}hint:{end} {error.hint}" if error.hint and not located else ""
    return f"{head}{hint}\n"
