"""Stack files to a ``Stack``: the phases in order.

``load`` is the entry point. It raises StackFileError with every mistake it found; what stops one phase for one
element does not keep the others from being looked at.
"""

import gc
import posixpath
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from stackctl.errors import InvalidInputError, Problem, StackFileError
from stackctl.frozen import frozen
from stackctl.orchestrator.stackfile import discover, shapes
from stackctl.orchestrator.stackfile.assemble import Assembly, Place, Settings
from stackctl.orchestrator.stackfile.authority import cache_directory
from stackctl.orchestrator.stackfile.checks import Consistency
from stackctl.orchestrator.stackfile.doubts import doubts
from stackctl.orchestrator.stackfile.interpolate import TemplateError, Variables, substitute
from stackctl.orchestrator.stackfile.marks import Map, Raw, Source, Where, shown
from stackctl.orchestrator.stackfile.normalise import normalise
from stackctl.orchestrator.stackfile.problems import Problems, suggestion
from stackctl.orchestrator.stackfile.reader import MAX_DEPTH, Document
from stackctl.orchestrator.stackfile.servicefiles import ServiceFiles
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.orchestrator.model.stack import Stack

_TOP_LEVEL = ("networks", "volumes", "secrets", "configs", "models")
_NOT_IN_NAME = re.compile(r"[^a-z0-9_-]")
_NAME_RULE = (
    "use lowercase letters, digits, hyphens and underscores, starting with a letter or digit"
)


@frozen
class LoadOptions:
    """What to load and how.

    ``environ`` is the process environment and ``cwd`` the working directory: nothing is read behind the caller's
    back. Empty ``files``, ``env_files`` and ``profiles`` mean the variables COMPOSE_FILE, COMPOSE_ENV_FILES and
    COMPOSE_PROFILES, then what the directory holds. ``services`` selects services and what they need (and switches
    on their profiles); ``with_dependencies=False`` selects them alone. ``stdin`` is asked when a file is ``-``.

    The flags are those of ``docker compose config``: without ``interpolate`` variables stay as they are, without
    ``normalize`` nothing implied is added, without ``resolve_paths`` paths stay relative, without ``consistency``
    references are not checked, without ``resolve_environment`` env files are not read. ``all_resources`` keeps
    networks, volumes, configs and secrets that no active service uses. ``strict`` makes mistakes of the doubts (see
    Loaded) among the selected services.
    """

    environ: Mapping[str, str]
    cwd: str
    files: Sequence[str] = ()
    project_name: str = ""
    project_directory: str = ""
    env_files: Sequence[str] = ()
    profiles: Sequence[str] = ()
    services: Sequence[str] = ()
    with_dependencies: bool = True
    stdin: Callable[[], bytes] | None = None
    interpolate: bool = True
    normalize: bool = True
    resolve_paths: bool = True
    consistency: bool = True
    resolve_environment: bool = True
    all_resources: bool = False
    strict: bool = False


@dataclass(kw_only=True)
class Loaded:
    """What came of a load.

    ``tree`` is the normal form as Compose prints it in JSON: active services only, extensions at the top only.
    ``extensions`` holds the other ``x-`` keys by the path of their element, ``models`` the top-level models (which
    Compose leaves out of its JSON). ``all_services`` are the normal forms of every service, disabled ones included.
    ``stack`` is made when first asked for; without ``interpolate`` there is none. ``doubts`` are what Compose accepts
    and cannot work: host ports claimed twice, addresses outside their subnet. They are among the warnings; who
    starts the services raises StackFileError with them. ``paths_read`` are all files that were read: stack files,
    includes, what services extend, env files and label files.
    """

    name: str
    working_dir: str
    files: tuple[str, ...]
    paths_read: tuple[str, ...]
    env_files: tuple[str, ...]
    profiles: tuple[str, ...]
    environment: Mapping[str, str]
    tree: JsonObject
    models: JsonObject
    disabled: JsonObject
    all_resources: JsonObject
    extensions: Mapping[Where, JsonObject]
    contents: Mapping[tuple[str, str], str]
    warnings: tuple[str, ...]
    doubts: tuple[Problem, ...]
    marked: Map = field(repr=False)
    interpolated: bool = True

    @cached_property
    def stack(self) -> "Stack":
        """Return the typed stack; raises InvalidInputError where variables were left in place."""
        if not self.interpolated:
            raise InvalidInputError(
                "the stack still holds variables, so its values have no type yet",
                hint="leave out --no-interpolate",
            )
        from stackctl.orchestrator.stackfile.convert import to_stack

        return to_stack(self)


