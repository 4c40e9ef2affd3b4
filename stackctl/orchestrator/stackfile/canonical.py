"""Short forms to long forms, one key at a time.

After this phase an element has one shape only: ``build`` is a mapping, ``ports`` are single long entries,
``depends_on`` maps names to conditions. The tree is changed in place; what cannot be read is noted and dropped.
"""

from collections.abc import Callable

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.stackfile.marks import (
    Map,
    Mark,
    Raw,
    Seq,
    Where,
    dotted,
    entries,
    mark_of,
)
from stackctl.orchestrator.stackfile.merge import STARTED
from stackctl.orchestrator.stackfile.portspec import parse_ports
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.text import go_text
from stackctl.orchestrator.stackfile.volumes import parse_volume

MAX_PORTS = 65_536
MAX_ALL_PORTS = 100_000
TOP_LEVEL_RESOURCES = ("volumes", "networks", "secrets", "configs")


class Canonical:
    """The phase under way; ``lenient`` keeps short forms that cannot be read (text not interpolated)."""

    def __init__(self, problems: Problems, *, lenient: bool = False) -> None:
        self.problems = problems
        self.lenient = lenient
        self.ports = 0

    def tree(self, tree: Map) -> None:
        """Bring a whole tree into long form, in place."""
        services = tree.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if isinstance(service, Map):
                self.service(service, ("services", name))
        for kind in TOP_LEVEL_RESOURCES:
            resources = tree.get(kind)
            for name, resource in resources.items() if isinstance(resources, dict) else ():
                if isinstance(resource, dict):
                    self.external(resource, (kind, name))

    def service(self, service: Map, where: Where) -> None:
        for key in [key for key in service if key in _SERVICE]:
            value = service[key]
            if value is None:
                continue
            try:
                service[key] = _SERVICE[key](self, value, (*where, key), service.marks.get(key))
            except _Wrong as error:
                full = (*where, key, *error.step)
                mark = error.mark or service.marks.get(key)
                self.problems.add_at(mark, f"{dotted(full)}: {error}", where=full, hint=error.hint)
                del service[key]

    def external(self, resource: Raw, where: Where) -> None:
        """``external: {name: N}`` is the old form of ``external: true`` with ``name: N``."""
        external = resource.get("external")
        if not isinstance(external, dict):
            return
        resource["external"] = True
        name = external.get("name")
        if name is None:
            return
        place = dotted(where)
        self.problems.warn(f"{place}: external.name is deprecated; set name and external: true")
        if resource.get("name") not in (None, name):
            self.problems.add_at(
                mark_of(resource, "external"),
                f"{place}: name and external.name conflict; only use name",
                where=(*where, "external", "name"),
            )
        resource.setdefault("name", name)


