"""The OCI bundle directory of a container, and the notes kept beside config.json for a daemon that comes later."""

import json
import shutil
from pathlib import Path

from stackctl.contracts.runtime import Running
from stackctl.errors import HostError
from stackctl.frozen import frozen
from stackctl.values import JsonObject, from_json, to_json_text


@frozen
class Note:
    """What must be known of a container whose creator is gone."""

    runtime: str
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    log_path: str = ""
    cgroup: str = ""
    log_files: int = 1


class Bundles:
    """One directory a container, below one root that is root's alone (the attach socket is in it)."""

    def __init__(self, root: Path, exits: Path) -> None:
        self._root = root
        self.exits = exits
        self._notes: dict[str, Note] = {}
        self._running: dict[str, Running] = {}

    def prepare(self) -> None:
        """Make the roots; may be repeated."""
        for path in (self._root, self.exits):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, container_id: str) -> Path:
        return self._root / container_id

    def make(self, container_id: str) -> Path:
        """Make a new, empty bundle; what a former attempt left is replaced."""
        path = self.path(container_id)
        self._forget(container_id)
        try:
            if path.exists():
                shutil.rmtree(path)
            self.exit_file(container_id).unlink(missing_ok=True)
            path.mkdir(mode=0o700)
        except OSError as error:
            raise _unwritten(path, error) from error
        return path

    def fill(self, container_id: str, config: JsonObject, note: Note) -> None:
        """Write what the runtime reads and the note."""
        path = self.path(container_id)
        try:
            (path / "config.json").write_text(json.dumps(config))
            (path / "note.json").write_text(to_json_text(note))
        except OSError as error:
            raise _unwritten(path, error) from error
        self._notes[container_id] = note

    def write_running(self, container_id: str, running: Running) -> None:
        path = self.path(container_id) / "running.json"
        partial = path.with_suffix(".new")
        partial.write_text(to_json_text(running))
        partial.replace(path)
        self._running[container_id] = running

    def running(self, container_id: str) -> Running | None:
        """Return the processes that ``create`` noted; None when it never got that far."""
        known = self._running.get(container_id)
        if known is not None:
            return known
        try:
            text = (self.path(container_id) / "running.json").read_text()
        except FileNotFoundError:
            return None
        return self._running.setdefault(container_id, from_json(Running, json.loads(text)))

    def note(self, container_id: str) -> Note | None:
        known = self._notes.get(container_id)
        if known is not None:
            return known
        try:
            text = (self.path(container_id) / "note.json").read_text()
        except FileNotFoundError:
            return None
        return self._notes.setdefault(container_id, from_json(Note, json.loads(text)))

    def exit_file(self, container_id: str) -> Path:
        """Return where the monitor writes the exit code."""
        return self.exits / container_id

    def all(self) -> set[str]:
        """Return every container that has a bundle or an exit file."""
        found = set()
        for path in (self._root, self.exits):
            if path.is_dir():
                found |= {entry.name for entry in path.iterdir() if len(entry.name) == 64}
        return found

    def remove(self, container_id: str) -> None:
        """Remove the bundle and the exit file; success when they are gone."""
        self._forget(container_id)
        shutil.rmtree(self.path(container_id), ignore_errors=True)
        self.exit_file(container_id).unlink(missing_ok=True)

    def _forget(self, container_id: str) -> None:
        self._notes.pop(container_id, None)
        self._running.pop(container_id, None)


def _unwritten(path: Path, error: OSError) -> HostError:
    return HostError(f"cannot write the bundle {path}: {error.strerror}", errno=error.errno or 0)
