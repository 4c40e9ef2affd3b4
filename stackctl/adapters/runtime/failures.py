"""What an OCI runtime says when a program cannot be started, as Docker's exit codes; pure."""

from stackctl.errors import StartError

_CANNOT_RUN = ("permission denied", "is a directory", "operation not permitted")
_NOT_FOUND = (
    "executable file not found",
    "no such file or directory",
    "system cannot find the file",
    "not a directory",
    "failed to run runc create/exec call",
)


def start_error(words: str, *, verb: str = "create") -> StartError:
    """Return the error of a failed create, start or exec.

    126: it is there but may not be run. 127: it is not there. 128 (126 for an exec): anything else, the runtime's
    own trouble included.
    """
    said = words.strip() or f"the OCI runtime failed to {verb} and said nothing"
    lower = said.lower()
    if any(text in lower for text in _CANNOT_RUN):
        code = 126
    elif any(text in lower for text in _NOT_FOUND):
        code = 127
    else:
        code = 126 if verb == "exec" else 128
    return StartError(f"OCI runtime {verb} failed: {said}", exit_code=code, hint=_hint(code))


def _hint(code: int) -> str:
    if code == 127:
        return (
            "The command (or its interpreter) is not in the image; check its path and the mounts."
        )
    if code == 126:
        return "The command is there but cannot be run; check its mode and that it is a program."
    return ""
