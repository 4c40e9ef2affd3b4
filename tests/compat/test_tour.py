"""A tour of docker commands, compared with what Docker 28 printed for them (tests/compat/transcripts)."""

import json
import re

import pytest

from tests.compat.tour import HERE, TRANSCRIPT, commands, take

pytestmark = pytest.mark.root
# Our errors may end in a hint.
_HINT = re.compile(r" \([A-Z][^()]*(?:\([^()]*\)[^()]*)*\.\)(?=\n|$)")


def deviations():
    lines = (HERE / "tour-deviations.txt").read_text().splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))


def plain(text):
    return _HINT.sub("", text)


def test_the_transcript_has_every_command_of_the_tour():
    recorded = [entry["command"] for entry in json.loads(TRANSCRIPT.read_text())]
    assert recorded == commands()
    assert len(recorded) >= 80
    assert set(deviations()) <= set(recorded)


@pytest.mark.timeout(400)
def test_every_command_prints_what_docker_prints(dock, tmp_path):
    known = deviations()
    wrong, stale = [], set(known)
    for docker, ours in zip(
        json.loads(TRANSCRIPT.read_text()), take(dock.host, tmp_path), strict=True
    ):
        line = docker["command"]
        differs = [
            f"{line}\n  {key}: Docker {docker[key]!r}\n  {key}: ours   {ours[key]!r}"
            for key in ("out", "err")
            if plain(str(ours[key])) != docker[key]
        ]
        if ours["code"] != docker["code"]:
            wrong.append(f"{line}\n  exits {ours['code']}, not {docker['code']}: {ours['err']}")
        elif differs and line in known:
            stale.discard(line)
        else:
            wrong.extend(differs)
    assert not wrong, "\n".join(wrong)
    assert not stale, f"no deviations any more: {sorted(stale)}"
