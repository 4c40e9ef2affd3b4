"""What every call of the library shares: the stack as read, the engine as chosen. The environment is read here alone."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen
from stackctl.orchestrator.apply.lock import key_path, lock_folder, secret_key
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.isolation import isolate, unique_name
from stackctl.orchestrator.stackfile.load import LoadOptions, load
from stackctl.paths import EnginePaths, engine_paths, with_settings

if TYPE_CHECKING:
    from stackctl.client.engine import EngineClient

_PROJECT = "COMPOSE_PROJECT_NAME"


@frozen
class Given:
    """What a ``Stack`` of the library was made with; see there."""

    files: tuple[str, ...] = ()
    yaml: str = ""
    directory: str = ""
    project: str = ""
    isolate: bool = True
    profiles: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""

    def environ(self) -> dict[str, str]:
        found = {**os.environ, **self.environment}
        if self.isolate:
            # Whoever runs the tests may work in a stack of the same file: the copy is not that one.
            found.pop(_PROJECT, None)
        return found


@frozen
class Read:
    """A stack as read: the copy where one is made, the name of what it is a copy of, and what is to be known of it."""

    stack: Stack
    original: str
    notes: tuple[str, ...] = ()


def read(given: Given) -> Read:
    """Read the stack; raises StackFileError with every mistake of the files."""
    if not given.isolate:
        stack = _load(given, given.project)
        return Read(stack=stack, original=stack.name)
    original = _load(given, "").name
    if given.project == original:
        raise InvalidInputError(
            f"a copy of {original} cannot have its name",
            hint="leave project out for a new name, or isolate=False for the stack itself",
        )
    name = given.project or unique_name(original, secrets.token_hex(4))
    copy = isolate(_load(given, name), original)
    return Read(stack=copy.stack, original=original, notes=copy.notes)


def _load(given: Given, name: str) -> Stack:
    text = given.yaml.encode()
    directory = str(Path(given.directory).absolute()) if given.directory else ""
    return load(
        LoadOptions(
            environ=given.environ(),
            cwd=directory or str(Path.cwd()),
            files=("-",) if given.yaml else given.files,
            project_name=name,
            project_directory=directory,
            profiles=given.profiles,
            stdin=lambda: text,
        )
    ).stack


class Machine:
    """The engine, and where this user keeps locks and keys."""

    def __init__(self, given: Given) -> None:
        self._given = given
        self._environ = given.environ()
        self._engine: EngineClient | None = None
        self.remote_host = ""

    @property
    def paths(self) -> EnginePaths:
        return engine_paths(with_settings(self._environ, uid=os.getuid()), uid=os.getuid())

    def engine(self) -> "EngineClient":
        """Return the engine, starting the built-in one when it is the chosen one and does not run."""
        if self._engine is None:
            from stackctl.client.endpoints import Daemon, choose
            from stackctl.client.engine import EngineClient

            endpoint = choose(self._given.engine, self._environ, uid=os.getuid())
            if endpoint.builtin:
                Daemon(self.paths, self._environ, note=_say_nothing).ensure()
            self.remote_host = endpoint.host
            self._engine = EngineClient(endpoint, environ=self._environ)
        return self._engine

    def key(self) -> bytes:
        """Return the key that digests of secrets in labels are made with."""
        return secret_key(key_path(self.paths.data_root, self._environ, uid=os.getuid()))

    def locks(self) -> Path:
        return lock_folder(self.paths.run_root, self._environ, uid=os.getuid())


def _say_nothing(_text: str) -> None:
    return
