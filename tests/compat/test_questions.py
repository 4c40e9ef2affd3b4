"""Lists and prunes with every filter, compared with what Docker 28 answered (tests/compat/transcripts)."""

import json
import re

import pytest

from tests.compat.questions import RECORDED, Asked, answers, questions

pytestmark = pytest.mark.root
# What ours answers on purpose, and why.
_NET = "GET /networks "
_NAMES = "(write it as [registry/]repository[:tag][@digest])"
DEVIATIONS = {
    # A short ID will do.
    'GET /containers/json?all=1 {"before":["<asked-three:12>"],"label":["asked"]}': (
        200,
        ["asked-two", "asked-one"],
    ),
    # A network with a container is not dangling: Docker's list does not know of its containers.
    _NET + '{"dangling":["true"],"label":["asked"]}': (200, ["asked-net2"]),
    _NET + '{"dangling":["1"],"label":["asked"]}': (200, ["asked-net2"]),
    _NET + '{"dangling":["false"],"label":["asked"]}': (200, ["asked-net"]),
    _NET + '{"dangling":["0"],"label":["asked"]}': (200, ["asked-net"]),
    # Dates and durations are taken too; what is neither is named.
    **{
        f"GET /events?{query}": (
            400,
            f"invalid {field}: {value} is neither a timestamp nor a duration",
        )
        for query, field, value in (
            ("since=x&until=5", "since", '"x"'),
            ("since=1&until=x", "until", '"x"'),
            ("since=1.x&until=5", "since", '"1.x"'),
            ("since=-5&until=5", "since", '"-5"'),
            ("since=1&until=1.5.5", "until", '"1.5.5"'),
        )
    },
    # What is wrong is named.
    'GET /images/json {"before":["BAD"]}': (
        400,
        f'invalid reference format: "BAD": a repository name must be lowercase {_NAMES}',
    ),
    'GET /images/json {"since":[""]}': (400, f'invalid reference format: "": bad name {_NAMES}'),
}


def test_the_record_has_every_question():
    asked = [entry["asked"] for entry in json.loads(RECORDED.read_text())]
    assert asked == questions()
    assert set(DEVIATIONS) | set(deviations()) <= set(asked)


def deviations():
    lines = (RECORDED.parent.parent / "questions-deviations.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {asked: (statuses, words.replace("\\n", "\n")) for asked, statuses, words in rows}


def test_every_answer_is_dockers(dock):
    engine = Asked(dock.paths.socket)
    try:
        engine.furnish()
        found = list(answers(engine))
    finally:
        engine.clear()
    known, wrong = deviations(), []
    for docker, ours in zip(json.loads(RECORDED.read_text()), found, strict=True):
        asked = docker["asked"]
        if asked in known:
            statuses, words = known[asked]
            fits = ",".join(map(str, _list(ours["status"]))) == statuses and words in _last(ours)
        elif asked.startswith(("TRY ", "NET ", "ASK ")):
            fits = is_alike(docker, ours)
        else:
            # Docker calls some mistakes of the client's its own.
            status = 400 if docker["status"] == 500 else docker["status"]
            expected = DEVIATIONS.get(asked, (status, docker["told"]))
            fits = (ours["status"], ours["told"]) == expected
        if not fits:
            wrong.append(f"{asked}\n  Docker {docker}\n  ours   {ours}")
    assert not wrong, "\n".join(wrong)


# Ours begins with the field and may end in a hint; Docker's names containerd's shim, and where runc was.
_FIELD = re.compile(r"^invalid [A-Z][\w.\[\]/-]*: (?!unknown capability)")
_HINT = re.compile(r" \([A-Za-z0-9][^()]*(?:\([^()]*\)[^()]*)*\)$")
_SHIM = re.compile(
    "failed to create task for container: failed to create shim task: |error during container init: "
)


def is_alike(docker, ours):
    """Tell whether what was tried failed at the same point with the same words, or shows the same."""
    statuses = [*zip(_list(docker["status"]), _list(ours["status"]), strict=False)]
    told = [_list(docker["told"]), _list(ours["told"])]
    if len(told[0]) != len(told[1]) or not all(
        one == other or (one == 500 and 400 <= other < 600) for one, other in statuses
    ):
        return False
    return all(_says_the_same(*pair) for pair in zip(*told, strict=True))


def _says_the_same(theirs, ours):
    if not isinstance(ours, str):
        return theirs == ours
    theirs, ours = _SHIM.sub("", theirs), _SHIM.sub("", ours)
    return theirs in (ours, _plain(ours)) or _plain(theirs) == _plain(ours)


def _list(value):
    return value if isinstance(value, list) else [value]


def _last(ours):
    """Return the words that tell of the end: of a start, or of the one request there was."""
    words = _list(ours["told"])[:2][-1]
    return words if isinstance(words, str) else json.dumps(words)


def _plain(text):
    return _HINT.sub("", _FIELD.sub("", text))
