"""Mistakes for machines."""

import json

import pytest
from jsonschema import Draft202012Validator

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
            },
            "logicalLocations": [{"fullyQualifiedName": "services.web.x"}],
        }
    ]


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("", "stack.yaml"),
        ("a b/ü.yaml", "a%20b/%C3%BC.yaml"),
        ("/srv/app/stack.yaml", "file:///srv/app/stack.yaml"),
        ("../up.yaml", "../up.yaml"),
    ],
)
def test_every_result_has_a_place_as_code_hosts_want_it(path, uri):
    (run,) = to_sarif([Problem(path=path, line=0, column=0, message="m")], version="1")["runs"]
    (location,) = run["results"][0]["locations"]
    assert location == {
        "physicalLocation": {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": 1, "startColumn": 1},
        }
    }


TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
NUMBER = {"type": "integer", "minimum": 1}
# What SARIF 2.1.0 asks of the parts that are used here.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "additionalProperties": False,
                                "properties": {
                                    "name": {"type": "string"},
                                    "version": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "required": ["id"],
                                            "additionalProperties": False,
                                            "properties": {
                                                "id": {"type": "string"},
                                                "name": {"type": "string"},
                                                "shortDescription": TEXT,
                                                "fullDescription": TEXT,
                                                "help": TEXT,
                                                "defaultConfiguration": {
                                                    "type": "object",
                                                    "properties": {"level": {"const": "error"}},
                                                },
                                            },
                                        },
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": TEXT,
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "logicalLocations": {
                                                "type": "array",
                                                "items": {
                                                    "type": "object",
                                                    "properties": {
                                                        "fullyQualifiedName": {"type": "string"}
                                                    },
                                                },
                                            },
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation", "region"],
                                                "additionalProperties": False,
                                                "properties": {
                                                    "artifactLocation": {
                                                        "type": "object",
                                                        "required": ["uri"],
                                                        "properties": {
                                                            "uri": {
                                                                "type": "string",
                                                                "pattern": "^[!-~]+$",
                                                            }
                                                        },
                                                    },
                                                    "region": {
                                                        "type": "object",
                                                        "required": ["startLine"],
                                                        "additionalProperties": False,
                                                        "properties": {
                                                            "startLine": NUMBER,
                                                            "startColumn": NUMBER,
                                                        },
                                                    },
                                                },
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_a_report_is_sarif(problems):
    found = problems(
        "services:\n  web: {imag: x, ports: ['a:b'], volumes: [data:/d]}\n",
        also={"o verride.yaml": "services: {job: {image: x, depends_on: [wbe]}}"},
        files=["stack.yaml", "o verride.yaml"],
    )
    assert len(found) > 2
    log = json.loads(json.dumps(to_sarif([*found, WRONG], version="1")))
    assert [error.message for error in Draft202012Validator(SARIF).iter_errors(log)] == []
