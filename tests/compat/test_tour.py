"""Tours of docker commands, compared with what Docker 28 printed for them (tests/compat/transcripts)."""

import json
import re

import pytest

from tests.compat.tour import HERE, LISTS, commands, take, transcript

pytestmark = pytest.mark.root
# Our errors may end in a hint.
_HINT = re.compile(r" \([^()]*(?:\([^()]*\)[^()]*)*\)(?=\n|$)")


def deviations():
    lines = (HERE / "tour-deviations.txt").read_text().splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))


def plain(text):
    return _HINT.sub("", text)


def recorded(name):
    return json.loads(transcript(name).read_text())


def test_the_transcripts_have_every_command_of_the_tours():
    known = {name: [entry["command"] for entry in recorded(name)] for name in LISTS}
    assert known == {name: commands(name) for name in LISTS}
    assert all(len(entries) >= 80 for entries in known.values())
    assert set(deviations()) <= {line for entries in known.values() for line in entries}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", LISTS)
def test_every_command_prints_what_docker_prints(dock, tmp_path, name):
    known = deviations()
    wrong, stale = [], set(known) & set(commands(name))
    for docker, ours in zip(recorded(name), take(name, dock.host, tmp_path), strict=True):
        line = docker["command"]
        differs = [
            f"{line}\n  {key}: Docker {docker[key]!r}\n  {key}: ours   {ours[key]!r}"
            for key in ("out", "err")
            if docker[key] not in (ours[key], plain(str(ours[key])))
        ]
        if ours["code"] != docker["code"]:
            wrong.append(f"{line}\n  exits {ours['code']}, not {docker['code']}: {ours['err']}")
        elif differs and line in known:
            stale.discard(line)
        else:
            wrong.extend(differs)
    assert not wrong, "\n".join(wrong)
    assert not stale, f"no deviations any more: {sorted(stale)}"
