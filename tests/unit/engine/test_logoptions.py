import pytest

from stackctl.contracts.container import LogConfig
from stackctl.engine.logoptions import check_log_config, rotation
from stackctl.errors import InvalidInputError


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("json-file", {}),
        ("json-file", {"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a"}),
        ("local", {"max-size": "1g", "compress": "false"}),
        ("none", {"anything": "goes"}),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "4m"}),
        ("json-file", {"max-size": "-1"}),
    ],
)
def test_options_of_docker_are_accepted(kind, options):
    check_log_config(LogConfig(type=kind, config=options))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("asdf", {}, "error looking up logging plugin asdf"),
        ("splunk", {}, "error looking up logging plugin splunk"),
        ("json-file", {"speed": "1"}, "unknown log opt 'speed' for json-file log driver"),
        ("local", {"labels": "1"}, "unknown log opt 'labels' for local log driver"),
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "x"}, "invalid value for max-file"),
        ("json-file", {"max-size": "big"}, "invalid value for max-size"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"compress": "true"}, "compress cannot be true"),
        ("json-file", {"mode": "quick"}, "logging mode not supported"),
        ("json-file", {"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
    ],
)
def test_options_docker_refuses_are_refused(kind, options, words):
    with pytest.raises(InvalidInputError, match=words):
        check_log_config(LogConfig(type=kind, config=options))


def test_a_local_log_is_rotated_by_default_and_a_json_one_is_not():
    assert rotation(LogConfig(type="local")) == (20 << 20, 5)
    assert rotation(LogConfig(type="json-file")) == (0, 1)
    assert rotation(LogConfig(config={"max-size": "10k", "max-file": "3"})) == (10240, 3)
