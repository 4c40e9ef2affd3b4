"""The reference page of stack file keys, made from the schema."""

import json
from collections.abc import Iterator

from stackctl.orchestrator.stackfile.marks import Raw
from stackctl.orchestrator.stackfile.schema import load_schema

_TYPES = {
    "string": "text",
    "object": "mapping",
    "array": "list",
    "boolean": "boolean",
    "integer": "integer",
    "number": "number",
    "null": "null",
}
_MAX_DEPTH = 8


def to_markdown() -> str:
    """Return a table of every key: path, type, default, example and description, in the order of the schema."""
    schema: Raw = load_schema()
    lines = [
        "# Stack file reference",
        "",
        f"{schema['description']} Keys that start with `x-` are free everywhere.",
        "",
        "| key | type | default | example | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, part in schema["properties"].items():
        lines.extend(_rows(name, part, schema["$defs"], 0))
    return "\n".join(lines) + "\n"


def _rows(path: str, part: Raw, definitions: Raw, depth: int) -> Iterator[str]:
    target = _target(part, definitions)
    yield _row(path, part, target, definitions)
    if depth >= _MAX_DEPTH:
        return
    for shape in (target, *(_target(option, definitions) for option in target.get("oneOf", ()))):
        for key, inner in shape.get("properties", {}).items():
            yield from _rows(f"{path}.{key}", inner, definitions, depth + 1)
        for pattern, inner in shape.get("patternProperties", {}).items():
            if pattern != "^x-" and _is_element(inner, definitions):
                yield from _rows(f"{path}.NAME", inner, definitions, depth + 1)
        if "items" in shape and _is_element(shape["items"], definitions):
            yield from list(_rows(f"{path}[]", shape["items"], definitions, depth + 1))[1:]


def _target(part: Raw, definitions: Raw) -> Raw:
    while "$ref" in part:
        part = definitions[part["$ref"].removeprefix("#/$defs/")]
    return part


def _is_element(part: Raw, definitions: Raw) -> bool:
    """Say whether the part has keys of its own."""
    target = _target(part, definitions)
    options = [_target(option, definitions) for option in target.get("oneOf", ())]
    return any("properties" in shape for shape in (target, *options))


def _row(path: str, part: Raw, target: Raw, definitions: Raw) -> str:
    description = part.get("description") or target.get("description", "")
    if "enum" in target:
        description += f" One of: {', '.join(map(str, target['enum']))}."
    examples = part.get("examples") or target.get("examples") or ()
    default = part.get("default", target.get("default"))
    cells = (
        f"`{path}`",
        " or ".join(dict.fromkeys(_types(target, definitions))) or "anything",
        "" if default is None else _code(default),
        _code(examples[0]) if examples else "",
        description.strip(),
    )
    return f"| {' | '.join(cells)} |"


def _types(target: Raw, definitions: Raw) -> list[str]:
    if "oneOf" in target:
        options = (_target(option, definitions) for option in target["oneOf"])
        return [word for option in options for word in _types(option, definitions)]
    words = target.get("type", [])
    return [_TYPES[word] for word in ([words] if isinstance(words, str) else words)]


def _code(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("\n", "\\n").replace("|", "\\|")
