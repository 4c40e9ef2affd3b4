"""The services and what they wait for: as a tree, for Graphviz, for Mermaid, as a drawing."""

from collections.abc import Callable, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from stackctl.frozen import frozen
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.graph import dependencies

_CONDITIONS = {
    "service_started": "",
    "service_healthy": "healthy",
    "service_completed_successfully": "done",
}
_GOOD, _BAD, _BUSY = ("running", "healthy"), ("exited", "dead", "unhealthy"), ("starting", "paused")
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 160, 48, 40, 60, 20


@frozen
class Drawn:
    """The graph: services in order, each with what it waits for and until when; their states by name."""

    name: str
    services: tuple[str, ...]
    needs: Mapping[str, Mapping[str, str]]
    states: Mapping[str, str]


def of(stack: Stack, services: Sequence[str], states: Mapping[str, str]) -> Drawn:
    """Return the graph of some services of a stack."""
    chosen = set(services)
    needs = {
        name: {
            other: _CONDITIONS.get(dependency.condition, dependency.condition)
            for other, dependency in dependencies(stack.services[name]).items()
            if other in chosen
        }
        for name in services
    }
    return Drawn(name=stack.name, services=tuple(services), needs=needs, states=states)


def tree(drawn: Drawn, colour: bool) -> str:
    """Return a tree from those that nobody waits for down to what they need; repeated parts once."""
    needed = {other for needs in drawn.needs.values() for other in needs}
    lines = [drawn.name]
    shown: set[str] = set()

    def walk(names: Sequence[tuple[str, str]], indent: str) -> None:
        for number, (name, condition) in enumerate(names):
            last = number == len(names) - 1
            again = name in shown and bool(drawn.needs[name])
            state = drawn.states.get(name, "")
            text = _paint(name, state, colour) + (f" [{state}]" if state else "")
            text += f" ({condition})" if condition else ""
            lines.append(f"{indent}{'└─' if last else '├─'} {text}{' …' if again else ''}")
            if not again:
                shown.add(name)
                walk([*drawn.needs[name].items()], indent + ("   " if last else "│  "))

    walk([(name, "") for name in drawn.services if name not in needed], "")
    return "\n".join(lines) + "\n"


def _paint(name: str, state: str, colour: bool) -> str:
    code = "32" if state in _GOOD else "31" if state in _BAD else "33" if state in _BUSY else ""
    return f"\033[{code}m{name}\033[0m" if colour and code else name


def dot(drawn: Drawn, _colour: bool) -> str:
    """Return the graph in Graphviz's language; an arrow points at what is waited for."""
    lines = [f"digraph {_quoted(drawn.name)} {{", "  rankdir=TB;", "  node [shape=box];"]
    for name in drawn.services:
        state = drawn.states.get(name, "")
        label = _quoted(f"{name}\n{state}" if state else name)
        lines.append(f"  {_quoted(name)} [label={label}, color={_colour_of(state)}];")
    for name, needs in drawn.needs.items():
        for other, condition in needs.items():
            label = f" [label={_quoted(condition)}]" if condition else ""
            lines.append(f"  {_quoted(name)} -> {_quoted(other)}{label};")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _colour_of(state: str) -> str:
    return "green" if state in _GOOD else "red" if state in _BAD else "orange" if state else "gray"


def mermaid(drawn: Drawn, _colour: bool) -> str:
    """Return the graph as a Mermaid flowchart, as GitHub and GitLab draw it."""
    # Names may be words of the language ("end"), so the nodes are numbered.
    numbers = {name: f"s{number}" for number, name in enumerate(drawn.services)}
    lines = ["flowchart TB"]
    for name in drawn.services:
        state = drawn.states.get(name, "")
        lines.append(f'  {numbers[name]}["{name}{f"<br/>{state}" if state else ""}"]')
    for name, needs in drawn.needs.items():
        for other, condition in needs.items():
            arrow = f"-->|{condition}|" if condition else "-->"
            lines.append(f"  {numbers[name]} {arrow} {numbers[other]}")
    return "\n".join(lines) + "\n"


def svg(drawn: Drawn, _colour: bool) -> str:
    """Return a drawing: a row for each step of the longest chain of waiting, what is needed last at the bottom."""
    ranks = _ranks(drawn)
    rows: dict[int, list[str]] = {}
    for name in drawn.services:
        rows.setdefault(ranks[name], []).append(name)
    columns = max((len(row) for row in rows.values()), default=1)
    width = columns * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    height = len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    places: dict[str, tuple[float, float]] = {}
    for rank, row in rows.items():
        left = (width - len(row) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for number, name in enumerate(row):
            places[name] = (
                left + number * (_WIDTH + _GAP_X),
                _MARGIN + rank * (_HEIGHT + _GAP_Y),
            )
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">'
        ),
        f"<title>{escape(drawn.name)}</title>",
        (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker></defs>'
        ),
        *_arrows(drawn, places),
        *(_box(name, drawn.states.get(name, ""), places[name]) for name in drawn.services),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _ranks(drawn: Drawn) -> dict[str, int]:
    """Return each service's row: below everyone who waits for it."""
    ranks = dict.fromkeys(drawn.services, 0)
    for _ in drawn.services:
        moved = False
        for name, needs in drawn.needs.items():
            for other in needs:
                if ranks[other] <= ranks[name]:
                    ranks[other], moved = ranks[name] + 1, True
        if not moved:
            break
    return ranks


def _arrows(drawn: Drawn, places: Mapping[str, tuple[float, float]]) -> list[str]:
    parts = []
    for name, needs in drawn.needs.items():
        for other, condition in needs.items():
            (x1, y1), (x2, y2) = places[name], places[other]
            x1, y1, x2 = x1 + _WIDTH / 2, y1 + _HEIGHT, x2 + _WIDTH / 2
            middle = (y1 + y2) / 2
            parts.append(
                f'<path d="M{x1:g} {y1:g} C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"'
                ' fill="none" stroke="#666" marker-end="url(#arrow)"/>'
            )
            if condition:
                parts.append(
                    f'<text x="{(x1 + x2) / 2:g}" y="{middle:g}" fill="#666" font-size="11"'
                    f' text-anchor="middle">{escape(condition)}</text>'
                )
    return parts


def _box(name: str, state: str, place: tuple[float, float]) -> str:
    x, y = place
    middle = x + _WIDTH / 2
    colour = {"green": "#2a7d2a", "red": "#b22", "orange": "#b70", "gray": "#888"}[
        _colour_of(state)
    ]
    text = (
        f'<g><rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff"'
        f" stroke={quoteattr(colour)}/>"
        f'<text x="{middle:g}" y="{y + (20 if state else 29):g}" text-anchor="middle">{escape(name)}</text>'
    )
    if state:
        text += (
            f'<text x="{middle:g}" y="{y + 37:g}" text-anchor="middle" font-size="11" fill={quoteattr(colour)}>'
            f"{escape(state)}</text>"
        )
    return text + "</g>"


LAYOUTS: Mapping[str, Callable[[Drawn, bool], str]] = {
    "text": tree,
    "dot": dot,
    "mermaid": mermaid,
    "svg": svg,
}
