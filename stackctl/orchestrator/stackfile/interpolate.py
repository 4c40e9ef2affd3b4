"""``${NAME}`` and its forms, in text and in trees.

Forms (Compose Specification, 12-interpolation): ``$NAME`` ``${NAME}``, ``${NAME:-default}`` ``${NAME-default}``,
``${NAME:?error}`` ``${NAME?error}``, ``${NAME:+other}`` ``${NAME+other}``, all of which nest, and ``$$`` for ``$``.
Only values are replaced, never keys. Text at a place that wants a number or boolean is then converted.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from stackctl.orchestrator.stackfile.casts import CASTS, CastError, Rule
from stackctl.orchestrator.stackfile.marks import Map, Mark, Raw, Seq, Where, dotted
from stackctl.orchestrator.stackfile.problems import Problems

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
_OPERATOR = re.compile(r":?[-+?]")
_NESTED = re.compile(r"\$\{[^}\n]*\$\{")
_BRACE = re.compile(r"\$\{|\}|\n")
_MAX_NESTING = 100
_MAX_TEXT = 16 << 20
_MAX_REFERENCES = 200_000


class TemplateError(ValueError):
    """The text is not a valid template, or a required variable is missing; ``offset`` says where."""

    def __init__(self, message: str, *, offset: int = 0, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint


@dataclass(slots=True)
class Variables:
    """Where variables are looked up, and which were used and missing."""

    environment: Mapping[str, str]
    used: dict[str, None] = field(default_factory=dict)
    unset: dict[str, None] = field(default_factory=dict)
    spent: int = 0
    count: int = 0

    def lookup(self, name: str) -> str | None:
        self.used[name] = None
        return self.environment.get(name)

    def spend(self, length: int) -> None:
        """Count the text that variables were replaced by; a small file must not grow without bound."""
        self.count += 1
        if self.count > _MAX_REFERENCES:
            raise TemplateError(f"more than {_MAX_REFERENCES} variables and $$ in one file")
        self.spent += length
        if self.spent > _MAX_TEXT:
            raise TemplateError(f"variables expand to more than {_MAX_TEXT >> 20} MiB of text")


@dataclass(frozen=True, slots=True)
class Reference:
    """One variable reference of a text: name, operator with its colon (or empty), and the operand."""

    name: str
    operator: str
    operand: str
    start: int
    end: int


def references(text: str) -> Iterator[Reference]:
    """Yield the top-level references of a text; raises TemplateError."""
    at = text.find("$")
    while at >= 0:
        reference = _reference_at(text, at)
        if reference is not None:
            yield reference
        at = text.find("$", reference.end if reference else at + 1)


def _reference_at(text: str, at: int) -> Reference | None:
    """Return the reference that starts with the ``$`` at ``at``; None for a lone ``$``."""
    following = text[at + 1 : at + 2]
    if following == "$":
        return Reference("$", "", "", at, at + 2)
    if following != "{":
        match = _NAME.match(text, at + 1)
        return Reference(match.group(), "", "", at, match.end()) if match else None
    match = _NAME.match(text, at + 2)
    if match is None:
        raise _invalid(text, at)
    if text[match.end() : match.end() + 1] == "}":
        return Reference(match.group(), "", "", at, match.end() + 1)
    operator = _OPERATOR.match(text, match.end())
    closing = _closing_brace(text, at) if operator else -1
    if operator is None or closing < operator.end():
        raise _invalid(text, at)
    return Reference(
        match.group(), operator.group(), text[operator.end() : closing], at, closing + 1
    )


def _closing_brace(text: str, at: int) -> int:
    """Return the index of the brace that closes the reference, or -1.

    A reference ends on its own line. Compose counts braces but does not look at the character after an opening one;
    where the count never comes out even, the last brace of the line closes.
    """
    depth = 0
    index = at
    while index < len(text):
        char = text[index]
        if char == "}":
            depth -= 1
            if depth == 0:
                return index
        elif char == "{":
            depth += 1
            index += 1
            char = text[index : index + 1]
        if char == "\n":
            break
        index += 1
    newline = text.find("\n", at)
    return text.rfind("}", at, newline if newline >= 0 else len(text))


def _invalid(text: str, at: int) -> TemplateError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return TemplateError(
        f"invalid interpolation format: {shown}", offset=at, hint="write $$ for a literal $"
    )


def substitute(text: str, variables: Variables, depth: int = 0) -> str:
    """Return the text with its references replaced; raises TemplateError."""
    if depth > _MAX_NESTING or (depth == 0 and _is_too_deep(text)):
        raise TemplateError(f"references nested deeper than {_MAX_NESTING} levels")
    parts: list[str] = []
    done = 0
    for reference in references(text):
        parts.append(text[done : reference.start])
        try:
            value = _value(reference, variables, depth)
            variables.spend(len(value))
            parts.append(value)
        except TemplateError as error:
            raise TemplateError(error.message, offset=reference.start, hint=error.hint) from error
        done = reference.end
    parts.append(text[done:])
    return "".join(parts)


def _is_too_deep(text: str) -> bool:
    """Say so at once; taking a deep text apart level by level costs its length each time."""
    if text.count("${") <= _MAX_NESTING or not _NESTED.search(text):
        return False
    depth = 0
    for match in _BRACE.finditer(text):
        token = match.group()
        # A reference ends on its line.
        depth = 0 if token == "\n" else depth + 1 if token == "${" else max(depth - 1, 0)
        if depth > _MAX_NESTING:
            return True
    return False


def _value(reference: Reference, variables: Variables, depth: int) -> str:
    name, operator = reference.name, reference.operator
    if name == "$":
        return "$"
    if not operator:
        value = variables.lookup(name)
        if value is None:
            variables.unset[name] = None
        return value or ""
    # Compose evaluates the operand even where it is not used.
    operand = substitute(reference.operand, variables, depth + 1)
    value = variables.lookup(name)
    present = value is not None and (value != "" or not operator.startswith(":"))
    if operator.endswith("-"):
        return value or "" if present else operand
    if operator.endswith("+"):
        return operand if present else value or ""
    if not present:
        reason = f": {operand}" if operand else ""
        raise TemplateError(
            f"required variable {name} is missing a value{reason}",
            hint=f"set {name} in the environment or in an env file",
        )
    return value or ""


def interpolate(tree: Map, environment: Mapping[str, str], problems: Problems) -> None:
    """Replace the variables of a whole document in place and convert typed values; mistakes are noted."""
    walker = _Walker(Variables(environment), problems)
    walker.mapping(tree, CASTS, ())
    for name in walker.variables.unset:
        problems.warn(f'the variable "{name}" is not set; an empty string is used')


class _Walker:
    def __init__(self, variables: Variables, problems: Problems) -> None:
        self.variables = variables
        self.problems = problems

    def mapping(self, tree: dict[str, Raw], rule: Rule, where: Where) -> None:
        for key, value in tree.items():
            next_rule = (rule.get(key) or rule.get("*")) if rule else None
            kind = type(value)
            if kind is str:
                if next_rule is not None or "$" in value:
                    tree[key] = self.text(value, next_rule, tree, key, where)
            elif kind is Map:
                self.mapping(value, next_rule if type(next_rule) is dict else {}, (*where, key))
            elif kind is Seq:
                self.sequence(value, next_rule if type(next_rule) is dict else {}, (*where, key))

    def sequence(self, items: list[Raw], rule: Rule, where: Where) -> None:
        next_rule = rule.get("[]") if rule else None
        for index, value in enumerate(items):
            kind = type(value)
            if kind is str:
                if "$" in value:
                    items[index] = self.text(value, next_rule, items, index, where)
            elif kind is Map:
                self.mapping(value, next_rule if type(next_rule) is dict else {}, (*where, index))
            elif kind is Seq:
                self.sequence(value, {}, (*where, index))

    def text(
        self,
        value: str,
        rule: Rule | Callable[[str], object] | None,
        holder: Raw,
        step: Raw,
        where: Where,
    ) -> object:
        result = value
        if type(rule) is dict:
            rule = rule.get("")
        marks = holder.marks
        mark: Mark = marks[step]
        if "$" in value:
            self.variables.used = {}
            try:
                result = substitute(value, self.variables)
            except TemplateError as error:
                self._failed(mark, value, error, (*where, step))
                return value
            if self.variables.used:
                marks[step] = Mark(mark.source, mark.key, mark.value, tuple(self.variables.used))
        if callable(rule):
            try:
                return rule(result)
            except CastError as error:
                full = (*where, step)
                self.problems.add_at(marks[step], f"{dotted(full)}: {error}", where=full)
        return result

    def _failed(self, mark: Mark, value: str, error: TemplateError, where: Where) -> None:
        position = mark.value.start_mark
        line, column = position.line + 1, position.column + 1
        before = value[: error.offset]
        written = mark.source.line(line)
        for quote in (0, 1):
            if "\n" not in before and written[column - 1 + quote :].startswith(
                value[: error.offset + 1]
            ):
                column += quote + error.offset
                break
        self.problems.add_in(
            mark.source,
            line,
            column,
            f"{dotted(where)}: {error.message}",
            where=where,
            hint=error.hint,
        )
