"""Unit tests of the runtime's words."""

import pytest

from stackctl.adapters.runtime.conmon import runtime_words
from stackctl.adapters.runtime.failures import start_error


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/x": permission denied', 126),
        ('exec: "/": is a directory', 126),
        ("not a directory: are you trying to mount a directory onto a file", 127),
        ("error setting cgroup config", 128),
        ("", 128),
    ],
)
def test_dockers_exit_code_follows_the_runtimes_words(words: str, code: int) -> None:
    error = start_error(words)
    assert error.exit_code == code
    assert words in error.message


def test_an_exec_that_fails_otherwise_is_126() -> None:
    assert start_error("setns failed", verb="exec").exit_code == 126


def test_the_words_come_from_the_log_or_the_stream() -> None:
    message = 'time="x" level=warning msg="w"\ntime="x" level=error msg="exec: \\"a\\" failed"\n'
    assert runtime_words(message, "") == 'exec: "a" failed'
    log = '{"level":"warning","msg":"no"}\n{"level":"error","msg":"from log"}\nnot json\n'
    assert runtime_words(message, log) == "from log"
    assert runtime_words("plain\n", "") == "plain"
