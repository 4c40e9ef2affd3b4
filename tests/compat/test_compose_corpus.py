"""The JSON Schema over the Compose corpus, where that lies beside the checkout; what config makes of it: make compat."""

import base64
import itertools
import json
import os
import posixpath
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from stackctl.orchestrator.stackfile.marks import Source
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.reader import decode, read
from stackctl.orchestrator.stackfile.schema import load_schema

BESIDE = Path(__file__).parents[3] / "shared" / "compose-corpus"
CORPUS = Path(os.environ.get("CORPUS", BESIDE)) / "cases"
SECTION = re.compile(rb"-- (.+) \((\d+) bytes(, base64)?\) --\n")
VALIDATOR = Draft202012Validator(load_schema())
# Files that the reference mends while it reads, where an editor had better show the mistake.
MENDED = {
    "invalid-merge/include-unknown-key": "the reference drops an unknown key of include",
    "invalid-value/value-058-cap_add": "the reference drops a capability that stands twice",
    "probe-merge/scalar-to-null": "null in an override, which the reference takes for no value",
    "real-world/element-hq+synapse--contrib__docker__docker-compose.yml": "a label that stands twice",
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus here: CORPUS=FOLDER says where"),
]


def sections(path):
    data, position, found = path.read_bytes(), 0, {}
    while match := SECTION.match(data, position):
        body = data[match.end() : match.end() + int(match[2])]
        position = match.end() + int(match[2]) + 1
        found[match[1].decode()] = base64.b64decode(body) if match[3] else body
    return found


def contents(path):
    if path.suffix == ".case":
        return sections(path)
    inner = (one for one in path.parent.rglob("*") if one.is_file())
    return {one.relative_to(path.parent).as_posix(): one.read_bytes() for one in inner}


def cases():
    for path in sorted([*CORPUS.rglob("*.case"), *CORPUS.rglob("case.json")]):
        files = contents(path)
        yield json.loads(files["case.json"]), files


def stack_files(case, files):
    arguments = case["args"]
    named = [b for a, b in itertools.pairwise(arguments) if a in ("-f", "--file")]
    usual = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
    named = named or [name for name in usual if f"files/{name}" in files][:1]
    for name in named:
        path = f"files/{posixpath.normpath(posixpath.join(case.get('cwd', '.'), name))}"
        if path in files:
            yield name, files[path]


def departures(case, files):
    """Return what an editor would underline in the files as they are written."""
    found = []
    for name, data in stack_files(case, files):
        problems = Problems()
        for document in read(Source(name=name, path=name, text=decode(data)), problems):
            found += [error.message[:200] for error in VALIDATOR.iter_errors(document.tree)]
        found += [problem.message for problem in problems.found]
    return found


def test_the_schema_accepts_every_valid_file_as_it_is_written():
    refused = {
        case["id"]: found
        for case, files in cases()
        if case["expect"] == "ok" and (found := departures(case, files))
    }
    assert {name: found for name, found in refused.items() if name not in MENDED} == {}
    assert refused.keys() == MENDED.keys()


def test_the_schema_rejects_what_is_invalid_for_its_schema():
    accepted = [
        case["id"]
        for case, files in cases()
        if case["category"] == "invalid-schema" and not departures(case, files)
    ]
    assert accepted == []
