"""Where a value came from: file, line, column, the step that brought it, and the variables it was made of."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from stackctl.errors import NotFoundError
from stackctl.frozen import frozen
from stackctl.orchestrator.stackfile.interpolate import Reference, TemplateError, references
from stackctl.orchestrator.stackfile.load import Loaded
from stackctl.orchestrator.stackfile.marks import (
    Map,
    Mark,
    Raw,
    Seq,
    Source,
    Where,
    dotted,
    mark_of,
    nearest,
    shown,
)
from stackctl.orchestrator.stackfile.problems import Problems, suggestion
from stackctl.orchestrator.stackfile.reader import decode, read
from stackctl.values import Json


@frozen
class Origin:
    """The place that wrote a value; ``exact`` is False when an enclosing element speaks for it (an implied value).

    ``step`` is how the value got there when its own file did not just say it: an override file, extends, include, an
    env_file. ``sources`` are the variables with their values and where those come from.
    """

    where: str
    value: Json
    path: str
    line: int
    column: int
    variables: tuple[str, ...] = ()
    exact: bool = True
    step: str = ""
    sources: tuple[tuple[str, str], ...] = ()


@frozen
class Variable:
    """A variable that the stack files mention."""

    name: str
    required: bool = False
    default: str = ""
    alternate: str = ""


def explain(loaded: Loaded, key_path: str) -> Origin:
    """Return the origin of ``services.web.ports[0]`` or the like; raises NotFoundError for an unknown path."""
    where = parse_path(key_path)
    value: Raw = loaded.tree
    for step in where:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            known = value.keys() if isinstance(value, dict) else ()
            hint = suggestion(str(step), known)
            raise NotFoundError(f"the stack has no {key_path}", hint=hint) from error
    mark, exact = nearest(loaded.marked, where)
    if mark is None:
        return Origin(where=dotted(where), value=value, path="", line=0, column=0, exact=False)
    position = mark.value.start_mark
    return Origin(
        where=dotted(where),
        value=value,
        path=mark.source.name,
        line=position.line + 1,
        column=position.column + 1,
        variables=mark.variables,
        exact=exact,
    )


def origins(loaded: Loaded, key_path: str, *, environ: Mapping[str, str]) -> list[Origin]:
    """Return the origin of a value, or of every value below an element; raises NotFoundError for an unknown path.

    ``environ`` is the process environment, which tells a shell's variable from one of an env file.
    """
    top = explain(loaded, key_path)
    where = parse_path(key_path)
    return [_whole(loaded, leaf, environ) for leaf in _leaves(top.value, where)]


def _leaves(value: Raw, where: Where) -> Iterator[Where]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*where, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*where, index))
    else:
        yield where


def _whole(loaded: Loaded, where: Where, environ: Mapping[str, str]) -> Origin:
    value: Raw = loaded.tree
    for step in where:
        value = value[step]
    mark, exact = nearest(loaded.marked, where)
    if not exact and len(where) == 4 and where[2] == "environment":
        found = _from_env_file(loaded, str(where[1]), str(where[3]))
        if found is not None:
            path, line = found
            return Origin(
                where=dotted(where), value=value, path=path, line=line, column=1, step="env_file"
            )
    if mark is None:
        return Origin(where=dotted(where), value=value, path="", line=0, column=0, exact=False)
    position = mark.value.start_mark
    origin = Origin(
        where=dotted(where),
        value=value,
        path=mark.source.name,
        line=position.line + 1,
        column=position.column + 1,
        variables=mark.variables,
        exact=exact,
    )
    return replace(
        origin,
        step=_step(loaded, where, mark),
        sources=tuple((name, _variable_source(loaded, name, environ)) for name in mark.variables),
    )


def _variable_source(loaded: Loaded, name: str, environ: Mapping[str, str]) -> str:
    """Say where a variable has its value from."""
    if name in environ:
        return "the environment"
    if name == "COMPOSE_PROJECT_NAME":
        return "the name of the stack"
    for path in loaded.env_files:
        line = _line_of(path, name)
        if line:
            return f"{shown(path, loaded.working_dir)}:{line}"
    return "the environment" if name in loaded.environment else "not set here"


def _from_env_file(loaded: Loaded, service: str, name: str) -> tuple[str, int] | None:
    """Return the file and line of the last of a service's env files that sets a variable."""
    entries = loaded.marked["services"][service].get("env_file")
    for entry in reversed(entries or ()):
        path = entry if isinstance(entry, str) else entry.get("path", "")
        line = _line_of(path, name)
        if line:
            return shown(path, loaded.working_dir), line
    return None