def load(options: LoadOptions) -> Loaded:
    """Read, merge, check and normalise stack files; raises StackFileError with all mistakes."""
    with room_to_work():
        problems = Problems()
        try:
            return _Load(options, problems).run()
        except RecursionError as error:
            problems.add("the stack file is nested too deeply")
            raise StackFileError(problems.sorted()) from error
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            # A value that is wrong and reported may trip a later phase; it never hides a mistake of ours.
            if problems.found and not isinstance(error, StackFileError):
                raise StackFileError(problems.sorted()) from error
            raise


@contextmanager
def room_to_work() -> Iterator[None]:
    """Let the walks reach the depth that the reader allows, and keep the collector from walking a growing tree.

    A load makes hundreds of thousands of objects and hardly any garbage; collecting in between takes half the time.
    """
    before, collecting = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(before, 6 * MAX_DEPTH))
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        sys.setrecursionlimit(before)


def normalise_name(text: str) -> str:
    """Return the stack name that a text (a directory's name) gives."""
    return _NOT_IN_NAME.sub("", text.lower()).lstrip("_-")


class _Load:
    def __init__(self, options: LoadOptions, problems: Problems) -> None:
        self.options = options
        self.problems = problems
        self.environment = dict(options.environ)
        self.environment.setdefault("PWD", options.cwd)
        self.settings = Settings(
            cwd=options.cwd,
            home=self.environment.get("HOME", ""),
            cache=cache_directory(options.environ),
            problems=problems,
            stdin=options.stdin,
            interpolate=options.interpolate,
            resolve_paths=options.resolve_paths,
        )
        self.assembly = Assembly(self.settings)
        self.env_files: list[str] = []

    def run(self) -> Loaded:
        files, directory = self.locate()
        read = [entry for path in files if (entry := self.assembly.files.read(path)) is not None]
        self.problems.stop_if_any()
        name = self.stack_name(read, directory)
        self.environment["COMPOSE_PROJECT_NAME"] = name
        place = Place(directory=directory, relative=directory, environment=self.environment)
        tree = self.assembly.file_set(read, place)
        if not tree and not self.problems.found:
            path = shown(files[0], self.options.cwd)
            self.problems.add_in(Source(name=path, path=path), 1, 1, "the stack file is empty")
        if self.problems.partial or not tree:
            self.problems.stop_if_any()
        if not name and not self.problems.found:
            self.problems.add(
                "the stack has no name", hint="set name: in the file, or --project-name"
            )
            self.problems.stop_if_any()
        if self.options.normalize or self.options.interpolate or "name" in tree:
            tree["name"] = name
        if self.options.normalize:
            normalise(tree, self.environment)
        return self.finish(tree, name, files, directory)

    # Which files -----------------------------------------------------------------------------------------------

    def locate(self) -> tuple[list[str], str]:
        options, environ = self.options, self.environment
        cwd = options.cwd
        files = [self.absolute(path) for path in options.files]
        self.read_env_files(self.directory_of(files))
        if not files:
            files = discover.from_variable(environ, cwd)
        if not files:
            start = self.absolute(options.project_directory) if options.project_directory else cwd
            files = discover.find(start, self.problems)
        if not files:
            names = ", ".join(discover.NAMES)
            self.problems.add(
                f"no stack file in {cwd} or any directory above it",
                hint=f"name it one of {names}, or use -f",
            )
            self.problems.stop_if_any()
        directory = self.directory_of(files)
        self.read_env_files(directory)
        self.problems.stop_if_any()
        return files, directory

    def absolute(self, path: str) -> str:
        if path == "-" or discover.is_remote(path):
            return path
        return posixpath.normpath(posixpath.join(self.options.cwd, path))

    def directory_of(self, files: list[str]) -> str:
        if self.options.project_directory:
            return self.absolute(self.options.project_directory)
        for path in files:
            if path != "-" and not discover.is_remote(path):
                return posixpath.dirname(path)
        return self.options.cwd

    def read_env_files(self, directory: str) -> None:
        """Add the variables of the env files; those already known win."""
        given = list(self.options.env_files)
        if not given:
            # As in Compose: no env file names others.
            listed = self.options.environ.get("COMPOSE_ENV_FILES", "").split(",")
            given = [path for path in listed if path]
        paths = [self.absolute(path) for path in given]
        if not paths and not discover.without_env_file(self.environment, self.problems):
            paths = discover.default_env_file(directory)
        values = self.assembly.files.env_files(paths, self.environment)
        self.problems.stop_if_any()
        if values and not given and discover.without_env_file(values, self.problems):
            # The file says so itself: what it says to Compose holds, nothing else.
            values = {key: text for key, text in values.items() if key.startswith("COMPOSE_")}
        for key, value in (values or {}).items():
            self.environment.setdefault(key, value)
        self.env_files.extend(path for path in paths if path not in self.env_files)

    def stack_name(self, read: list[tuple[Source, list[Document]]], directory: str) -> str:
        """Return the name: option, variable, last file that has one, directory."""
        given = self.options.project_name or self.environment.get("COMPOSE_PROJECT_NAME", "")
        if given:
            if normalise_name(given) != given:
                self.problems.add(f"invalid stack name {given!r}", hint=_NAME_RULE)
                self.problems.stop_if_any()
            return given
        name, holder = "", Map()
        for _, documents in read:
            for document in documents:
                tree = document.tree
                written = tree.get("name") if isinstance(tree, Map) else None
                if isinstance(tree, Map) and isinstance(written, str) and written:
                    name, holder = written, tree
        if name and self.options.interpolate:
            try:
                name = substitute(name, Variables(self.environment))
            except TemplateError:
                return ""  # reported when the document is interpolated
        if not holder:
            return normalise_name(posixpath.basename(directory))
        if not normalise_name(name):
            self.problems.add(
                f"{name!r} is not a stack name", tree=holder, where=("name",), hint=_NAME_RULE
            )
        return normalise_name(name)

    # From the merged tree to the result ------------------------------------------------------------------------

    def finish(self, tree: Map, name: str, files: list[str], directory: str) -> Loaded:
        if not self.options.interpolate:
            return self.loaded(tree, name, files, directory, dict(tree), {}, {}, {}, {}, ())
        shaper = shapes.Shaper(tree, self.problems)
        services = {
            key: shapes.shape_service(shaper, key, service)
            for key, service in (tree.get("services") or {}).items()
        }
        top = {
            kind: shapes.shape_top_level(shaper, kind, tree[kind])
            for kind in _TOP_LEVEL
            if isinstance(tree.get(kind), dict)
        }
        profiles = self.active_profiles()
        active: JsonObject = {k: s for k, s in services.items() if _enabled(s, profiles)}
        disabled: JsonObject = {k: s for k, s in services.items() if k not in active}
        if self.options.consistency:
            self.check(tree, active, disabled, top)
        # As in Compose: the files of all active services have to be there, selected or not.
        files_of = ServiceFiles(self.assembly.files, tree, self.environment, self.problems)
        files_of.resolve(active, environment=self.options.resolve_environment)
        if self.problems.found:
            self.add_rest(tree, active, disabled, top)
        self.problems.stop_if_any()
        known = set(active)
        active = self.select(tree, active, disabled)
        files_of.resolve(
            {name: active[name] for name in active if name not in known},
            environment=self.options.resolve_environment,
        )
        self.add_rest(tree, active, disabled, _used(active, top))
        self.problems.stop_if_any()
        kept = top if self.options.all_resources else _used(active, top)
        result: JsonObject = {"name": name, "services": active}
        result.update({kind: kept[kind] for kind in _TOP_LEVEL[:-1] if kept.get(kind)})
        result.update({key: value for key, value in tree.items() if key.startswith("x-")})
        models = kept.get("models") or {}
        return self.loaded(
            tree, name, files, directory, result, models, disabled, top, shaper.extensions, profiles
        )

    def loaded(
        self,
        tree: Map,
        name: str,
        files: list[str],
        directory: str,
        result: JsonObject,
        models: JsonObject,
        disabled: JsonObject,
        top: Mapping[str, Raw],
        extensions: Mapping[Where, JsonObject],
        profiles: tuple[str, ...],
    ) -> Loaded:
        doubtful = self.doubts(tree, result)
        return Loaded(
            name=name,
            working_dir=directory,
            files=tuple(files),
            paths_read=tuple(self.settings.paths_read),
            env_files=tuple(self.env_files),
            profiles=tuple(filter(None, profiles)),
            environment=self.environment,
            tree=result,
            models=models,
            disabled=disabled,
            all_resources=dict(top),
            extensions=extensions,
            contents=self.settings.contents,
            warnings=tuple(self.problems.warnings),
            doubts=doubtful,
            marked=tree,
            interpolated=self.options.interpolate,
        )

    def add_rest(
        self, tree: Map, services: JsonObject, disabled: JsonObject, top: Mapping[str, Raw]
    ) -> None:
        """Note what is wrong among the selected services only: names twice and, where asked, the doubts."""
        if not self.options.consistency:
            return
        Consistency(tree, services, disabled, top, self.problems).container_names()
        if self.options.strict:
            networks = top.get("networks") or {}
            for where, message in doubts(tree, services, networks, self.settings.doubled):
                self.problems.add(message, tree=tree, where=where)

    def doubts(self, tree: Map, result: JsonObject) -> tuple[Problem, ...]:
        services, networks = result.get("services"), result.get("networks")
        if not self.options.interpolate or not self.options.consistency:
            return ()
        collected = Problems()
        found = doubts(
            tree,
            services if isinstance(services, dict) else {},
            networks if isinstance(networks, dict) else {},
            self.settings.doubled,
        )
        for where, message in found:
            collected.add(message, tree=tree, where=where)
        for problem in collected.found:
            place = f"{problem.path}:{problem.line}: " if problem.line else ""
            self.problems.warn(f"{place}{problem.message}")
        return tuple(collected.found)

    def active_profiles(self) -> tuple[str, ...]:
        profiles = list(self.options.profiles)
        if not profiles:
            listed = self.environment.get("COMPOSE_PROFILES", "").split(",")
            # Without the variable this is the empty name, which a service gets from ``${PROFILE:-}``.
            profiles = [profile.strip() for profile in listed]
        return tuple(dict.fromkeys(profiles))

    def check(
        self, tree: Map, active: JsonObject, disabled: JsonObject, top: Mapping[str, Raw]
    ) -> None:
        Consistency(tree, active, disabled, top, self.problems).run()

    def select(self, tree: Map, active: JsonObject, disabled: JsonObject) -> JsonObject:
        """Return the selected services and what they need; named ones have their profiles switched on."""
        wanted = list(self.options.services)
        if not wanted:
            return active
        everything: dict[str, Raw] = {**active, **disabled}
        extra = [
            profile
            for name in wanted
            if name in disabled
            for profile in everything[name].get("profiles") or ()
        ]
        enabled = {
            name: service
            for name, service in everything.items()
            if name in active or _enabled(service, tuple(extra))
        }
        chosen: dict[str, None] = {}
        consistency = Consistency(tree, enabled, disabled, {}, self.problems)
        pending = list(reversed(wanted))
        while pending:
            name = pending.pop()
            if name in chosen:
                continue
            if name not in enabled:
                self.problems.add(f"no such service: {name}", hint=suggestion(name, everything))
                continue
            chosen[name] = None
            if self.options.with_dependencies:
                depends_on = enabled[name].get("depends_on") or {}
                needed = {target: how for target, how in depends_on.items() if how["required"]}
                consistency.dependencies(name, {"depends_on": needed})
                pending.extend(target for target in depends_on if target in enabled)
        self.problems.stop_if_any()
        for name in everything:
            if name in chosen:
                disabled.pop(name, None)
            else:
                disabled[name] = everything[name]
        selected: JsonObject = {name: enabled[name] for name in enabled if name in chosen}
        for service in selected.values():
            _prune_dependencies(service, chosen)
        return selected


