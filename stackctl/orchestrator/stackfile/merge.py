"""One tree over another: the rules of the Compose Specification (13-merge), key by key.

Mappings merge, lists are joined, anything else is replaced. The table names the exceptions. Afterwards ``unify``
drops what a list holds twice: the later entry takes the place of the earlier one with the same key (a mount's
target, a port's address, a variable's name).
"""

from collections.abc import Callable

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
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.text import go_text
from stackctl.orchestrator.stackfile.volumes import volume_target

Merger = Callable[["Merge", Raw, Raw, Where], Raw]
Rules = dict[str, "Rules | Merger"]


class Merge:
    """A merge under way; what cannot be merged is noted and the later value taken."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def trees(self, base: Map, other: Map) -> Map:
        """Return ``base`` (changed in place) with ``other`` over it."""
        merged: Map = self.mappings(base, other, (), _RULES)
        return merged

    def service(self, base: Map, other: Map, name: str) -> Map:
        """Return the service ``base`` with ``other``, which extends it, over it."""
        merged: Map = self.mappings(base, other, ("services", name), _SERVICE)
        return merged

    def mappings(self, base: Raw, other: Raw, where: Where, rules: Rules | Merger | None) -> Raw:
        table: Rules = rules if isinstance(rules, dict) else {}
        for key, value in other.items():
            mark = mark_of(other, key)
            if key in base:
                rule = table.get(key) or table.get("*")
                before = base[key]
                if rule in _LISTING:
                    before, value = _listed(before, mark_of(base, key)), _listed(value, mark)
                merged = self.values(before, value, (*where, key), rule, mark)
                kept = merged is base[key]
                if kept and (value is None or isinstance(merged, dict | list)):
                    continue
                base[key] = merged
            else:
                base[key] = value
            if mark is not None and isinstance(base, Map):
                base.marks[key] = mark
        return base

    def values(
        self,
        base: Raw,
        other: Raw,
        where: Where,
        rule: Rules | Merger | None,
        mark: Mark | None,
    ) -> Raw:
        if callable(rule):
            return rule(self, base, other, where)
        if other is None:
            return base
        if isinstance(base, dict):
            if isinstance(other, dict):
                return self.mappings(base, other, where, rule)
        elif isinstance(base, list):
            if isinstance(other, list):
                return joined(base, other)
        else:
            return other
        wanted = "a mapping" if isinstance(base, dict) else "a list"
        self.problems.add_at(
            mark,
            f"{dotted(where)}: cannot override {wanted} with another kind of value",
            where=where,
        )
        return base


def joined(first: list[Raw], second: list[Raw]) -> Seq:
    """Return both lists in one, marks kept."""
    result = Seq()
    for items in (first, second):
        for item, mark in entries(items):
            result.put(item, mark)
    return result


def as_sequence(value: object) -> Seq:
    """Return the ``key=value`` list that a mapping, list or text stands for."""
    if isinstance(value, dict):
        lines: list[tuple[str, Mark | None]] = []
        for key, item in value.items():
            mark = mark_of(value, key)
            if item is None:
                lines.append((key, mark))
            elif isinstance(item, list):
                lines.extend((f"{key}={go_text(part)}", mark) for part in item)
            else:
                lines.append((f"{key}={go_text(item)}", mark))
        lines.sort(key=lambda line: line[0].encode())
        return Seq([line for line, _ in lines], [mark for _, mark in lines])
    if isinstance(value, list):
        return joined(value, [])
    return Seq([value]) if isinstance(value, str) else Seq()


def as_mapping(value: object, default: dict[str, object] | None) -> Map | None:
    """Return the mapping that a list of names stands for."""
    if isinstance(value, Map):
        return value
    result = Map()
    if isinstance(value, dict):
        for key in value:
            result.take(key, value)
        return result
    if not isinstance(value, list):
        return result if value is None else None
    for item, mark in entries(value):
        if not isinstance(item, str):
            return None
        result[item] = None if default is None else _fresh(default)
        if mark is not None:
            result.marks[item] = Mark(mark.source, mark.value, mark.value, mark.variables)
    return result


def _fresh(default: dict[str, object]) -> Map:
    made = Map()
    made.update(default)
    return made


def _replace(_merge: Merge, _base: object, other: object, _where: Where) -> object:
    return other


def _to_sequence(_merge: Merge, base: object, other: object, _where: Where) -> object:
    return joined(as_sequence(base), as_sequence(other))


def _listed(value: Raw, mark: Mark | None) -> Raw:
    """Return text as a list of one, which keeps where it was written."""
    return Seq([value], [mark]) if isinstance(value, str) else value


def _extra_hosts(_merge: Merge, base: object, other: object, _where: Where) -> object:
    result = as_sequence(base)
    known = set(map(repr, result))
    for item, mark in entries(as_sequence(other)):
        if repr(item) not in known:
            result.put(item, mark)
    return result


def _build(merge: Merge, base: object, other: object, where: Where) -> object:
    sides = []
    for side in (base, other):
        if isinstance(side, str):
            made = Map()
            made["context"] = side
            side = made
        sides.append(side if isinstance(side, dict) else Map())
    return merge.mappings(sides[0], sides[1], where, _BUILD)


def _named(default: dict[str, object] | None) -> Merger:
    def merger(merge: Merge, base: object, other: object, where: Where) -> object:
        left, right = as_mapping(base, default), as_mapping(other, default)
        if left is None or right is None:
            return other if right is None else right
        return merge.mappings(left, right, where, None)

    return merger


def _logging(merge: Merge, base: Raw, other: Raw, where: Where) -> object:
    """Options merge only for one and the same driver."""
    if not isinstance(base, dict) or not isinstance(other, dict):
        return other
    drivers = base.get("driver"), other.get("driver")
    if None in drivers or drivers[0] == drivers[1]:
        return merge.mappings(base, other, where, None)
    return other


def _ipam(merge: Merge, base: object, other: object, where: Where) -> object:
    """Pools with the same subnet merge; others are added."""
    if not isinstance(base, list) or not isinstance(other, list):
        return other
    pools: list[Raw] = []

    def place(subnet: object) -> int:
        return next((n for n, pool in enumerate(pools) if pool.get("subnet") == subnet), -1)

    for original in base:
        for override in other:
            if not isinstance(original, dict) or not isinstance(override, dict):
                return other
            subnet = override.get("subnet")
            if subnet != original.get("subnet") and place(subnet) < 0:
                pools.append(override)
                continue
            merged = merge.mappings(original, override, where, None)
            at = place(merged.get("subnet"))
            if at >= 0:
                pools[at] = merged
            else:
                pools.append(merged)
    return Seq(pools)


_LISTING: tuple[Merger, ...] = (_to_sequence, _extra_hosts)
_BUILD: Rules = {
    "args": _to_sequence,
    "additional_contexts": _to_sequence,
    "extra_hosts": _extra_hosts,
    "labels": _to_sequence,
}
STARTED: dict[str, object] = {"condition": "service_started", "required": True}
_SERVICE: Rules = {
    "annotations": _to_sequence,
    "build": _build,
    "command": _replace,
    "depends_on": _named(STARTED),
    "deploy": {"labels": _to_sequence},
    "dns": _to_sequence,
    "dns_opt": _to_sequence,
    "dns_search": _to_sequence,
    "entrypoint": _replace,
    "env_file": _to_sequence,
    "label_file": _to_sequence,
    "environment": _to_sequence,
    "extra_hosts": _extra_hosts,
    "healthcheck": {"test": _replace},
    "labels": _to_sequence,
    "logging": _logging,
    "models": _named(None),
    "networks": _named(None),
    "sysctls": _to_sequence,
    "tmpfs": _to_sequence,
    "ulimits": {"*": _replace},
}
_RULES: Rules = {
    "services": {"*": _SERVICE},
    "networks": {"*": {"ipam": {"config": _ipam}, "labels": _to_sequence}},
    "volumes": {"*": {"labels": _to_sequence}},
}


# Lists without duplicates ---------------------------------------------------------------------------------------

Indexer = Callable[[Raw], str | None]


class _Unnamed(ValueError):
    """An entry has no key to tell it by."""


def _key_value(item: Raw) -> str | None:
    if not isinstance(item, str):
        raise _Unnamed("expected text")
    return item.partition("=")[0]


def _volume(item: Raw) -> str | None:
    if isinstance(item, dict):
        target = item.get("target")
        if not isinstance(target, str):
            raise _Unnamed('a mount needs a "target"')
        return target
    return volume_target(item) if isinstance(item, str) else ""


def _device(item: Raw) -> str | None:
    if isinstance(item, dict):
        target = item.get("target")
        if not isinstance(target, str):
            raise _Unnamed('a device needs a "target"')
        return target
    if isinstance(item, str):
        parts = item.split(":")
        return parts[0] if len(parts) == 1 else parts[1]
    return ""


def _expose(item: Raw) -> str | None:
    if isinstance(item, bool) or not isinstance(item, int | str):
        raise _Unnamed("expected a port")
    return str(item)


def _file(directory: str) -> Indexer:
    def indexer(item: Raw) -> str | None:
        if isinstance(item, str):
            return f"{directory}/{item}"
        if isinstance(item, dict):
            target = item.get("target")
            return target if isinstance(target, str) else f"{directory}/{item.get('source')}"
        raise _Unnamed("expected a name or a mapping")

    return indexer


def _port(item: Raw) -> str | None:
    if isinstance(item, dict):
        if "target" not in item:
            raise _Unnamed('a port needs a "target"')
        published = item.get("published")
        if not isinstance(published, str):
            published = f"({published})"
        host, protocol = item.get("host_ip", "0.0.0.0"), item.get("protocol", "tcp")
        return f"{host}:{published}:{item['target']}/{protocol}"
    return str(item) if isinstance(item, int | str) and not isinstance(item, bool) else ""


def _env_file(item: Raw) -> str | None:
    if isinstance(item, dict):
        path = item.get("path")
        if not isinstance(path, str):
            raise _Unnamed('an env file needs a "path"')
        return path
    return item if isinstance(item, str) else ""


_UNIQUE_BUILD: dict[str, Indexer] = dict.fromkeys(
    ("args", "additional_contexts", "platform", "tags", "labels"), _key_value
)
_UNIQUE_SERVICE: dict[str, Indexer] = {
    **dict.fromkeys(
        (
            "annotations",
            "cap_add",
            "cap_drop",
            "dns",
            "dns_opt",
            "dns_search",
            "environment",
            "labels",
            "links",
            "profiles",
            "sysctls",
            "tmpfs",
        ),
        _key_value,
    ),
    "configs": _file(""),
    "secrets": _file("/run/secrets"),
    "devices": _device,
    "env_file": _env_file,
    "expose": _expose,
    "ports": _port,
    "volumes": _volume,
}


def unify(tree: Map, problems: Problems) -> None:
    """Drop from every list of the tree what a later entry replaces, in place; bad entries are noted."""
    services = tree.get("services")
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            _unify_service(service, ("services", name), problems)
    networks = tree.get("networks")
    for name, network in networks.items() if isinstance(networks, dict) else ():
        if isinstance(network, dict):
            _unify_key(network, "labels", _key_value, ("networks", name), problems)


def _unify_service(service: Raw, where: Where, problems: Problems) -> None:
    for key in service.keys() & _UNIQUE_SERVICE.keys():
        if isinstance(service[key], list):
            _unify_key(service, key, _UNIQUE_SERVICE[key], where, problems)
    for part, table in (("build", _UNIQUE_BUILD), ("deploy", {"labels": _key_value})):
        inner = service.get(part)
        if isinstance(inner, dict):
            for key, indexer in table.items():
                _unify_key(inner, key, indexer, (*where, part), problems)
    networks = service.get("networks")
    for name, endpoint in networks.items() if isinstance(networks, dict) else ():
        if isinstance(endpoint, dict):
            for key in ("aliases", "link_local_ips"):
                _unify_key(endpoint, key, _key_value, (*where, "networks", name), problems)


def _unify_key(holder: Raw, key: str, indexer: Indexer, where: Where, problems: Problems) -> None:
    items = holder.get(key)
    if not isinstance(items, list) or len(items) == 0:
        return
    places: dict[str | None, int] = {}
    result = Seq()
    for index, (item, mark) in enumerate(entries(items)):
        try:
            name = indexer(item)
        except _Unnamed as error:
            full = (*where, key, index)
            problems.add_at(mark, f"{dotted(full)}: {error}", where=full)
            continue
        if name in places:
            result[places[name]] = item
            result.marks[places[name]] = mark
        else:
            places[name] = len(result)
            result.put(item, mark)
    if len(result) != len(items):
        holder[key] = result
