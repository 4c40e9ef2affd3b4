"""Tests of the stack beside this file: ``pytest`` brings a copy of it up and removes it."""

import unittest
import urllib.request
from pathlib import Path

import pytest

from stackctl import Stack

HERE = Path(__file__).parent


def page(stack: Stack) -> str:
    with urllib.request.urlopen(f"http://{stack.service('web').port(8000)}/") as answer:
        return answer.read().decode()


@pytest.mark.stack("stack.yaml")
def test_the_page_is_served(stack):
    assert page(stack) == "Hello from a tested stack.\n"
    assert stack.service("web").wait_for_log("response:200")


@pytest.mark.stack("stack.yaml", reset=True)
@pytest.mark.parametrize("number", [1, 2])
def test_uploads_begin_empty(stack, number):
    web = stack.service("web")
    assert web.exec("/bin/busybox", "ls", "/uploads").stdout == ""
    web.exec("/bin/busybox", "touch", f"/uploads/{number}")


class TheSameForUnittest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(HERE / "stack.yaml"))

    def test_the_page_is_served(self):
        assert page(self.stack) == "Hello from a tested stack.\n"
