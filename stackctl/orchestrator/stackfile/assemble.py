"""Several files to one tree: reading, interpolation, extends, include, merge, schema, long form.

The order is that of Compose and matters: every document is interpolated on its own, then its ``extends`` are
resolved, what ``!reset`` and ``!override`` name is cleared in what came before, its ``include`` joins, and only then
it goes over the earlier documents. The schema sees the merged result after each document.
"""

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stackctl.frozen import frozen
from stackctl.orchestrator.stackfile import authority, discover, reader, schema
from stackctl.orchestrator.stackfile.canonical import Canonical
from stackctl.orchestrator.stackfile.checks import check_values
from stackctl.orchestrator.stackfile.doubts import doubled_targets
from stackctl.orchestrator.stackfile.files import Files
from stackctl.orchestrator.stackfile.interpolate import interpolate
from stackctl.orchestrator.stackfile.marks import (
    Map,
    Mark,
    Raw,
    Seq,
    Source,
    Where,
    copy,
    entries,
    shown,
    weight,
)
from stackctl.orchestrator.stackfile.merge import Merge, unify
from stackctl.orchestrator.stackfile.paths import Paths, join
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.reader import Reset

MAX_EXTENDS = 200
MAX_COPIED = 1_000_000
_INCLUDE = frozenset({"path", "env_file", "project_directory"})


@dataclass(slots=True, kw_only=True)
class Settings:
    """What holds for all files of one load."""

    cwd: str
    home: str
    cache: Path | None = None
    problems: Problems
    stdin: Callable[[], bytes] | None = None
    interpolate: bool = True
    resolve_paths: bool = True
    contents: dict[tuple[str, str], str] = field(default_factory=dict)
    paths_read: dict[str, None] = field(default_factory=dict)
    doubled: dict[int, tuple[Mark, str]] = field(default_factory=dict)


@frozen
class Place:
    """Where a file set stands: its directory, the directory paths are resolved from, its variables, who included it.

    ``relative`` is ``directory`` as seen from the including set, so that paths can stay relative until the end.
    """

    directory: str
    relative: str
    environment: Mapping[str, str]
    included: tuple[str, ...] = ()


@dataclass(slots=True)
class Base:
    """A file that services extend from, brought into long form, and what its ``!reset`` clear."""

    services: Raw
    resets: list[Reset]


