"""The word of the ``jsonschema`` library on a tree, remembered.

``schema`` finds mistakes fast and explains them; that a tree fits ``schemas/stack.schema.json`` is for the library to
say. Importing it and walking a large tree takes seconds, so a tree it accepted is remembered by digest (of the tree
in canonical form and of the schema) under the user's cache directory. Forgetting is harmless, and so is a cache that
cannot be written; a changed tree or schema has another digest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from stackctl.orchestrator.stackfile.marks import Map, dotted
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.schema import load_schema, schema_text

MAX_REMEMBERED = 2000
_MAX_MESSAGE = 300


def cache_directory(environ: Mapping[str, str]) -> Path | None:
    """Return where digests are remembered: below XDG_CACHE_HOME, else ``~/.cache``; None without either."""
    base = environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        base = f"{home}/.cache"
    return Path(base) / "stackctl" / "validated"


def confirm(tree: Map, problems: Problems, directory: Path | None) -> None:
    """Note where the library finds that the tree departs from the schema, unless it accepted the same tree before."""
    name = _digest(tree)
    if directory is not None and _remembers(directory, name):
        return
    from jsonschema import Draft202012Validator

    accepted = True
    for error in Draft202012Validator(load_schema()).iter_errors(tree):
        accepted = False
        where = tuple(error.absolute_path)
        problems.add(f"{dotted(where)}: {error.message[:_MAX_MESSAGE]}", tree=tree, where=where)
    if accepted and directory is not None:
        _remember(directory, name)


def _digest(tree: Map) -> str:
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    hashed = hashlib.sha256(schema_text().encode())
    hashed.update(canonical.encode())
    return hashed.hexdigest()


def _remembers(directory: Path, name: str) -> bool:
    try:
        return (directory / name).is_file()
    except OSError:
        return False


def _remember(directory: Path, name: str) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = list(directory.iterdir())
        for path in known if len(known) >= MAX_REMEMBERED else ():
            path.unlink(missing_ok=True)
        (directory / name).touch(mode=0o600)
    except OSError:
        return
