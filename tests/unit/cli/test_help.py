"""Every command teaches itself."""

import pytest

from stackctl.cli.main import COMMANDS, run

GROUPS = {"agent", "image", "engine"}
NO_EXAMPLES = {"login", "logout", "validate", "watch"}


@pytest.mark.parametrize("command", sorted({*COMMANDS} - GROUPS))
def test_every_command_shows_how_it_is_typed_and_can_be_rehearsed(command, capsys):
    assert run([command, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--dry-run" in text
    if command not in NO_EXAMPLES:
        assert f"stackctl {command}" in text.partition("Example")[2]


def test_an_unknown_command_gets_a_suggestion(capsys):
    assert run(["pss"]) == 2
    assert 'did you mean "ps"?' in capsys.readouterr().err