class _Wrong(ValueError):
    """The value of a key is wrong at ``step`` below it."""

    def __init__(
        self, message: str, step: Where = (), mark: Mark | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.step = step
        self.mark = mark
        self.hint = hint


Form = Callable[[Canonical, Raw, Where, Mark | None], Raw]


def _build(phase: Canonical, value: Raw, where: Where, mark: Mark | None) -> object:
    if isinstance(value, str):
        made = Map()
        made["context"] = value
        if mark is not None:
            made.marks["context"] = mark
        return made
    if not isinstance(value, Map):
        raise _Wrong("expected text or a mapping")
    for key in [key for key in value if key in _BUILD]:
        if value[key] is not None:
            try:
                value[key] = _BUILD[key](phase, value[key], (*where, key), value.marks.get(key))
            except _Wrong as error:
                raise _Wrong(
                    str(error), (key, *error.step), error.mark or value.marks.get(key), error.hint
                ) from error
    return value


def _text(_phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    return value if isinstance(value, str) else go_text(value)


def _text_list(_phase: Canonical, value: Raw, _where: Where, mark: Mark | None) -> object:
    return Seq([value], [mark]) if isinstance(value, str) else value


def _key_values(phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    if not isinstance(value, list):
        for name, item in value.items():
            value[name] = item if isinstance(item, str) else go_text(item)
        return value
    made = Map()
    for index, (item, mark) in enumerate(entries(value)):
        name, equals, text = str(item).partition("=")
        if not equals:
            if phase.lenient:
                return value
            raise _Wrong(f"expected NAME=VALUE, got {item!r}", (index,), mark)
        made[name] = text
        if mark is not None:
            made.marks[name] = mark
    return made


def _ssh(_phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    if not isinstance(value, list):
        return value
    made = Map()
    for index, (item, mark) in enumerate(entries(value)):
        name, equals, path = str(item).partition("=")
        if not equals and name != "default":
            raise _Wrong(f"invalid SSH key {item!r}", (index,), mark, 'write "default" or ID=PATH')
        made[name] = path if equals else None
        if mark is not None:
            made.marks[name] = mark
    return made


def _depends_on(_phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    if isinstance(value, dict):
        for name, entry in value.items():
            if not isinstance(entry, dict):
                raise _Wrong("expected a mapping", (name,), mark_of(value, name))
            for key, default in STARTED.items():
                entry.setdefault(key, default)
        return value
    made = Map()
    for item, mark in entries(value):
        entry = Map()
        entry.update(STARTED)
        made[item] = entry
        if mark is not None:
            made.marks[item] = mark
    return made


def _names(_phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    if not isinstance(value, list):
        return value
    made = Map()
    for item, mark in entries(value):
        made[item] = None
        if mark is not None:
            made.marks[item] = mark
    return made


def _env_file(_phase: Canonical, value: Raw, _where: Where, mark: Mark | None) -> object:
    if isinstance(value, str):
        value = Seq([value], [mark])
    made = Seq()
    for item, item_mark in entries(value):
        entry = item
        if isinstance(item, str):
            entry = Map()
            entry["path"] = item
            if item_mark is not None:
                entry.marks["path"] = item_mark
        if isinstance(entry, dict):
            entry.setdefault("required", True)
        made.put(entry, item_mark)
    return made


def _gpus(_phase: Canonical, value: Raw, _where: Where, mark: Mark | None) -> object:
    if isinstance(value, str):
        entry = Map()
        entry["count"] = "all"
        return Seq([entry], [mark])
    return value


def _each(form: Callable[[Canonical, Raw], Raw]) -> Form:
    def every(phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
        if not isinstance(value, list):
            return value
        made = Seq()
        for index, (item, mark) in enumerate(entries(value)):
            try:
                made.put(form(phase, item), mark)
            except InvalidInputError as error:
                if phase.lenient:
                    made.put(item, mark)
                else:
                    raise _Wrong(error.message, (index,), mark, error.hint) from error
        return made

    return every


def _mount(_phase: Canonical, item: Raw) -> object:
    if not isinstance(item, str):
        return item
    made = Map()
    made.update(parse_volume(item))
    return made


def _device(_phase: Canonical, item: Raw) -> object:
    if not isinstance(item, str):
        return item
    parts = item.split(":")
    if len(parts) > 3:
        raise InvalidInputError(
            f"invalid device {item!r}: too many colons", hint="use the long form"
        )
    made = Map()
    made["source"] = parts[0]
    made["target"] = (parts[1] if len(parts) > 1 else "") or parts[0]
    made["permissions"] = parts[2] if len(parts) == 3 else "rwm"
    return made


def _file(_phase: Canonical, item: Raw) -> object:
    if not isinstance(item, str):
        return item
    made = Map()
    made["source"] = item
    return made


def _ports(phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    made = Seq()
    for index, (item, mark) in enumerate(entries(value)):
        if isinstance(item, dict):
            made.put(item, mark)
            continue
        try:
            ports = parse_ports(str(item))
            if len(made) + len(ports) > MAX_PORTS:
                raise _Wrong(f"more than {MAX_PORTS} ports in one service", (index,), mark)
            phase.ports += len(ports)
            if phase.ports > MAX_ALL_PORTS:
                raise _Wrong(f"more than {MAX_ALL_PORTS} ports in one stack", (index,), mark)
            for port in ports:
                entry = Map()
                entry.update(port)
                made.put(entry, mark)
        except InvalidInputError as error:
            if phase.lenient:
                return value
            raise _Wrong(error.message, (index,), mark, error.hint) from error
    return made


def _dns(phase: Canonical, value: Raw, where: Where, mark: Mark | None) -> object:
    items = _text_list(phase, value, where, mark)
    if not isinstance(items, list):
        return items
    kept = [(item, at) for item, at in entries(items) if item not in ("", None)]
    return Seq([item for item, _ in kept], [at for _, at in kept])


def _develop(_phase: Canonical, value: Raw, _where: Where, _mark: Mark | None) -> object:
    watch = value.get("watch") if isinstance(value, dict) else None
    for rule in watch if isinstance(watch, list) else ():
        for key in ("ignore", "include"):
            if isinstance(rule, dict) and isinstance(rule.get(key), str):
                rule[key] = Seq([rule[key]], [mark_of(rule, key)])
    return value


_files = _each(_file)
_BUILD: dict[str, Form] = {
    "secrets": _files,
    "provenance": _text,
    "sbom": _text,
    "additional_contexts": _key_values,
    "ssh": _ssh,
}
_SERVICE: dict[str, Form] = {
    "build": _build,
    "configs": _files,
    "depends_on": _depends_on,
    "develop": _develop,
    "devices": _each(_device),
    "dns": _dns,
    "env_file": _env_file,
    "gpus": _gpus,
    "label_file": _text_list,
    "models": _names,
    "networks": _names,
    "ports": _ports,
    "secrets": _files,
    "volumes": _each(_mount),
}