class Assembly:
    """One load under way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.problems = settings.problems
        self.files = Files(
            cwd=settings.cwd,
            problems=settings.problems,
            stdin=settings.stdin,
            paths_read=settings.paths_read,
        )
        self.bases: dict[tuple[str, str], Base | None] = {}
        self.copied = 0

    # A set of files --------------------------------------------------------------------------------------------

    def file_set(self, files: list[tuple[Source, list[reader.Document]]], place: Place) -> Map:
        """Return the merged tree of files, defaults set, values checked, paths resolved."""
        tree = Map()
        for source, documents in files:
            inner = Place(
                directory=place.directory,
                relative=place.relative,
                environment=place.environment,
                included=(*place.included, source.path),
            )
            for document in documents:
                tree = self.document(document, source, tree, inner)
        _set_defaults(tree)
        check_values(tree, self.problems)
        if self.settings.resolve_paths:
            Paths(place.relative, self.settings.home, self.problems).tree(tree)
        self.take_environment(tree, place.environment)
        return tree

    def document(self, document: reader.Document, source: Source, base: Map, place: Place) -> Map:
        """Return ``base`` with one document over it."""
        tree = document.tree
        if not isinstance(tree, Map):
            self.problems.partial = True
            self.problems.add_in(
                source, document.line, 1, "the top of a stack file must be a mapping"
            )
            return base
        if self.settings.interpolate:
            interpolate(tree, place.environment, self.problems)
        self.note_doubled(tree)
        self.extend_all(tree, source, place, document.resets)
        for where, reset_mark in document.resets:
            _clear(base, where, reset_mark)
        self.include_all(tree, place)
        merged = Merge(self.problems).trees(base, tree)
        unify(merged, self.problems)
        if schema.validate(merged, self.problems) and not self.problems.found:
            authority.confirm(merged, self.problems, self.settings.cache)
        if merged.pop("version", None) is not None:
            self.problems.warn(f'{source.name}: "version" is obsolete and ignored; remove it')
        Canonical(self.problems, lenient=not self.settings.interpolate).tree(merged)
        unify(merged, self.problems)
        return merged

    def note_doubled(self, tree: Map) -> None:
        """Remember which entries of the document mount where an earlier one of their list does."""
        self.settings.doubled.update(
            (id(mark), (mark, message)) for mark, message in doubled_targets(tree)
        )

    def take_environment(self, tree: Map, environment: Mapping[str, str]) -> None:
        """Give list entries without value, and configs and secrets made of variables, their value."""
        for service in (tree.get("services") or {}).values():
            items = service.get("environment") if isinstance(service, dict) else None
            if isinstance(items, list):
                service["environment"] = Seq(
                    [
                        f"{item}={environment[item]}" if item in environment else item
                        for item in items
                    ],
                    items.marks if isinstance(items, Seq) else (),
                )
        for kind in ("configs", "secrets"):
            for name, element in (tree.get(kind) or {}).items():
                variable = element.get("environment") if isinstance(element, dict) else None
                if isinstance(variable, str) and variable in environment:
                    self.settings.contents[kind, name] = environment[variable]

    # extends ---------------------------------------------------------------------------------------------------

    def extend_all(self, tree: Map, source: Source, place: Place, resets: list[Reset]) -> None:
        """Resolve ``extends`` of every service of a document, in place."""
        services = tree.get("services")
        if not isinstance(services, Map):
            return
        for name in list(services):
            services[name] = self.extended(name, services, source.path, place, resets, ())

    def extended(
        self,
        name: str,
        services: Raw,
        path: str,
        place: Place,
        resets: list[Reset],
        trail: tuple[tuple[str, str], ...],
    ) -> Raw:
        """Return a service with what it extends merged under it; mistakes are noted and the service left as is."""
        service = services[name]
        if not isinstance(service, Map) or "extends" not in service:
            return service
        mark = service.marks.get("extends")
        where: Where = ("services", name, "extends")
        if (path, name) in trail:
            chain = [*(f"{n} ({shown(p, self.settings.cwd)})" for p, n in trail), name]
            self.problems.add_at(
                mark, f"extends goes in a circle: {' -> '.join(chain)}", where=where
            )
            self.without_base([name, *(other for _, other in trail)], service)
            return service
        if len(trail) > MAX_EXTENDS:
            self.problems.add_at(
                mark, f"extends goes deeper than {MAX_EXTENDS} services", where=where
            )
            self.without_base([name, *(other for _, other in trail)], service)
            return service
        reference, file = self.extends_reference(service, mark, where)
        if reference is None:
            return service
        found = self.base_services(reference, file, services, path, place, mark, where)
        if found is None:
            self.without_base([name, *(other for _, other in trail)], service)
            return service
        base_services, base_path, base_resets = found
        base = self.extended(
            reference,
            base_services,
            base_path,
            place,
            resets if file is None else base_resets,
            (*trail, (path, name)),
        )
        if not isinstance(base, Map):
            if base is not None:
                self.problems.add_at(mark, f'service "{reference}" must be a mapping', where=where)
            self.without_base([name, *(other for _, other in trail)], service)
            return service
        self.copied += weight(base)
        if self.copied > MAX_COPIED:
            self.problems.add_at(mark, f"extends copies more than {MAX_COPIED} values", where=where)
            self.problems.stop_if_any()
        base = copy(base)
        for reset, reset_mark in resets:
            if reset[:2] == ("services", name):
                _clear(base, reset[2:], reset_mark)
        merged = Merge(self.problems).service(base, service, name)
        merged.pop("extends", None)
        services[name] = merged
        return merged

    def without_base(self, names: list[str], service: Map) -> None:
        """Go on without the base; what it would have given to these services is not missed again."""
        service.pop("extends", None)
        self.problems.dropped.update(("services", name, "image") for name in names)

    def extends_reference(
        self, service: Map, mark: Mark | None, where: Where
    ) -> tuple[str | None, str | None]:
        value = service["extends"]
        reference = value.get("service") if isinstance(value, dict) else value
        file = value.get("file") if isinstance(value, dict) else None
        if isinstance(reference, str) and (file is None or isinstance(file, str)):
            return reference, file
        if isinstance(value, dict) and "service" not in value:
            self.problems.add_at(mark, 'extends needs a "service"', where=where)
        elif reference is None:
            self.problems.add_at(mark, "extends names no service", where=where)
        else:
            self.problems.add_at(
                mark, "extends takes names: service: NAME, file: PATH", where=where
            )
        self.without_base([str(where[1])], service)
        return None, None

    def base_services(
        self,
        reference: str,
        file: str | None,
        services: Raw,
        path: str,
        place: Place,
        mark: Mark | None,
        where: Where,
    ) -> tuple[Raw, str, list[Reset]] | None:
        base_path, resets = path, list[Reset]()
        if file is not None:
            if discover.is_remote(file):
                self.files.read(file, mark)
                return None
            base_path = join(
                place.directory, Paths("", self.settings.home, self.problems).expanded(file)
            )
            base = self.base(base_path, place, mark)
            if base is None:
                return None
            services, resets = base.services, base.resets
        if reference not in services:
            self.problems.add_at(
                mark,
                f'extends: service "{reference}" is not defined in {shown(base_path, self.settings.cwd)}',
                where=where,
                hint=self.problems.suggestion(reference, services),
            )
            return None
        return services, base_path, resets

    def base(self, path: str, place: Place, mark: Mark | None) -> Base | None:
        """Return the services of another file in long form, paths seen from ``place``; read once."""
        known = (path, place.directory)
        if known in self.bases:
            return self.bases[known]
        self.bases[known] = None
        read = self.files.read(path, mark)
        if read is None:
            return None
        source, documents = read
        tree = Map()
        resets: list[Reset] = []
        for document in documents:
            if not isinstance(document.tree, Map):
                self.problems.add_in(
                    source, document.line, 1, "the top of a stack file must be a mapping"
                )
                return None
            if self.settings.interpolate:
                interpolate(document.tree, place.environment, self.problems)
            self.note_doubled(document.tree)
            for where, reset_mark in document.resets:
                _clear(tree, where, reset_mark)
            resets = document.resets
            tree = Merge(self.problems).trees(tree, document.tree)
            unify(tree, self.problems)
        services = tree.get("services")
        if not isinstance(services, Map):
            self.problems.add_at(mark, f"{source.name} has no services to extend")
            return None
        # The schema sees the result once it is merged; here the long form is wanted.
        try:
            Canonical(self.problems, lenient=not self.settings.interpolate).tree(tree)
            unify(tree, self.problems)
        except (KeyError, TypeError, AttributeError, ValueError):
            if schema.validate(tree, self.problems):
                raise
            return None
        relative = posixpath.relpath(posixpath.dirname(path), place.directory)
        Paths(relative, self.settings.home, self.problems).tree(tree)
        self.bases[known] = Base(services, resets)
        return self.bases[known]

    # include ---------------------------------------------------------------------------------------------------

    def include_all(self, tree: Map, place: Place) -> None:
        """Load what ``include`` names and add its elements to the document, in place."""
        includes = tree.pop("include", None)
        if includes is None:
            return
        mark = tree.marks.get("include")
        if not isinstance(includes, list):
            self.problems.add_at(mark, "include must be a list", where=("include",))
            return
        for index, (entry, entry_mark) in enumerate(entries(includes)):
            self.include(entry, entry_mark or mark, ("include", index), tree, place)

    def include(
        self,
        entry: Raw,
        mark: Mark | None,
        where: Where,
        tree: Map,
        place: Place,
    ) -> None:
        for key in [key for key in entry if key not in _INCLUDE] if isinstance(entry, Map) else ():
            at = entry.marks[key]
            line = (at.key or at.value).start_mark.line + 1
            self.problems.warn(
                f'{at.source.name}:{line}: include knows no key "{key}"; it is ignored'
            )
            del entry[key]
        was_partial, self.problems.partial = self.problems.partial, True
        holder = Map()
        holder["include"] = Seq([entry], [mark])
        before = len(self.problems.found)
        schema.validate(holder, self.problems)
        if len(self.problems.found) != before:
            return
        paths, directory, env_files = self.include_parts(entry, place)
        if not paths:
            self.problems.add_at(mark, "include names no path", where=where)
            return
        if paths[0] in place.included:
            trail = " -> ".join(
                shown(path, self.settings.cwd) for path in (*place.included, paths[0])
            )
            self.problems.add_at(mark, f"include goes in a circle: {trail}", where=where)
            return
        environment = self.include_environment(directory, env_files, place, mark)
        files = [read for path in paths if (read := self.files.read(path, mark)) is not None]
        if environment is None or len(files) != len(paths):
            return
        inner = Place(
            directory=directory,
            relative=posixpath.relpath(directory, place.directory),
            environment=environment,
            included=place.included,
        )
        before = len(self.problems.found)
        self.problems.partial = was_partial
        included = self.file_set(files, inner)
        self.import_all(included, tree, mark, quiet=len(self.problems.found) != before)

    def include_parts(self, entry: Raw, place: Place) -> tuple[list[str], str, list[str] | None]:
        if isinstance(entry, str):
            entry = {"path": entry}

        def listed(value: object) -> list[str]:
            return (
                [value]
                if isinstance(value, str)
                else list(value)
                if isinstance(value, list)
                else []
            )

        expand = Paths(place.directory, self.settings.home, self.problems)
        paths = [
            path if discover.is_remote(path) else expand.plain(path)
            for path in listed(entry.get("path"))
        ]
        directory = entry.get("project_directory")
        base = posixpath.dirname(paths[0]) if paths else place.directory
        directory = expand.plain(directory) if directory else base
        env_files = [expand.plain(path) for path in listed(entry.get("env_file"))]
        return paths, directory, env_files or None

    def include_environment(
        self, directory: str, env_files: list[str] | None, place: Place, mark: Mark | None
    ) -> Mapping[str, str] | None:
        if env_files is None:
            default = posixpath.join(directory, ".env")
            env_files = [default] if Path(default).is_file() else []
        values = self.files.env_files(env_files, place.environment, mark)
        return None if values is None else {**values, **place.environment}

    def import_all(self, source: Map, target: Map, mark: Mark | None, *, quiet: bool) -> None:
        """Add the elements of an included set; one that is there already and differs is noted."""
        for kind in ("services", "volumes", "networks", "secrets", "configs", "models"):
            elements = source.get(kind)
            if not isinstance(elements, dict):
                continue
            own = target.get(kind)
            if not isinstance(own, dict):
                own = target[kind] = Map()
            for name, element in elements.items():
                if name not in own:
                    own[name] = element
                    own_mark = elements.marks.get(name) if isinstance(elements, Map) else None
                    if own_mark is not None and isinstance(own, Map):
                        own.marks[name] = own_mark
                elif own[name] != element and not quiet:
                    at = own.marks.get(name) if isinstance(own, Map) else None
                    self.problems.add_at(
                        at or mark,
                        f"{kind}.{name} is defined here and differently by an included file",
                        where=(kind, name),
                        hint="an included element can be changed in an override file",
                        key=True,
                    )


def _clear(tree: Raw, where: Where, mark: Mark) -> None:
    """Remove the entry that a ``!reset`` or ``!override`` path names; entries of lists stay.

    The mark of what removed it stays behind, so that a message about its absence can point there.
    """
    node = tree
    for step in where[:-1]:
        if not isinstance(node, dict):
            return
        node = node.get(step)
    if where and isinstance(node, dict):
        node.pop(where[-1], None)
        if isinstance(node, Map):
            node.marks[str(where[-1])] = mark


def _set_defaults(tree: Map) -> None:
    """Give long forms the values that the short ones imply."""
    for service in (tree.get("services") or {}).values():
        if not isinstance(service, dict):
            continue
        build = service.get("build")
        if isinstance(build, dict):
            build.setdefault("context", ".")
        for secret in service.get("secrets") or ():
            if isinstance(secret, dict):
                secret.setdefault("target", f"/run/secrets/{secret.get('source', '')}")
        for port in service.get("ports") or ():
            if isinstance(port, dict):
                port.setdefault("protocol", "tcp")
                port.setdefault("mode", "ingress")
        for request in [*_reserved(service), *(service.get("gpus") or ())]:
            if isinstance(request, dict) and "count" not in request and "device_ids" not in request:
                request["count"] = "all"


def _reserved(service: Raw) -> list[Raw]:
    node = service
    for key in ("deploy", "resources", "reservations", "devices"):
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, list) else []
