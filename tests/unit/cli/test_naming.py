"""The cheap name of a stack is the one that reading its file gives, or none."""

from pathlib import Path

import pytest

from stackctl.cli.naming import guess, with_twins
from stackctl.errors import StackFileError
from stackctl.orchestrator.stackfile.load import LoadOptions, load

BODY = "services: {a: {image: x}}\n"
TEXTS = [
    BODY,
    f"name: shop\n{BODY}",
    f'name: "shop"  # ours\n{BODY}',
    f"'name': 'Shop-2'\n{BODY}",
    f"name: ${{NAME:-dollar}}\n{BODY}",
    f"name: 12\n{BODY}",
    f"name: 1e3\n{BODY}",
    f'name: "12"\n{BODY}',
    f"name: yes\n{BODY}",
    f"name: null\n{BODY}",
    f"name:\n  folded\n{BODY}",
    f"name: >\n  folded\n{BODY}",
    f"name: &a anchored\nx-b: *a\n{BODY}",
    f"name: !!str tagged\n{BODY}",
    f"name: two words\n{BODY}",
    f"name : spaced\n{BODY}",
    f"x-other:\n  name: inner\n{BODY}",
    f"x-text: |\n  name: inner\n{BODY}",
    '{"name": "json", "services": {"a": {"image": "x"}}}',
    f"---\nname: first\n{BODY}---\nname: second\n",
    f"name: a.b\n{BODY}",
]


def slow(folder: Path, environ: dict[str, str], **options) -> str | None:
    try:
        return load(LoadOptions(environ=environ, cwd=str(folder), **options)).name
    except StackFileError:
        return None


@pytest.mark.parametrize("text", TEXTS)
def test_the_guess_is_what_reading_gives_or_nothing(tmp_path, text):
    folder = tmp_path / "My Folder"
    folder.mkdir()
    (folder / "stack.yaml").write_text(text)
    assert guess({}, folder) in ("", slow(folder, {}))


def test_the_usual_files_are_not_read_as_stack_files(tmp_path):
    folder = tmp_path / "My_Shop"
    (folder / "sub").mkdir(parents=True)
    (folder / "compose.yaml").write_text(BODY)
    assert guess({}, folder / "sub") == "my_shop" == slow(folder / "sub", {})
    (folder / "compose.yaml").write_text(f"name: named\n{BODY}")
    assert guess({}, folder) == "named"
    (folder / "compose.override.yaml").write_text("name: over\n")
    assert guess({}, folder) == "over" == slow(folder, {})


def test_several_files_and_a_folder_of_its_own_count(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "a.yaml").write_text(BODY)
    (tmp_path / "two" / "b.yaml").write_text(BODY)
    files = ("one/a.yaml", "two/b.yaml")
    assert guess({}, tmp_path, files=files) == "one" == slow(tmp_path, {}, files=files)
    given = guess({}, tmp_path, files=files, directory="two")
    assert given == "two" == slow(tmp_path, {}, files=files, project_directory="two")


def test_what_may_change_the_name_is_left_to_the_reader(tmp_path):
    (tmp_path / "stack.yaml").write_text(BODY)
    assert guess({"COMPOSE_FILE": "other.yaml"}, tmp_path) == ""
    assert guess({}, tmp_path, files=("-",)) == ""
    (tmp_path / ".env").write_text("COMPOSE_PROJECT_NAME=env\n")
    assert guess({}, tmp_path) == ""
    assert guess({"COMPOSE_DISABLE_ENV_FILE": "1"}, tmp_path) != ""


def test_a_twin_wins_over_the_variable_it_stands_for():
    environ = {"COMPOSE_FILE": "a", "STACKCTL_FILE": "b", "STACKCTL_SOCKET": "s"}
    assert with_twins(environ)["COMPOSE_FILE"] == "b"
    assert "COMPOSE_SOCKET" not in with_twins(environ)
