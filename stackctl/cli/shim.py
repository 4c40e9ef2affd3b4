"""A program of another's name that is a module of ours: put on the PATH, and taken away again."""

import os
import sys
from pathlib import Path

from stackctl.cli.context import Session
from stackctl.errors import ConflictError, HostError

_MARK = "# Made by stackctl"


def put(
    session: Session, folder: str, name: str, module: str, *, remove: bool, force: bool
) -> None:
    """Make ``name`` in the folder run the module, or ``remove`` it where it is ours.

    Raises ConflictError where somebody else's is there (``force`` replaces it), HostError when it cannot be written.
    """
    place = Path(folder).expanduser() / name
    ours = place.is_file() and _MARK in place.read_text(errors="replace")
    if place.exists() and not ours and not force:
        raise ConflictError(
            f"{place} is there and was not made by this command", hint="-f replaces it"
        )
    if remove:
        if ours:
            place.unlink()
            session.note(f"removed {place}")
        return
    try:
        draft = place.with_name(f".{name}.{os.getpid()}")
        draft.write_text(f'#!/bin/sh\n{_MARK}.\nexec "{sys.executable}" -m {module} "$@"\n')
        draft.chmod(0o755)
        draft.replace(place)
    except OSError as error:
        raise HostError(f"cannot write {place}: {error.strerror}") from error
    session.note(f"made {place}")
