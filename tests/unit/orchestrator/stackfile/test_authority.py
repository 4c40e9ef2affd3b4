"""What the library said of a tree, remembered."""

import sys
from pathlib import Path

import pytest

from stackctl.orchestrator.stackfile import authority
from stackctl.orchestrator.stackfile.marks import Map
from stackctl.orchestrator.stackfile.problems import Problems

TEXT = "services: {web: {image: x}}\n"


def test_a_tree_accepted_before_needs_no_library(loader, monkeypatch):
    loader(TEXT)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert loader(TEXT + "# only a comment\n").name == "app"
    with pytest.raises(ImportError):
        loader(TEXT.replace("x", "changed"))


def test_a_changed_schema_forgets_what_was_accepted(loader, monkeypatch):
    loader(TEXT)
    monkeypatch.setattr(authority, "schema_text", lambda: "another schema")
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ImportError):
        loader(TEXT)


def test_what_only_the_library_finds_is_told_and_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(authority, "load_schema", lambda: {"properties": {"a": {"const": 1}}})
    tree = Map()
    tree["a"] = 2
    for _ in range(2):
        problems = Problems()
        authority.confirm(tree, problems, tmp_path)
        assert [(problem.where, problem.message) for problem in problems.found] == [
            ("a", "a: 1 was expected")
        ]
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_does_no_harm(loader, tmp_path):
    (tmp_path / "file").write_text("")
    assert loader(TEXT, environ={"XDG_CACHE_HOME": str(tmp_path / "file")}).name == "app"


def test_the_cache_does_not_grow_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(authority, "MAX_REMEMBERED", 3)
    for number in range(10):
        tree = Map()
        tree["x-a"] = number
        authority.confirm(tree, Problems(), tmp_path)
    assert len(list(tmp_path.iterdir())) <= 3


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, Path("/c/stackctl/validated")),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, Path("/h/.cache/stackctl/validated")),
        ({"HOME": "/h"}, Path("/h/.cache/stackctl/validated")),
        ({"HOME": ""}, None),
        ({}, None),
    ],
)
def test_the_cache_stands_where_the_base_directory_specification_says(environ, directory):
    assert authority.cache_directory(environ) == directory
