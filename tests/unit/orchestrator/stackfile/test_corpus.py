"""The small corpus of our own: files that have to come through, and files with each mistake marked where it stands.

In ``tests/corpus/invalid`` a comment ``# wrong: TEXT`` marks a line that has a mistake whose message or hint holds the
text; no other line may have one.
"""

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from stackctl.errors import StackFileError
from stackctl.orchestrator.stackfile import dump
from stackctl.orchestrator.stackfile.load import LoadOptions, load
from stackctl.orchestrator.stackfile.marks import Source
from stackctl.orchestrator.stackfile.problems import Problems
from stackctl.orchestrator.stackfile.reader import read
from stackctl.orchestrator.stackfile.schema import load_schema

CORPUS = Path(__file__).parents[3] / "corpus"
VALID = sorted((CORPUS / "valid").glob("*.yaml"))
INVALID = sorted((CORPUS / "invalid").glob("*.yaml"))
MARK = re.compile(r"# wrong: (.*)")


def load_file(path, cache, **options):
    environ = {"XDG_CACHE_HOME": str(cache), "TOKEN": "t"}
    return load(LoadOptions(environ=environ, cwd=str(path.parent), files=[str(path)], **options))


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_file_comes_through_and_its_output_is_stable(path, tmp_path):
    first = load_file(path, tmp_path, strict=True, all_resources=True)
    assert first.stack.services
    writers = (dump.to_yaml,) if first.models else (dump.to_yaml, dump.to_json)  # JSON lacks models
    for write in writers:
        text = write(first)
        again = tmp_path / "again.yaml"
        again.write_text(text, encoding="utf-8")
        assert write(load_file(again, tmp_path, all_resources=True)) == text


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_an_independent_validator_accepts_a_valid_file_as_it_is_written(path):
    problems = Problems()
    documents = read(Source(name=path.name, path=str(path), text=path.read_text()), problems)
    assert not problems.found
    for document in documents:
        assert not list(Draft202012Validator(load_schema()).iter_errors(document.tree))


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_every_mistake_is_told_in_one_run_where_it_stands(path, tmp_path):
    marked = {
        number: found[1]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := MARK.search(line))
    }
    assert marked
    with pytest.raises(StackFileError) as caught:
        load_file(path, tmp_path, strict=True)
    told = {problem.line: f"{problem.message} {problem.hint}" for problem in caught.value.problems}
    assert told.keys() == marked.keys()
    assert {line: text for line, text in marked.items() if text not in told[line]} == {}
    assert all(problem.path == path.name for problem in caught.value.problems)
