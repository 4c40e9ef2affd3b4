"""Text to marked trees: YAML with merge keys, anchors, ``!reset`` and ``!override``.

The C parser composes nodes with marks; this module turns them into ``Map`` and ``Seq``. Hostile text ends early:
size and nesting are bounded before the (recursive) C composer sees it, and aliases are counted before they are
expanded. Tags that would make a program's objects are refused; other tags of people's own mean nothing.
"""

import re
from dataclasses import dataclass, field

import yaml
from yaml._yaml import CParser

from stackctl.orchestrator.stackfile.marks import Map, Mark, Raw, Seq, Source, Where
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.scalars import ScalarError, resolve

MAX_DEPTH = 1000
MAX_NODES = 200_000
MAX_EXPANDED = 1_000_000
MAX_EVENTS = 1_000_000
MAX_DOCUMENTS = 100
MAX_BYTES = 10 << 20
_DEEP_INDENT = re.compile(rf"^[ \-?]{{{MAX_DEPTH},}}", re.MULTILINE)
_BRACKET = re.compile(r"[\[{\]}]")
_RESET = "!reset"
_OVERRIDE = "!override"
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_TEXT = "tag:yaml.org,2002:str"
_CODE = re.compile(r"(?:tag:yaml\.org,2002:|!)(?:python|ruby|perl|php|javax?|js|net)[/.:]")


Reset = tuple[Where, Mark]


@dataclass(slots=True)
class Document:
    """One YAML document: its tree and the paths that ``!reset`` or ``!override`` clear in what came before."""

    tree: object
    resets: list[Reset] = field(default_factory=list)
    line: int = 1


class _Composer(CParser):
    """The C composer, without Python's implicit tags: plain scalars get none, quoted ones ``str``."""

    def resolve(self, kind: object, value: object, implicit: object) -> str:  # noqa: ARG002
        if kind is yaml.ScalarNode and isinstance(implicit, tuple) and not implicit[0]:
            return _TEXT
        return ""

    def descend_resolver(self, parent: object, index: object) -> None:
        """Do nothing."""

    def ascend_resolver(self) -> None:
        """Do nothing."""


