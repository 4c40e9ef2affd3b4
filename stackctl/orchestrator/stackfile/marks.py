"""Trees that remember where each value was written.

A stack file becomes plain mappings and lists, so that every phase is ordinary code; ``Map`` and ``Seq`` carry,
beside each entry, the place it came from. A phase that moves an entry moves its mark with it; a phase that makes a
new container may leave marks out, and the nearest enclosing mark speaks for it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

# A value as it stands in a file: of any shape until its key says otherwise.
Raw = Any
Step = str | int
Where = tuple[Step, ...]


class Position(Protocol):
    """A place in a text, counted from 0; the parser's own marks are used as they are."""

    line: int
    column: int


class Node(Protocol):
    """The part of a parser's node that is kept."""

    start_mark: Position


# YAML counts more than "\n" as the end of a line, str.splitlines more than YAML.
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
# Compiled when a mistake is shown: sets that reach so far take milliseconds.
_UNPRINTABLE = r"[^ -~\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
_MAX_LINES = 200_000  # of a file with more no excerpt is shown; the lines would take more memory than the file
_WIDTH = 160
_MAX_STEP = 100


@dataclass(slots=True)
class Source:
    """One stack file: its name as shown to the user, its absolute path and its text."""

    name: str
    path: str
    text: str = ""
    lines: list[str] = field(default_factory=list)

    def line(self, number: int) -> str:
        """Return a line, counted from 1."""
        if not self.lines and self.text and self.text.count("\n") < _MAX_LINES:
            self.lines = _LINE_END.split(self.text)
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def excerpt(self, number: int, column: int) -> tuple[str, int]:
        """Return a line, or the part of a long one around a column, and the column in it; fit for a terminal."""
        text = self.line(number)
        start = max(0, column - 1 - _WIDTH // 2) if len(text) > _WIDTH else 0
        shown = re.sub(_UNPRINTABLE, " ", text[start : start + _WIDTH]).rstrip()
        if start and shown:
            return f"…{shown}", column - start + 1
        return shown, column


@dataclass(slots=True)
class Mark:
    """Where an entry was written: file, node of the key (None in a list), node of the value, variables used."""

    source: Source
    key: Node | None
    value: Node
    variables: tuple[str, ...] = ()


class Map(dict[str, Any]):
    """A mapping whose entries have marks."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        super().__init__()
        self.marks: dict[str, Mark] = {}

    def take(self, key: str, other: dict[str, Any], value: object = None) -> None:
        """Set ``key`` to the value, or to that of ``other``, with the mark it has there."""
        self[key] = other[key] if value is None else value
        mark = mark_of(other, key)
        if mark is not None:
            self.marks[key] = mark


class Seq(list[Any]):
    """A list whose entries have marks; ``marks`` may be shorter than the list."""

    __slots__ = ("marks",)

    def __init__(self, items: Iterable[object] = (), marks: Iterable[Mark | None] = ()) -> None:
        super().__init__(items)
        self.marks: list[Mark | None] = list(marks)

    def put(self, item: object, mark: Mark | None) -> None:
        """Append an item with its mark."""
        while len(self.marks) < len(self):
            self.marks.append(None)
        self.append(item)
        self.marks.append(mark)

    def entries(self) -> Iterator[tuple[Any, Mark | None]]:
        """Go through items and marks."""
        marks = self.marks
        for index, item in enumerate(self):
            yield item, marks[index] if index < len(marks) else None


def entries(items: Sequence[object]) -> Iterator[tuple[Any, Mark | None]]:
    """Go through the items of any list with their marks, None where there are none."""
    if isinstance(items, Seq):
        yield from items.entries()
    else:
        for item in items:
            yield item, None


def mark_of(container: object, step: Step) -> Mark | None:
    """Return the mark of one entry, if it has one."""
    if isinstance(container, Map):
        return container.marks.get(str(step))
    if isinstance(container, Seq) and isinstance(step, int) and step < len(container.marks):
        return container.marks[step]
    return None


def copy(value: Raw) -> Raw:
    """Return a deep copy, marks shared."""
    if isinstance(value, Map):
        made = Map()
        made.marks = dict(value.marks)
        for key, item in value.items():
            made[key] = copy(item) if isinstance(item, dict | list) else item
        return made
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [copy(item) if isinstance(item, dict | list) else item for item in value]
        return Seq(items, value.marks) if isinstance(value, Seq) else items
    return value


def weight(value: Raw) -> int:
    """Return how many values a value holds, itself included."""
    count, pending = 0, [value]
    while pending:
        item = pending.pop()
        count += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return count


def nearest(tree: object, where: Where) -> tuple[Mark | None, bool]:
    """Return the mark of the deepest known entry on the way to ``where``, and whether it is ``where`` itself."""
    found: Mark | None = None
    exact = False
    node = tree
    for step in where:
        mark = mark_of(node, step)
        exact = mark is not None
        found = mark or found
        if isinstance(node, dict):
            node = node.get(str(step))
        elif isinstance(node, list) and isinstance(step, int) and step < len(node):
            node = node[step]
        else:
            node = None
    return found, exact


def dotted(where: Where) -> str:
    """Return the path in words: ``services.web.ports[0]``."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            word = step if len(step) <= _MAX_STEP else f"{step[:_MAX_STEP]}…"
            text += f".{word}" if text else word
    return text


def shown(path: str, directory: str) -> str:
    """Return a path as the user would name it from ``directory``."""
    prefix = directory.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) and len(path) > len(prefix) else path
