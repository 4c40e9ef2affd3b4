"""Relative paths to absolute ones, each from the directory that its file belongs to."""

import posixpath
from collections.abc import Callable
from pathlib import Path

from stackctl.orchestrator.stackfile.marks import Map, Raw, Where, dotted
from stackctl.orchestrator.stackfile.problems import Problems

_REMOTE = ("https://", "http://", "git://", "ssh://", "github.com/", "git@")


def join(directory: str, path: str) -> str:
    """Return the clean path of ``path`` seen from ``directory``."""
    clean = posixpath.normpath(posixpath.join(directory, path) if directory else path)
    return clean[1:] if clean.startswith("//") else clean


class Paths:
    """Resolution from one directory, which may itself be relative (then it is resolved again later)."""

    def __init__(self, directory: str, home: str, problems: Problems) -> None:
        self.directory = directory
        self.home = home
        self.problems = problems

    def tree(self, tree: Map) -> None:
        """Resolve every path of a tree in long form, in place."""
        services = tree.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if isinstance(service, dict):
                self.service(service, ("services", name))
        for kind in ("configs", "secrets"):
            objects = tree.get(kind)
            for entry in objects.values() if isinstance(objects, dict) else ():
                if isinstance(entry, dict):
                    _change(entry, "file", self.host)
        volumes = tree.get("volumes")
        for volume in volumes.values() if isinstance(volumes, dict) else ():
            if isinstance(volume, dict):
                self.volume(volume)

    def service(self, service: Raw, where: Where) -> None:
        build = service.get("build")
        if isinstance(build, dict):
            _change(build, "context", self.context)
            _change_all(build.get("additional_contexts"), self.context)
            _change_all(build.get("ssh"), self.host)
        for entry in _dicts(service.get("env_file")):
            _change(entry, "path", self.plain)
        _change_all(service.get("label_file"), self.plain)
        if isinstance(service.get("extends"), dict):
            _change(service["extends"], "file", self.plain)
        develop = service.get("develop")
        if isinstance(develop, dict):
            for rule in _dicts(develop.get("watch")):
                _change(rule, "path", self.linked)
        volumes = service.get("volumes")
        for index, mount in enumerate(volumes if isinstance(volumes, list) else ()):
            if isinstance(mount, dict) and mount.get("type") == "bind":
                if "source" in mount:
                    _change(mount, "source", self.host)
                else:
                    full = (*where, "volumes", index)
                    self.problems.add(
                        f'{dotted(full)}: a bind mount needs a "source"',
                        tree=service,
                        where=("volumes", index),
                    )

    def volume(self, volume: Raw) -> None:
        """``driver: local`` with ``o: bind`` is a bind mount in disguise."""
        options = volume.get("driver_opts")
        if not isinstance(options, dict):
            return
        if volume.get("driver") == "local" and options.get("o") == "bind":
            _change(options, "device", self.host)

    def plain(self, path: str) -> str:
        path = self.expanded(path)
        return path if path.startswith("/") or not path else join(self.directory, path)

    def host(self, path: str) -> str:
        """Like ``plain``; an empty path is the directory, and a Windows path stays as it is."""
        path = self.expanded(path)
        return path if path.startswith("/") or _is_windows(path) else join(self.directory, path)

    def context(self, path: str) -> str:
        remote = "://" in path or path.startswith("service:") or path.startswith(_REMOTE)
        return path if remote else self.plain(path)

    def linked(self, path: str) -> str:
        """Replace the first symbolic link on the way, as watching follows files and not links."""
        full = self.plain(path)
        at = "/" if full.startswith("/") else ""
        for part in full.split("/"):
            at = posixpath.join(at, part) if part else at
            if part and Path(at).is_symlink():
                return full.replace(at, posixpath.realpath(at), 1)
        return full

    def expanded(self, path: str) -> str:
        return join(self.home, path[1:].lstrip("/")) if path[:1] == "~" and self.home else path


def _is_windows(path: str) -> bool:
    drive = len(path) > 2 and path[0].isalpha() and path[1] == ":" and path[2] in "\\/"
    return drive or path.startswith("\\\\")


def _dicts(items: object) -> list[Raw]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _change(holder: Raw, key: str, how: Callable[[str], str]) -> None:
    value = holder.get(key)
    if isinstance(value, str):
        holder[key] = how(value)


def _change_all(holder: Raw, how: Callable[[str], str]) -> None:
    if isinstance(holder, dict):
        for key in holder:
            _change(holder, key, how)
    elif isinstance(holder, list):
        for index, value in enumerate(holder):
            if isinstance(value, str):
                holder[index] = how(value)
