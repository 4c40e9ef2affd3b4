"""Mistakes for machines: JSON, and SARIF 2.1.0 for code hosts."""

from collections.abc import Sequence

from stackctl.errors import Problem
from stackctl.values import Json, JsonObject

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULE = "stack-file"


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
        "rules": [{"id": _RULE, "shortDescription": {"text": "The stack file is wrong."}}],
    }
    run: JsonObject = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem) for problem in problems],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(problem: Problem) -> JsonObject:
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    result: JsonObject = {"ruleId": _RULE, "level": "error", "message": {"text": text}}
    if problem.path:
        physical: JsonObject = {"artifactLocation": {"uri": problem.path.replace("\\", "/")}}
        if problem.line:
            physical["region"] = {"startLine": problem.line, "startColumn": max(problem.column, 1)}
        result["locations"] = [{"physicalLocation": physical}]
    return result
