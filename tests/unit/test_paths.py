"""Where an engine is, by default, by variables and by a settings file."""

import json
from pathlib import Path

import pytest

from stackctl.errors import InvalidInputError
from stackctl.paths import engine_paths, with_settings


def test_the_default_engine_has_no_id():
    paths = engine_paths({}, uid=0)
    assert paths.engine_id == ""
    assert paths.socket == Path("/run/stackctl/engine.sock")
    assert (paths.nft_table, paths.cgroup_parent) == ("stackctl", "/stackctl")


def test_another_place_is_another_engine_in_everything_that_it_shares_with_the_machine():
    one = engine_paths({"STACKCTL_RUN_ROOT": "/tmp/one"}, uid=0)
    two = engine_paths({"STACKCTL_RUN_ROOT": "/tmp/two"}, uid=0)
    for name in (
        "nft_table",
        "bridge_prefix",
        "veth_prefix",
        "cgroup_parent",
        "data_root",
        "socket",
    ):
        assert getattr(one, name) != getattr(two, name)


def test_a_user_without_root_has_an_engine_below_the_runtime_directory():
    paths = engine_paths({"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/u"}, uid=7)
    assert paths.socket == Path("/run/user/7/stackctl/engine.sock")
    assert paths.data_root == Path("/home/u/.local/share/stackctl")


def test_the_settings_file_moves_the_engine_and_a_variable_wins_over_it(tmp_path):
    file = tmp_path / "engine.json"
    file.write_text(
        json.dumps({"run-root": "/tmp/r", "data-root": "/tmp/d", "socket": "/tmp/s.sock"})
    )
    environ = {"STACKCTL_ENGINE_CONFIG": str(file), "STACKCTL_DATA_ROOT": "/tmp/mine"}
    paths = engine_paths(with_settings(environ, uid=0), uid=0)
    assert (paths.run_root, paths.data_root) == (Path("/tmp/r"), Path("/tmp/mine"))
    assert paths.socket == Path("/tmp/s.sock")


@pytest.mark.parametrize("text", ["{", "[]", '{"socket": 3}', '{"data-root": "relative"}'])
def test_a_wrong_settings_file_is_named(tmp_path, text):
    file = tmp_path / "engine.json"
    file.write_text(text)
    with pytest.raises(InvalidInputError, match="settings file"):
        with_settings({"STACKCTL_ENGINE_CONFIG": str(file)}, uid=0)
