"""The changes of commit and import."""

import re

import pytest

from stackctl.builder.changes import apply_changes
from stackctl.contracts.container import Healthcheck
from stackctl.contracts.state import ImageConfig
from stackctl.engine.image_config import config_tree, instant, parse_config, timestamp
from stackctl.errors import InvalidInputError


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', ImageConfig(cmd=("a", "b c"))),
        ("cmd echo $HOME", ImageConfig(cmd=("/bin/sh", "-c", "echo $HOME"))),
        ("ENTRYPOINT []", ImageConfig()),
        ("ENV A=1 B='x y'", ImageConfig(env=("A=1", "B=x y"))),
        ("ENV A some words", ImageConfig(env=("A=some words",))),
        ("LABEL a.b=c", ImageConfig(labels={"a.b": "c"})),
        ("EXPOSE 80 53/udp 8000-8002", ImageConfig(
            exposed_ports=("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"))),
        ("USER me:us", ImageConfig(user="me:us")),
        ("WORKDIR /srv", ImageConfig(working_dir="/srv")),
        ('VOLUME ["/b", "/a"]', ImageConfig(volumes=("/a", "/b"))),
        ("STOPSIGNAL SIGINT", ImageConfig(stop_signal="SIGINT")),
        ("ONBUILD RUN x", ImageConfig(on_build=("RUN x",))),
        ("HEALTHCHECK --interval=5s CMD true", ImageConfig(
            healthcheck=Healthcheck(test=("CMD-SHELL", "true"), interval=5.0))),
        ("HEALTHCHECK NONE", ImageConfig(healthcheck=Healthcheck(test=("NONE",)))),
        ('LABEL "a b"="c d" x=\\"q\\"', ImageConfig(labels={"a b": "c d", "x": '"q"'})),
        ("ENV A=${B:-c} D=$E", ImageConfig(env=("A=c", "D="))),
        ("EXPOSE 80/TCP", ImageConfig(exposed_ports=("80/tcp",))),
        ("WORKDIR a/../b/", ImageConfig(working_dir="/b")),
        ("# nothing\nUSER me", ImageConfig(user="me")),
    ],
)  # fmt: skip
def test_an_instruction_changes_the_configuration(change, expected):
    found = apply_changes(ImageConfig(), [change])
    assert found == expected
    assert parse_config(config_tree(found)) == parse_config(config_tree(expected))


def test_changes_see_the_environment_and_go_on_from_one_another():
    config = apply_changes(
        ImageConfig(env=("A=0", "B=0"), cmd=("old",)),
        ["ENV A=1 C=$B", "WORKDIR /srv\nWORKDIR app", 'ENTRYPOINT ["e"]'],
    )
    assert config.env == ("A=1", "B=0", "C=0")
    assert config.working_dir == "/srv/app"
    assert (config.entrypoint, config.cmd) == (("e",), None)
    kept = apply_changes(ImageConfig(), ['CMD ["c"]', 'ENTRYPOINT ["e"]'])
    assert (kept.entrypoint, kept.cmd) == (("e",), ("c",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("RUN x", "RUN is not a valid change command"),
        ("MAINTAINER me", "MAINTAINER is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ('SHELL ["x"]', "SHELL is not a valid change command"),
        ("", "the file holds no instructions"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in 'B'"),
        ("STOPSIGNAL NONSENSE", "invalid signal: NONSENSE"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ('CMD ["sh", 1]', "arrays must be comprised of strings only"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
    ],
)
def test_what_is_no_change_is_refused_in_a_builds_words(change, words):
    with pytest.raises(InvalidInputError, match=re.escape(words)) as caught:
        apply_changes(ImageConfig(), [change])
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:00.123456789+01:00", 0.123456),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
def test_times_are_read_as_images_write_them(text, seconds):
    assert instant(text) == pytest.approx(seconds)


def test_a_time_is_written_and_read():
    assert instant(timestamp(1234.5)) == 1234.5
