"""Which files make the stack, which directory it lives in, and which variables it sees."""

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stackctl.orchestrator.stackfile.names import NAMES, OVERRIDES
from stackctl.orchestrator.stackfile.problems import Problems

__all__ = ["NAMES", "OVERRIDES", "Found", "default_env_file", "find", "from_variable", "is_remote"]

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)
_DISABLE = "COMPOSE_DISABLE_ENV_FILE"
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})


@dataclass(slots=True)
class Found:
    """The outcome: absolute paths (``-`` is standard input), the directory, the variables, the env files read."""

    files: list[str]
    directory: str
    environment: dict[str, str]
    env_files: list[str] = field(default_factory=list)


def is_remote(path: str) -> bool:
    """Say whether a path names a file elsewhere: an OCI artifact, a git repository or any other URL."""
    return path.startswith(("git@", "github.com/")) or _URL.match(path) is not None


def remote_kind(path: str) -> str:
    """Return what kind of place a remote path names, in words."""
    if path.startswith("oci://"):
        return "an artifact of an OCI registry"
    git = path.startswith(("git://", "ssh://", "git@", "github.com/")) or ".git" in path
    return "a git repository" if git else "a file of the web"


def find(directory: str, problems: Problems, *, above: bool = True) -> list[str]:
    """Return the stack file of a directory, or of the nearest one above, with its override file."""
    at = directory
    while True:
        present = _present(NAMES, at)
        if present:
            files = [_chosen(present, problems)]
            overrides = _present(_twins(files[0]), at)
            return files + ([_chosen(overrides, problems)] if overrides else [])
        parent = posixpath.dirname(at)
        if parent == at or not above:
            return []
        at = parent


def _present(names: tuple[str, ...], directory: str) -> list[str]:
    paths = (posixpath.join(directory, name) for name in names)
    return [path for path in paths if Path(path).exists()]


def _twins(path: str) -> tuple[str, ...]:
    """A stack file has stack overrides; the Compose names share theirs."""
    own = posixpath.basename(path).startswith("stack.")
    return tuple(name for name in OVERRIDES if name.startswith("stack.") == own)


def _chosen(present: list[str], problems: Problems) -> str:
    if len(present) > 1:
        names = ", ".join(posixpath.basename(path) for path in present)
        problems.warn(f"several stack files are present ({names}); {present[0]} is used")
    return present[0]


def from_variable(environment: Mapping[str, str], cwd: str) -> list[str]:
    """Return the files that COMPOSE_FILE names."""
    value = environment.get("COMPOSE_FILE")
    if value is None:
        return []
    separator = environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [path if path == "-" else posixpath.join(cwd, path) for path in value.split(separator)]


def without_env_file(environ: Mapping[str, str], problems: Problems) -> bool:
    """Say whether COMPOSE_DISABLE_ENV_FILE forbids the ``.env``; a value that is no boolean is noted."""
    value = environ.get(_DISABLE)
    if value is None or value in _FALSE:
        return False
    if value not in _TRUE:
        problems.add(f"{_DISABLE}: {value!r} is not true or false", hint="write 1 or 0")
    return True


def default_env_file(directory: str) -> list[str]:
    """Return the ``.env`` of a directory."""
    path = posixpath.join(directory, ".env")
    return [path] if Path(path).is_file() else []
