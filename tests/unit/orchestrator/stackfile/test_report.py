"""Mistakes for machines."""

from stackctl.errors import Problem
from stackctl.orchestrator.stackfile.report import to_json, to_sarif

WRONG = Problem(
    path="stack.yaml",
    line=3,
    column=5,
    message="no such key",
    hint="try another",
    where="services.web.x",
)


def test_json_has_every_part():
    assert to_json([WRONG]) == [
        {
            "path": "stack.yaml",
            "line": 3,
            "column": 5,
            "where": "services.web.x",
            "message": "no such key",
            "hint": "try another",
        }
    ]


def test_sarif_places_the_mistake_in_its_file():
    log = to_sarif([WRONG], version="1.2")
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert run["tool"]["driver"]["version"] == "1.2"
    (result,) = run["results"]
    assert result["message"]["text"] == "no such key (try another)"
    assert result["ruleId"] == run["tool"]["driver"]["rules"][0]["id"]
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "stack.yaml"},
                "region": {"startLine": 3, "startColumn": 5},
            }
        }
    ]


def test_a_mistake_without_place_has_no_location():
    (run,) = to_sarif([Problem(path="", line=0, column=0, message="m")], version="1")["runs"]
    assert "locations" not in run["results"][0]
