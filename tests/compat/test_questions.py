"""Lists and prunes with every filter, compared with what Docker 28 answered (tests/compat/transcripts)."""

import json

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
    assert set(DEVIATIONS) <= set(asked)


def test_every_answer_is_dockers(dock):
    engine = Asked(dock.paths.socket)
    try:
        engine.furnish()
        found = list(answers(engine))
    finally:
        engine.clear()
    wrong = []
    for docker, ours in zip(json.loads(RECORDED.read_text()), found, strict=True):
        # Docker calls some mistakes of the client's its own.
        status = 400 if docker["status"] == 500 else docker["status"]
        expected = DEVIATIONS.get(docker["asked"], (status, docker["told"]))
        if (ours["status"], ours["told"]) != expected:
            wrong.append(f"{docker['asked']}\n  Docker {expected}\n  ours   {ours}")
    assert not wrong, "\n".join(wrong)
