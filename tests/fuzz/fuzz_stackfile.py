"""Coverage-guided fuzzing of reading, interpolation and merge (atheris); a program of its own.

    python tests/fuzz/fuzz_stackfile.py CACHE [SEEDS...] [-max_total_time=SECONDS]

The input is one or two stack files, split at a NUL byte, merged in order. Whatever they hold, the only exception may
be our own kind of error.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stackctl.orchestrator.stackfile"]):
    from stackctl.orchestrator.stackfile import dump, load

from stackctl.errors import StackctlError

FOLDER = Path(tempfile.mkdtemp(prefix="stackctl-fuzz-"))
ENVIRON = {"XDG_CACHE_HOME": str(FOLDER / "cache"), "HOME": "/", "TAG": "1", "EMPTY": ""}


def one(data: bytes) -> None:
    """Load what the fuzzer made up."""
    files = []
    for index, part in enumerate(data.split(b"\0")[:2]):
        path = FOLDER / f"{index}.yaml"
        path.write_bytes(part)
        files.append(str(path))
    with contextlib.suppress(StackctlError):
        loaded = load.load(load.LoadOptions(environ=ENVIRON, cwd=str(FOLDER), files=files))
        dump.to_yaml(loaded)
        dump.to_json(loaded)
        assert loaded.stack.name == loaded.name


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
