"""The events of docker commands, and of those what filters show, compared with Docker 28's (tests/compat/transcripts)."""

import difflib
import json

import pytest

from tests.compat.scenes import RECORDED, scenes, take

pytestmark = pytest.mark.root


def test_events_come_as_from_docker(dock, tmp_path):
    docker = json.loads(RECORDED.read_text())
    assert list(docker) == list(scenes())
    ours = take(dock.paths.socket, tmp_path)
    wrong = [
        "\n".join([name, *difflib.unified_diff(lines, ours[name], "Docker", "ours", lineterm="")])
        for name, lines in docker.items()
        if lines != ours[name]
    ]
    assert not wrong, "\n".join(wrong)
