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
            fits = ",".join(map(str, ours["status"])) == statuses and words in ours["told"][:2][-1]
        elif asked.startswith("TRY "):
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
_HINT = re.compile(r" \([A-Za-z][^()]*(?:\([^()]*\)[^()]*)*\)$")
_SHIM = re.compile(
    "failed to create task for container: failed to create shim task: |error during container init: "
)


def is_alike(docker, ours):
    """Tell whether creating and starting failed at the same point, with the same words."""
    statuses = [*zip(docker["status"], ours["status"], strict=False)]
    if len(docker["told"]) != len(ours["told"]) or not all(
        one == other or (one == 500 and 400 <= other < 600) for one, other in statuses
    ):
        return False
    return all(
        theirs in (said, plain) or plain == _plain(theirs)
        for theirs, said, plain in (
            (_SHIM.sub("", one), _SHIM.sub("", other), _plain(_SHIM.sub("", other)))
            for one, other in zip(docker["told"], ours["told"], strict=True)
        )
    )


def _plain(text):
    return _HINT.sub("", _FIELD.sub("", text))
