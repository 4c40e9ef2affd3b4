import re
from dataclasses import replace

import pytest

from stackctl.contracts.container import LogConfig
from stackctl.engine.logoptions import check_log_config, check_start, rotation
from stackctl.errors import InvalidInputError, StartError
from tests.unit.engine.test_logmessages import RECORD


def starting(kind, options):
    config = LogConfig(type=kind, config=options)
    check_log_config(config)
    check_start(replace(RECORD, spec=replace(RECORD.spec, log_config=config)), None)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("json-file", {}),
        ("json-file", {"max-size": "10m", "max-file": "3", "compress": "true", "labels": "a"}),
        ("local", {"max-size": "1g", "compress": "false"}),
        ("none", {"anything": "goes"}),
        ("json-file", {"mode": "non-blocking", "max-buffer-size": "4m"}),
        ("json-file", {"max-size": "-1"}),
        ("json-file", {"labels-regex": "^a", "env-regex": "^b", "tag": "{{.Command}}"}),
    ],
)
def test_options_of_docker_are_accepted(kind, options):
    starting(kind, options)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("asdf", {}, "error looking up logging plugin asdf"),
        ("splunk", {}, "error looking up logging plugin splunk"),
        ("json-file", {"speed": "1"}, "unknown log opt 'speed' for json-file log driver"),
        ("local", {"labels": "1"}, "unknown log opt 'labels' for log driver local"),
        ("json-file", {"mode": "quick"}, "logging mode not supported"),
        ("json-file", {"max-buffer-size": "1m"}, "only supported with 'mode=non-blocking'"),
        (
            "json-file",
            {"mode": "non-blocking", "max-buffer-size": "x"},
            "error parsing option max-buffer-size: invalid size: 'x'",
        ),
    ],
)
def test_options_docker_refuses_at_create_are_refused_there(kind, options, words):
    with pytest.raises(InvalidInputError, match=words):
        check_log_config(LogConfig(type=kind, config=options))


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("json-file", {"max-file": "0"}, "max-file cannot be less than 1"),
        ("json-file", {"max-file": "x"}, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("json-file", {"max-size": "big"}, "driver: invalid size: 'big'"),
        ("local", {"max-size": "x"}, "driver: invalid value for max-size: x: invalid size: 'x'"),
        ("json-file", {"max-size": "0"}, "max-size must be a positive number"),
        ("json-file", {"compress": "x"}, 'strconv.ParseBool: parsing "x": invalid syntax'),
        ("json-file", {"compress": "true"}, "compress cannot be true"),
        ("json-file", {"env-regex": "("}, "error parsing regexp: .*env-regex"),
        ("journald", {"labels-regex": "("}, "journald is not enabled on this host"),
    ],
)
def test_what_docker_finds_at_a_start_is_found_there(kind, options, words):
    with pytest.raises(StartError) as caught:
        starting(kind, options)
    text = f"{caught.value.message} {caught.value.hint}"
    assert text.startswith(
        "failed to create task for container: failed to initialize logging driver: "
    )
    assert caught.value.exit_code == 128
    assert re.search(words, text)


def test_a_local_log_is_rotated_by_default_and_a_json_one_is_not():
    assert rotation(LogConfig(type="local")) == (20_000_000, 5)
    assert rotation(LogConfig(type="json-file")) == (0, 1)
    assert rotation(LogConfig(config={"max-size": "10k", "max-file": "3"})) == (10_000, 3)
