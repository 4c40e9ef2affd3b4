"""A merged tree against ``schemas/stack.schema.json``, every mistake named.

The schema is compiled to plain functions, for two reasons: a general validator costs 0.1 s to import and seconds on
a thousand services, and its messages speak of ``oneOf``, while people want to know which key is wrong and what was
meant. Of JSON Schema 2020-12 exactly the keywords that the file uses are understood; another one is an error of
ours, which a test would show. What this pass accepts, ``authority`` confirms.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from stackctl.errors import NotFoundError
from stackctl.orchestrator.stackfile.marks import Raw, Where, dotted
from stackctl.orchestrator.stackfile.problems import MAX_PROBLEMS, MEANT, Problems, suggestion
from stackctl.orchestrator.stackfile.scalars import Timestamp
from stackctl.values import JsonObject

# A check adds what is wrong to the list: path below the value, message, hint, and whether the key is meant.
Finding = tuple[Where, str, str, bool]
Check = Callable[[Raw, Where, list[Finding]], None]

_NAME = "stack.schema.json"
_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "default", "examples", "deprecated"}
)


@cache
def schema_text() -> str:
    """Return the text of the schema: of the wheel, else of the checkout."""
    package = Path(__file__).resolve().parents[2]
    for directory in (package / "_schemas", package.parent / "schemas"):
        path = directory / _NAME
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise NotFoundError(f"{_NAME} is not installed", hint="reinstall stackctl")


@cache
def load_schema() -> JsonObject:
    """Return the schema; read once."""
    loaded: JsonObject = json.loads(schema_text())
    return loaded


@cache
def _checker() -> Check:
    return _Compiler(load_schema()).root()


def validate(tree: Raw, problems: Problems) -> bool:
    """Note every place where the tree departs from the schema, and drop it so that later phases can go on.

    Says whether the tree fits.
    """
    findings: list[Finding] = []
    _checker()(tree, (), findings)
    for where, message, hint, key in findings:
        problems.add(
            f"{dotted(where)}: {message}" if where else message,
            tree=tree,
            where=where,
            hint=hint,
            key=key,
        )
    for where, _, _, _ in sorted(findings, key=lambda found: len(found[0]), reverse=True):
        _drop(tree, where)
        problems.dropped.update(where[:depth] for depth in range(1, len(where) + 1))
    for where, _, hint, _ in findings:
        if hint.startswith(MEANT):
            # The key that was meant is not missing, only misspelt.
            problems.dropped.add((*where[:-1], hint[len(MEANT) : -2]))
    return not findings


def _drop(tree: Raw, where: Where) -> None:
    """Take the element out; what is left of a list keeps its places."""
    node = tree
    for step in where[:-1]:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return
    if where and isinstance(node, dict):
        node.pop(where[-1], None)
    elif where and isinstance(node, list) and isinstance(where[-1], int):
        holder = tree
        for step in where[:-2]:
            holder = holder[step]
        if len(where) > 1 and isinstance(holder, dict):
            holder.pop(where[-2], None)


class _Compiler:
    """Schema to checks; references compile once, when first needed."""

    def __init__(self, document: JsonObject) -> None:
        self.document = document
        self.shared: dict[str, Check] = {}

    def root(self) -> Check:
        return self.compile(self.document)

    def compile(self, schema: Raw) -> Check:
        if not schema or schema is True:
            return _anything
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if "oneOf" in schema:
            return self._choice(schema["oneOf"])
        checks: list[Check] = []
        types = schema.get("type")
        words = [types] if isinstance(types, str) else list(types or ())
        checks.extend(self._keywords(schema))
        return _typed(words, checks)

    def _keywords(self, schema: Raw) -> list[Check]:
        checks: list[Check] = []
        for keyword in schema:
            if keyword in _ANNOTATIONS or keyword in (
                "type",
                "patternProperties",
                "additionalProperties",
            ):
                continue
            if keyword == "properties":
                continue
            maker = getattr(self, f"_{keyword}", None)
            if maker is None:
                raise ValueError(f"the stack schema uses {keyword!r}, which is not understood")
            checks.append(maker(schema[keyword]))
        if schema.keys() & {"properties", "patternProperties", "additionalProperties"}:
            checks.insert(0, self._members(schema))
        return checks

    def _reference(self, name: str) -> Check:
        if name in self.shared:
            return self.shared[name]

        def late(value: Raw, where: Where, found: list[Finding]) -> None:
            self.shared[name](value, where, found)

        self.shared[name] = late
        definitions: Raw = self.document["$defs"]
        self.shared[name] = self.compile(definitions[name.removeprefix("#/$defs/")])
        return self.shared[name]

    def _choice(self, options: list[Raw]) -> Check:
        branches = [(self.compile(option), self._types(option)) for option in options]
        words = _or([word for _, types in branches for word in types])

        def choice(value: Raw, where: Where, found: list[Finding]) -> None:
            kind = _type_of(value)
            fitting: list[Finding] | None = None
            for check, types in branches:
                if types and not _fits(kind, value, types):
                    continue
                mine: list[Finding] = []
                check(value, where, mine)
                if not mine:
                    return
                if fitting is None or _depth(mine) > _depth(fitting):
                    fitting = mine
            if fitting is None:
                found.append((where, f"expected {words}, got {_described(value)}", "", False))
            else:
                found.extend(fitting)

        return choice

    def _types(self, schema: Raw) -> list[str]:
        if "$ref" in schema:
            definitions: Raw = self.document["$defs"]
            return self._types(definitions[schema["$ref"].removeprefix("#/$defs/")])
        if "oneOf" in schema:
            return [word for option in schema["oneOf"] for word in self._types(option)]
        types = schema.get("type", [])
        return [types] if isinstance(types, str) else list(types)

    def _members(self, schema: Raw) -> Check:
        known: JsonObject = schema.get("properties", {})
        compiled: dict[str, Check] = {}
        patterns = [
            (re.compile(pattern), self.compile(part))
            for pattern, part in schema.get("patternProperties", {}).items()
        ]
        others = schema.get("additionalProperties")
        closed = others is False
        if isinstance(others, dict):
            patterns.append((re.compile(""), self.compile(others)))
        free = not schema.get("properties")

        def members(value: Raw, where: Where, found: list[Finding]) -> None:
            if not isinstance(value, dict):
                return
            for key, item in value.items():
                if key in known:
                    check = compiled.get(key)
                    if check is None:
                        # Most files use few of the many keys; the others need no check.
                        check = compiled[key] = self.compile(known[key])
                    check(item, (*where, key), found)
                    continue
                for pattern, part in patterns:
                    if pattern.search(key):
                        part(item, (*where, key), found)
                        break
                else:
                    if closed:
                        known_keys = list(known) if len(found) < MAX_PROBLEMS else []
                        found.append(_unknown(key, where, known_keys, free=free))

        return members

    def _items(self, schema: Raw) -> Check:
        item_check = self.compile(schema)

        def items(value: Raw, where: Where, found: list[Finding]) -> None:
            if isinstance(value, list):
                for index, item in enumerate(value):
                    item_check(item, (*where, index), found)

        return items

    def _required(self, names: list[str]) -> Check:
        def required(value: Raw, where: Where, found: list[Finding]) -> None:
            if isinstance(value, dict):
                missing = [name for name in names if name not in value]
                found.extend((where, f'"{name}" is missing', "", True) for name in missing)

        return required

    def _enum(self, choices: list[str]) -> Check:
        def enum(value: Raw, where: Where, found: list[Finding]) -> None:
            if value not in choices:
                hint = suggestion(str(value), choices) if len(found) < MAX_PROBLEMS else ""
                words = ", ".join(choices)
                found.append(
                    (where, f"expected one of {words}; got {_described(value)}", hint, False)
                )

        return enum

    def _pattern(self, pattern: str) -> Check:
        expression = re.compile(pattern)

        def matches(value: Raw, where: Where, found: list[Finding]) -> None:
            if isinstance(value, str) and not expression.search(value):
                found.append((where, f"{value!r} does not match {pattern}", "", False))

        return matches

    def _minimum(self, limit: float) -> Check:
        def minimum(value: Raw, where: Where, found: list[Finding]) -> None:
            if isinstance(value, int | float) and value < limit:
                found.append((where, f"{value} is less than {limit}", "", False))

        return minimum

    def _maximum(self, limit: float) -> Check:
        def maximum(value: Raw, where: Where, found: list[Finding]) -> None:
            if isinstance(value, int | float) and value > limit:
                found.append((where, f"{value} is more than {limit}", "", False))

        return maximum

    def _uniqueItems(self, wanted: bool) -> Check:  # noqa: N802 - the keyword's own name
        if not wanted:
            return _anything

        def unique(value: Raw, where: Where, found: list[Finding]) -> None:
            if not isinstance(value, list) or len(value) < 2:
                return
            seen: dict[str, int] = {}
            for index, item in enumerate(value):
                name = item if type(item) is str else json.dumps(item, sort_keys=True)
                name = f"{type(item) is str}{name}"
                if name in seen:
                    found.append(
                        (
                            (*where, index),
                            f"the same as item {seen[name]}: {_described(item)}",
                            "",
                            False,
                        )
                    )
                else:
                    seen[name] = index

        return unique


def _anything(_value: Raw, _where: Where, _found: list[Finding]) -> None:
    return


def _typed(words: list[str], checks: list[Check]) -> Check:
    """Check the type, then the rest; the usual cases have their own function, for speed."""
    if words == ["string"] and not checks:

        def string(value: Raw, where: Where, found: list[Finding]) -> None:
            if type(value) is not str:
                found.append(
                    (where, f"expected text, got {_described(value)}", _quote(value), False)
                )

        return string

    def typed(value: Raw, where: Where, found: list[Finding]) -> None:
        if words and not _fits(_type_of(value), value, words):
            hint = _quote(value) if "string" in words else ""
            found.append((where, f"expected {_or(words)}, got {_described(value)}", hint, False))
            return
        for check in checks:
            check(value, where, found)

    return typed


def _type_of(value: object) -> str:
    kind = type(value)
    if kind is str:
        return "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if kind is bool:
        return "boolean"
    if kind is int:
        return "integer"
    if kind is float:
        return "number"
    return "null" if value is None else "timestamp"


def _fits(kind: str, value: object, words: list[str]) -> bool:
    if kind in words:
        return True
    if kind == "integer":
        return "number" in words
    return (
        kind == "number" and "integer" in words and isinstance(value, float) and value.is_integer()
    )


def _depth(found: list[Finding]) -> int:
    return max(len(where) for where, _, _, _ in found)


_WORDS = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "null": "nothing",
}


def _or(words: list[str]) -> str:
    names = list(dict.fromkeys(_WORDS[word] for word in words))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _described(value: object) -> str:
    match value:
        case None:
            return "nothing (null)"
        case Timestamp():
            return f"a date ({value})"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
    text = str(value)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def _quote(value: object) -> str:
    if isinstance(value, bool):
        return "quote it to make it text"
    return "quote it to make it text" if isinstance(value, int | float | Timestamp) else ""


def _unknown(key: str, where: Where, known: list[str], *, free: bool) -> Finding:
    if free:
        message = f'"{dotted((key,))}" is not a valid name: use letters, digits, ".", "_" and "-"'
        return ((*where, key), message, "", True)
    place = dotted(where) or "at the top"
    hint = suggestion(key, known)
    if not hint and "services" in known and not where:
        hint = 'services stand under "services:"'
    return ((*where, key), f'unknown key "{dotted((key,))}" ({place})', hint, True)
