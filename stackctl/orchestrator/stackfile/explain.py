"""Where a value came from: file, line, column, and the variables it was made of."""

from stackctl.errors import NotFoundError
from stackctl.frozen import frozen
from stackctl.orchestrator.stackfile.interpolate import Reference, TemplateError, references
from stackctl.orchestrator.stackfile.load import Loaded
from stackctl.orchestrator.stackfile.marks import Map, Raw, Seq, Where, dotted, nearest
from stackctl.orchestrator.stackfile.problems import suggestion
from stackctl.values import Json


@frozen
class Origin:
    """The place that wrote a value; ``exact`` is False when an enclosing element speaks for it (an implied value)."""

    where: str
    value: Json
    path: str
    line: int
    column: int
    variables: tuple[str, ...] = ()
    exact: bool = True


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
        mentioned = references(text) if "$" in text else []
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