def decode(data: bytes) -> str:
    """Return the text of a stack file; raises UnicodeDecodeError."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    return data.decode("utf-8-sig")


def read(source: Source, problems: Problems) -> list[Document]:
    """Return the documents of a file; mistakes are noted, and what cannot be read is left out."""
    before = len(problems.found)
    if not _small(source, problems) or not _shallow(source, problems):
        return []
    documents: list[Document] = []
    try:
        composer = _Composer(source.text)
        while composer.check_node():
            node = composer.get_node()
            if node is None:
                continue
            if len(documents) == MAX_DOCUMENTS:
                line = node.start_mark.line + 1
                problems.add_in(source, line, 1, f"more than {MAX_DOCUMENTS} documents in one file")
                return []
            documents.append(_Builder(source, problems).document(node))
    except yaml.MarkedYAMLError as error:
        # A key without its colon is wrong where it starts, not where the parser noticed.
        early = error.context == "while scanning a simple key"
        mark = (error.context_mark if early else error.problem_mark) or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        text = " ".join(part for part in (error.context, error.problem) if part)
        deep = "maximum nesting" in text
        message = _TOO_DEEP if deep else f"not valid YAML: {text}"
        problems.add_in(source, line, column, message, hint=_yaml_hint(source, line))
    except yaml.reader.ReaderError as error:
        _note_unreadable(source, problems, error)
    except yaml.YAMLError as error:
        problems.add_in(source, 1, 1, f"not valid YAML: {error}")
    return documents if len(problems.found) == before else []


def _yaml_hint(source: Source, line: int) -> str:
    if "\t" in source.line(line)[: len(source.line(line)) - len(source.line(line).lstrip())]:
        return "indent with spaces, not tabs"
    return ""


def _note_unreadable(source: Source, problems: Problems, error: yaml.reader.ReaderError) -> None:
    """Note the character that no YAML may hold, where it stands."""
    found = yaml.reader.Reader.NON_PRINTABLE.search(source.text)
    if found is None:
        problems.add_in(source, 1, 1, f"not valid YAML: {error.reason}")
        return
    before = source.text[: found.start()]
    column = found.start() - (before.rfind("\n") + 1) + 1
    code = ord(found.group())
    name = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
    hint = (
        "is it UTF-16 or UTF-32? save the file as UTF-8"
        if code == 0
        else 'in double quotes, write "\\e"'
    )
    problems.add_in(
        source,
        before.count("\n") + 1,
        column,
        f"not valid YAML: {name} may not stand here",
        hint=hint if code in (0, 27) else "",
    )


def _small(source: Source, problems: Problems) -> bool:
    """Say whether the text holds a bearable number of values, before any of them takes memory."""
    text = source.text
    # A value has something between it and the one before.
    if sum(map(text.count, (",", "\n", ": ", "- ", "[", "{"))) <= MAX_EVENTS:
        return True
    try:
        events = CParser(text).raw_parse()
    except yaml.YAMLError:
        return True  # the composer says it better
    if events <= MAX_EVENTS:
        return True
    problems.add_in(source, 1, 1, f"more than {MAX_EVENTS // 2} values in one file")
    return False


def _shallow(source: Source, problems: Problems) -> bool:
    """Say whether the nesting is bounded; the exact count is made only where a cheap look is not enough."""
    depth = 0
    for match in _BRACKET.finditer(source.text):
        depth += 1 if match.group() in "[{" else -1
        if depth >= MAX_DEPTH:
            break
    if depth < MAX_DEPTH and not _DEEP_INDENT.search(source.text):
        return True
    depth = 0
    try:
        for event in yaml.parse(source.text, Loader=yaml.CLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    mark: Raw = event.start_mark
                    problems.add_in(
                        source,
                        mark.line + 1,
                        mark.column + 1,
                        _TOO_DEEP,
                    )
                    return False
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return True  # the composer says it better
    return True


_Pair = tuple[str, Raw, Raw]


class _Builder:
    """Nodes of one document to a tree."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self.flat: dict[int, list[_Pair]] = {}
        self.weights: dict[int, int] = {}
        self.open: set[int] = set()
        self.merging: set[int] = set()
        self.keep: list[Raw] = []

    def document(self, root: Raw) -> Document:
        document = Document(tree=None, line=root.start_mark.line + 1)
        before = len(self.problems.found)
        if "*" in self.source.text:
            weight = self._weigh(root)
            # A large file may use aliases freely; a small one that grows a thousandfold is an attack.
            limit = min(MAX_NODES + len(self.source.text) // 2, MAX_EXPANDED)
            if weight > limit:
                self._note(root, f"aliases expand this file to more than {limit} values")
        if len(self.problems.found) == before:
            if _RESET in self.source.text or _OVERRIDE in self.source.text:
                self._find_resets(root, (), document.resets)
            document.tree = self._value(root)
        return document

    def _note(self, node: Raw, message: str, hint: str = "") -> None:
        mark = node.start_mark
        self.problems.add_in(self.source, mark.line + 1, mark.column + 1, message, hint=hint)

    def _note_code(self, node: Raw) -> None:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._note(
            node,
            f'the tag "{tag}" makes an object of a program; a stack file holds data only',
            "leave the tag out",
        )

    def _note_cycle(self, node: Raw) -> None:
        """Note an alias inside its own anchor, at the alias; composed nodes no longer know it."""
        anchors: list[str | None] = []
        for event in yaml.parse(self.source.text, Loader=yaml.CLoader):
            if isinstance(event, yaml.CollectionStartEvent):
                anchors.append(event.anchor)
            elif isinstance(event, yaml.CollectionEndEvent):
                anchors.pop()
            elif isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
                mark: Raw = event.start_mark
                message = f'the anchor "{event.anchor}" contains itself'
                self.problems.add_in(self.source, mark.line + 1, mark.column + 1, message)
                return
        self._note(node, "this anchor contains itself")

    def _weigh(self, node: Raw) -> int:
        """Count the values that a node expands to; an alias inside itself is noted."""
        if node.id == "scalar":
            return 1
        known = self.weights.get(id(node))
        if known is not None:
            return known
        if id(node) in self.open:
            self._note_cycle(node)
            return 1
        self.open.add(id(node))
        if node.id == "sequence":
            children = node.value
        else:
            children = [pair[2] for pair in self._pairs(node)]
        weight = 1 + sum(self._weigh(child) for child in children)
        self.open.discard(id(node))
        self.weights[id(node)] = weight
        return weight

    def _find_resets(self, node: Raw, where: Where, found: list[Reset]) -> None:
        if node.tag in (_RESET, _OVERRIDE):
            found.append((where, Mark(self.source, None, node)))
        elif node.id == "sequence":
            for index, child in enumerate(node.value):
                self._find_resets(child, (*where, index), found)
        elif node.id == "mapping":
            for key, _, child in self._pairs(node):
                self._find_resets(child, (*where, key), found)

    def _pairs(self, node: Raw) -> list[_Pair]:
        """Return the entries of a mapping, merge keys resolved; wrong keys are noted once."""
        known = self.flat.get(id(node))
        if known is not None:
            return known
        self.flat[id(node)] = []
        self.merging.add(id(node))
        own: dict[str, _Pair] = {}
        merges: list[Raw] = []
        merge_seen = False
        for key, value in node.value:
            name = self._key(key)
            if name is None:
                continue
            if name == "<<" and key.tag != _TEXT:
                if merge_seen:
                    self._note(key, 'key "<<" stands here twice', "merge several: <<: [*a, *b]")
                merge_seen = True
                merges.extend(self._merge_sources(value))
                continue
            if name in own:
                first = own[name][1].start_mark.line + 1
                self._note(key, f'key "{name}" stands here twice, first on line {first}')
                continue
            own[name] = (name, key, value)
        for merged in merges:
            if id(merged) in self.merging:
                self._note_cycle(merged)
            for pair in self._pairs(merged):
                own.setdefault(pair[0], pair)
        self.merging.discard(id(node))
        pairs = list(own.values())
        self.flat[id(node)] = pairs
        self.keep.append(node)
        return pairs

    def _key(self, key: Raw) -> str | None:
        if key.id != "scalar":
            self._note(key, "a key must be text, not a mapping or list")
            return None
        if key.tag != _TEXT and _CODE.match(key.tag):
            self._note_code(key)
            return None
        if key.value == "<<":
            return "<<"
        try:
            name = resolve(key.tag, key.value)
        except ScalarError:
            name = None
        if not isinstance(name, str):
            self._note(
                key, f"a key must be text, not {key.value or 'null'}", f'quote it: "{key.value}"'
            )
            return None
        return str(name)

    def _merge_sources(self, value: Raw) -> list[Raw]:
        sources = value.value if value.id == "sequence" else [value]
        if all(source.id == "mapping" for source in sources):
            return list(sources)
        self._note(value, "<< takes a mapping or a list of mappings")
        return []

    def _value(self, node: Raw) -> Raw:
        kind = node.id
        if node.tag and node.tag != _TEXT and _CODE.match(node.tag):
            self._note_code(node)
            return None
        if kind == "scalar":
            try:
                return resolve(node.tag, node.value)
            except ScalarError as error:
                self._note(node, str(error))
                return None
        source = self.source
        if kind == "sequence":
            items = Seq()
            for child in node.value:
                if child.tag != _RESET:
                    items.append(self._value(child))
                    items.marks.append(Mark(source, None, child))
            return items
        made = Map()
        marks = made.marks
        for name, key, child in self._pairs(node):
            if child.tag != _RESET:
                made[name] = self._value(child)
                marks[name] = Mark(source, key, child)
        return made
