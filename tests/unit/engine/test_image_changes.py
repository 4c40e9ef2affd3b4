"""The changes of commit and import."""

import pytest

from stackctl.contracts.state import ImageConfig
from stackctl.engine.image_changes import apply_changes
from stackctl.engine.image_config import config_tree, instant, parse_config, timestamp
from stackctl.errors import InvalidInputError


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', ImageConfig(cmd=("a", "b c"))),
        ("cmd echo $HOME", ImageConfig(cmd=("/bin/sh", "-c", "echo $HOME"))),
        ("ENTRYPOINT []", ImageConfig(entrypoint=())),
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
    ],
)  # fmt: skip
def test_an_instruction_changes_the_configuration(change, expected):
    found = apply_changes(ImageConfig(), [change])
    assert found == expected
    assert parse_config(config_tree(found)) == parse_config(config_tree(expected))


def test_env_replaces_what_has_its_name_and_workdir_goes_on_from_the_last():
    config = apply_changes(
        ImageConfig(env=("A=0", "B=0")), ["ENV A=1", "WORKDIR /srv\nWORKDIR app"]
    )
    assert config.env == ("B=0", "A=1")
    assert config.working_dir == "/srv/app"


@pytest.mark.parametrize("change", ["RUN x", "CMD", "EXPOSE x", "EXPOSE 0", "ENV A", "ENV A=1 B"])
def test_what_is_no_change_is_refused(change):
    with pytest.raises(InvalidInputError):
        apply_changes(ImageConfig(), [change])


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
