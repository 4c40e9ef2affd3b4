"""Lines as messages of journald and syslog."""

import re
import struct
import time
from dataclasses import replace

import pytest

from stackctl.contracts.container import ContainerRecord, ContainerSpec, LogConfig
from stackctl.engine import logmessages
from stackctl.engine.logforward import check_present
from stackctl.engine.logoptions import check_log_config
from stackctl.errors import InvalidInputError

AT = 1_700_000_000.25
RECORD = ContainerRecord(
    id="0123456789ab" + "c" * 52,
    name="web",
    created=0.0,
    spec=ContainerSpec(image="busybox"),
    image_id="sha256:" + "d" * 64,
    layers=(),
    path="true",
    args=(),
    env=("A=b",),
    labels={"my.label": "x", "other": "y"},
)


def made(kind, options=None, *, stream=1, line=b"hello\n", whole=True):
    spec = replace(RECORD.spec, log_config=LogConfig(type=kind, config=options or {}))
    messages = logmessages.Messages(replace(RECORD, spec=spec), hostname="box", process=42)
    return messages.make(stream, AT, line, whole=whole)


def test_syslog_messages_are_those_of_the_chosen_format():
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(AT)).encode()
    assert made("syslog") == b"<30>%s 0123456789ab[42]: hello" % stamp
    assert made("syslog", {"syslog-format": "rfc3164", "syslog-facility": "local7"}, stream=2) == (
        b"<187>%s box 0123456789ab[42]: hello" % stamp
    )
    assert made("syslog", {"syslog-format": "rfc5424", "tag": "{{.Name}}/{{.ImageName}}"}) == (
        b"<30>1 2023-11-14T22:13:20Z box web/busybox 42 web/busybox - hello"
    )
    assert b"T22:13:20.250000Z " in made("syslog", {"syslog-format": "rfc5424micro"})


def test_journal_messages_have_docker_s_fields():
    fields = dict(
        line.split(b"=", 1)
        for line in made(
            "journald", {"labels": "my.label,none", "env": "A", "tag": "t"}, stream=2
        ).splitlines()
    )
    assert fields == {
        b"CONTAINER_ID": b"0123456789ab", b"CONTAINER_ID_FULL": RECORD.id.encode(), b"CONTAINER_NAME": b"web",
        b"CONTAINER_TAG": b"t", b"IMAGE_NAME": b"busybox", b"SYSLOG_IDENTIFIER": b"t", b"MY_LABEL": b"x", b"A": b"b",
        b"PRIORITY": b"3", b"MESSAGE": b"hello",
    }  # fmt: skip
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in made("journald", whole=False)


def test_a_value_with_line_feeds_cannot_make_fields_of_its_own():
    message = made("journald", line=b"one\nPRIORITY=0\n")
    assert message.endswith(b"MESSAGE\n" + struct.pack("<Q", 14) + b"one\nPRIORITY=0\n")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald"),
        ("syslog", {"syslog-facility": "nobody"}, "invalid syslog facility"),
        ("syslog", {"syslog-facility": "local9"}, "invalid syslog facility"),
        ("syslog", {"syslog-format": "xml"}, "Invalid syslog format"),
        ("syslog", {"syslog-address": "x"}, "unsupported scheme: ''"),
        ("syslog", {"syslog-address": "tcp+tls://x"}, "unsupported scheme: 'tcp+tls'"),
        ("gelf", {}, 'plugin "gelf" not found'),
    ],
)
def test_options_are_looked_at(kind, options, words):
    with pytest.raises(InvalidInputError, match=re.escape(words)):
        check_log_config(LogConfig(type=kind, config=options))


def test_a_driver_needs_what_it_writes_to():
    class Nothing:
        def has_journal(self):
            return False

        def has_syslog(self):
            return False

    with pytest.raises(InvalidInputError, match="journald is not enabled on this host"):
        check_present(LogConfig(type="journald"), Nothing())
    with pytest.raises(InvalidInputError, match="no syslog daemon listens"):
        check_present(LogConfig(type="syslog"), Nothing())
    check_present(LogConfig(type="syslog", config={"syslog-address": "udp://x"}), Nothing())
    check_present(LogConfig(type="json-file"), None)


@pytest.mark.parametrize(
    ("kind", "options", "shown"),
    [
        ("json-file", {}, ""),
        ("json-file", {"labels": "other,none", "env": "A, B"}, "A=b,other=y"),
        ("json-file", {"labels-regex": "^my|r$"}, "my.label=x,other=y"),
        (
            "json-file",
            {"env-regex": ".", "tag": "{{.Name}} {{.ID}}/é"},
            "A=b,tag=web+0123456789ab%2F%C3%A9",
        ),
        ("json-file", {"env": ""}, ""),
        ("journald", {"labels-regex": "my", "tag": "t"}, "MY_LABEL=x"),
        ("local", {}, ""),
        ("syslog", {"labels": "other"}, ""),
    ],
)
def test_details_are_shown_as_docker_shows_them(kind, options, shown):
    config = LogConfig(type=kind, config=options)
    record = replace(RECORD, spec=replace(RECORD.spec, log_config=config))
    assert logmessages.details_of(record).decode() == f"{shown} "


def test_the_journal_gets_what_expressions_choose():
    assert b"MY_LABEL=x\n" in made("journald", {"labels-regex": "^my"})
    assert b"OTHER=" not in made("journald", {"labels-regex": "^my"})
    with pytest.raises(InvalidInputError, match="error parsing regexp"):
        made("journald", {"env-regex": "["})


@pytest.mark.parametrize("tag", ["{{.Bogus}}", "{{.Name"])
def test_tags_that_cannot_be_are_refused(tag):
    with pytest.raises(InvalidInputError, match="invalid value for tag"):
        logmessages.tag_of(tag, logmessages.tag_values(RECORD))