def _line_of(path: str, name: str) -> int:
    """Return the last line of an env file that sets a variable, 0 where none does."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return 0
    setting = re.compile(rf"\s*(?:export\s+)?{re.escape(name)}\s*(?:[=:]|$)")
    return max((number for number, line in enumerate(lines, 1) if setting.match(line)), default=0)


# The way a value took ------------------------------------------------------------------------------------------------


def _step(loaded: Loaded, where: Where, mark: Mark) -> str:
    """Say through which merge, extends or include a value came; nothing for a value that simply stands there."""
    path, place = mark.source.path, _place(mark)
    if len(where) > 1 and where[0] == "services":
        for file, base, places in _chain(loaded, str(where[1])):
            if file == path and place in places:
                if base:
                    return f"extends {base} of {shown(file, loaded.working_dir)}"
                break
    if path == loaded.files[0]:
        return ""
    if path in loaded.files:
        below = loaded.files[loaded.files.index(path) - 1]
        return f"merged over {shown(below, loaded.working_dir)}"
    return "include"


Places = frozenset[tuple[int, int]]


def _chain(loaded: Loaded, service: str) -> Iterator[tuple[str, str, Places]]:
    """Yield a service and those it extends, as they stand in their files: file, base ("": itself), places."""
    pending = [(path, service) for path in loaded.files]
    own = set(pending)
    seen: set[tuple[str, str]] = set()
    while pending:
        path, name = pending.pop(0)
        if (path, name) in seen:
            continue
        seen.add((path, name))
        written = _written(path, name)
        if written is None:
            continue
        yield path, "" if (path, name) in own else name, _places(written)
        base = written.get("extends")
        if isinstance(base, str):
            pending.append((path, base))
        elif isinstance(base, dict) and isinstance(base.get("service"), str):
            file = base.get("file")
            there = (
                posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
            )
            pending.append((there, base["service"]))


def _written(path: str, service: str) -> Raw:
    """Return a service as its file has it, unmerged; None where it has none."""
    try:
        source = Source(name=path, path=path, text=decode(Path(path).read_bytes()))
    except (OSError, ValueError):
        return None
    for document in read(source, Problems()):
        tree: Raw = document.tree
        services = tree.get("services") if isinstance(tree, Map) else None
        if isinstance(services, Map) and isinstance(services.get(service), Map):
            return services[service]
    return None


def _places(value: Raw) -> Places:
    found: set[tuple[int, int]] = set()
    pending = [value]
    while pending:
        node = pending.pop()
        steps = node.keys() if isinstance(node, Map) else range(len(node))
        for step in steps:
            mark = mark_of(node, step)
            if mark is not None:
                found.add(_place(mark))
            if isinstance(node[step], Map | Seq):
                pending.append(node[step])
    return frozenset(found)


def _place(mark: Mark) -> tuple[int, int]:
    position = mark.value.start_mark
    return position.line, position.column


def parse_path(text: str) -> Where:
    """Return the steps of ``a.b[0].c``; a key that holds dots stands in quotes: ``labels."com.example.x"``."""
    steps: list[str | int] = []
    word, quote = "", ""
    for char in text:
        if quote:
            if char == quote:
                quote = ""
            else:
                word += char
        elif char in "\"'":
            quote = char
        elif char in ".[]":
            if word:
                steps.append(int(word) if char == "]" and word.isdigit() else word)
            word = ""
        else:
            word += char
    if word:
        steps.append(word)
    return tuple(steps)


def variables(tree: Raw) -> list[Variable]:
    """Return the variables that the values of a tree mention, by name; the tree must not be interpolated."""
    found: dict[str, Variable] = {}
    _collect(tree, found)
    return [found[name] for name in sorted(found)]


def _collect(value: Raw, found: dict[str, Variable]) -> None:
    if isinstance(value, str):
        _collect_text(value, found)
    elif isinstance(value, Map | dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, Seq | list):
        for item in value:
            _collect(item, found)


def _collect_text(text: str, found: dict[str, Variable]) -> None:
    try:
        mentioned = list(references(text)) if "$" in text else []
    except TemplateError:
        return
    for reference in mentioned:
        if reference.name != "$":
            found[reference.name] = _variable(reference)
            _collect_text(reference.operand, found)


def _variable(reference: Reference) -> Variable:
    operator, operand = reference.operator, reference.operand
    return Variable(
        name=reference.name,
        required=operator.endswith("?"),
        default=operand if operator.endswith("-") else "",
        alternate=operand if operator.endswith("+") else "",
    )
