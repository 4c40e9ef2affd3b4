"""x-ready and x-timeout: their forms, what is wrong with others, and what other tools see of them."""

import pytest

from stackctl.orchestrator.model.ready import HttpProbe, Ready
from stackctl.orchestrator.planning.fingerprint import Inputs, service_fingerprint
from stackctl.orchestrator.stackfile.convert import to_stack
from stackctl.orchestrator.stackfile.dump import to_yaml

FILE = """
services:
  web:
    image: x
    x-ready: {ready}
"""


def ready(loader, text: str, **options) -> Ready | None:
    loaded = loader(FILE.format(ready=text), **options)
    return to_stack(loaded).services["web"].ready


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{tcp: 80}", Ready(tcp=80)),
        ('{tcp: "${PORT}"}', Ready(tcp=9000)),
        ("{http: 80}", Ready(http=HttpProbe(port=80))),
        ("{http: 80/health?x=1}", Ready(http=HttpProbe(port=80, path="/health?x=1"))),
        ('{http: ":80/"}', Ready(http=HttpProbe(port=80))),
        (
            '{http: {port: "80", path: up, status: 204}}',
            Ready(http=HttpProbe(port=80, path="/up", least=204, most=204)),
        ),
        (
            "{http: {port: 80, status: 200-499}}",
            Ready(http=HttpProbe(port=80, least=200, most=499)),
        ),
        ("{log: 'is (up|ready)$$'}", Ready(log="is (up|ready)$")),
        ("{exec: [test, -e, /x]}", Ready(exec=("test", "-e", "/x"))),
        ("{exec: test -e /x}", Ready(exec=("/bin/sh", "-c", "test -e /x"))),
        ("{tcp: 1, interval: 50ms, timeout: 1m30s}", Ready(tcp=1, interval=0.05, timeout=90.0)),
        ("{tcp: 1, timeout: 0s, x-note: any}", Ready(tcp=1, timeout=0.0)),
    ],
)
def test_every_form_is_read(loader, text, expected) -> None:
    assert ready(loader, text, environ={"PORT": "9000"}) == expected


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("{tcp: 70000}", "5:20", "'70000' is not a port"),
        ("{tcp: web}", "5:20", "'web' is not a port"),
        ("{http: /health}", "5:21", "'/health' is not PORT/PATH"),
        ("{http: {port: 0}}", "5:21", "'0' is not a port"),
        ("{http: {port: 1, status: ok}}", "5:21", "'ok' is no status"),
        ("{http: {path: /}}", "5:15", '"port" is missing'),
        ("{log: '('}", "5:20", "is not a regular expression"),
        ("{tcp: 1, interval: 0s}", "5:33", "would never rest"),
        ("{tcp: 1, timeout: -1s}", "5:32", "less than no time"),
        ("{tcp: 1, timeout: soon}", "5:32", "is not a duration"),
        ("{timeout: 5s}", "5:14", "there is no probe in it"),
        ("{port: 1}", "5:15", '"port"'),
        ("80", "5:14", "expected a mapping"),
        ("null", "5:14", "expected a mapping"),
        ("[tcp]", "5:14", "expected a mapping"),
    ],
)
def test_what_means_nothing_is_named_where_it_stands(problems, text, where, message) -> None:
    (first, *_) = problems(FILE.format(ready=text))
    assert f"{first.line}:{first.column}" == where
    assert message in first.message
    assert "services.web.x-ready" in first.message


def test_a_dependent_says_how_long_it_waits(loader, problems) -> None:
    text = """
    services:
      db: {image: x}
      web:
        image: x
        depends_on:
          db: {condition: service_healthy, x-timeout: TIME}
    """
    stack = to_stack(loader(text.replace("TIME", "2s")))
    assert stack.services["web"].depends_on["db"].timeout == 2.0
    (found,) = problems(text.replace("TIME", "later"))
    assert "services.web.depends_on.db.x-timeout" in found.message
    assert "is not a duration" in found.message


def test_it_is_an_extension_to_others_and_no_part_of_the_container(loader) -> None:
    loaded = loader(FILE.format(ready="{tcp: 80}"))
    assert "x-ready" not in loaded.tree["services"]["web"]
    assert "x-ready:\n      tcp: 80" in to_yaml(loaded)
    digests = set()
    for text in ("{tcp: 80}", "{log: up}"):
        stack = to_stack(loader(FILE.format(ready=text)))
        digests.add(service_fingerprint(stack, stack.services["web"], Inputs()).digest)
    assert len(digests) == 1
