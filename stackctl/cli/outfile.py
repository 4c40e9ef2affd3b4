"""A file that a command writes for its user: whole or not at all."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stackctl.errors import InvalidInputError


@contextlib.contextmanager
def whole(path: str, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Give a file to write to; it takes its place when the block ends well, so half of it is never taken for all.

    A link is followed. What is no regular file, such as /dev/null or a pipe, is written to as it is: renaming would put
    a file in its place. ``mode`` is that of a new file, less the umask. Raises InvalidInputError when it cannot be
    written.
    """
    try:
        if _is_special(path):
            with open(path, "wb") as special:
                yield special
            return
        place = Path(os.path.realpath(path))
        draft = place.with_name(f".{place.name}.{os.getpid()}.part")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(draft, flags, mode), "wb") as file:
                yield file
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"cannot write {path}: {error.strerror}") from error


def _is_special(path: str) -> bool:
    try:
        kind = os.stat(path).st_mode  # noqa: PTH116 - a plain call beside the others
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
