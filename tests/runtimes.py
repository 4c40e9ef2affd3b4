"""Which container runtimes this test has started and not ended."""

import contextlib
import os
from pathlib import Path


def execs_of(container_id: str) -> list[int]:
    """Return the pids of this process's ``runc exec`` for a container."""
    found = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for word in path.read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                command = Path(f"/proc/{word}/cmdline").read_bytes().split(b"\0")
                if b"exec" in command and container_id.encode() in command:
                    found.append(int(word))
    return found
