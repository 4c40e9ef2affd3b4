"""Mistakes for machines: JSON, and SARIF 2.1.0 for code hosts."""

from collections.abc import Sequence
from urllib.parse import quote

from stackctl.errors import Problem
from stackctl.values import Json, JsonObject

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULE = "stack-file"
# Code hosts take no result without a place; a mistake of the command line is shown at the file's usual name.
_NO_FILE = "stack.yaml"


def to_json(problems: Sequence[Problem]) -> list[Json]:
    """Return one object per mistake."""
    return [
        {
            "path": problem.path,
            "line": problem.line,
            "column": problem.column,
            "where": problem.where,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in problems
    ]


def to_sarif(problems: Sequence[Problem], *, version: str) -> JsonObject:
    """Return a SARIF log with one run and one result per mistake; ``version`` is that of the program."""
    driver: JsonObject = {
        "name": "stackctl",
        "version": version,
        "rules": [
            {
                "id": _RULE,
                "name": "WrongStackFile",
                "shortDescription": {"text": "The stack file is wrong."},
                "fullDescription": {
                    "text": "Something in the stack file cannot be what was meant."
                },
                "help": {"text": "stackctl config --reference lists every key with an example."},
                "defaultConfiguration": {"level": "error"},
            }
        ],
    }
    run: JsonObject = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem) for problem in problems],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(problem: Problem) -> JsonObject:
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    region: JsonObject = {
        "startLine": max(problem.line, 1),
        "startColumn": max(problem.column, 1),
    }
    physical: JsonObject = {
        "artifactLocation": {"uri": _uri(problem.path or _NO_FILE)},
        "region": region,
    }
    location: JsonObject = {"physicalLocation": physical}
    if problem.where:
        location["logicalLocations"] = [{"fullyQualifiedName": problem.where}]
    return {
        "ruleId": _RULE,
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": text},
        "locations": [location],
    }


def _uri(path: str) -> str:
    """Return a path as the URI reference that SARIF asks for."""
    quoted = quote(path.replace("\\", "/"))
    return f"file://{quoted}" if quoted.startswith("/") else quoted