def _enabled(service: Raw, profiles: Sequence[str]) -> bool:
    own = service.get("profiles")
    return not own or "*" in profiles or any(profile in profiles for profile in own)


def _prune_dependencies(service: Raw, chosen: Mapping[str, None]) -> None:
    depends_on = service.get("depends_on")
    if depends_on:
        kept = {target: entry for target, entry in depends_on.items() if target in chosen}
        if kept:
            service["depends_on"] = kept
        else:
            del service["depends_on"]


def _used(services: Mapping[str, Raw], top: Mapping[str, Raw]) -> dict[str, JsonObject]:
    """Return the networks, volumes, configs, secrets and models that the services use."""
    used: dict[str, set[str]] = {kind: set() for kind in _TOP_LEVEL}
    for service in services.values():
        used["networks"].update(service.get("networks") or ())
        used["models"].update(service.get("models") or ())
        for mount in service.get("volumes") or ():
            if mount.get("type") == "volume":
                used["volumes"].add(mount.get("source", ""))
        for kind in ("configs", "secrets"):
            used[kind].update(ref.get("source", "") for ref in service.get(kind) or ())
        build = service.get("build") or {}
        used["secrets"].update(ref.get("source", "") for ref in build.get("secrets") or ())
    return {
        kind: {name: element for name, element in elements.items() if name in used[kind]}
        for kind, elements in top.items()
    }
