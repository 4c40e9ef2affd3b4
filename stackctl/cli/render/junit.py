"""What a test run found as JUnit XML, the form that CI systems read."""

import re
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from stackctl.frozen import frozen

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@frozen
class Case:
    """One thing that was to be: ready, or passed. ``failure`` "" means it was; ``skipped`` that nobody can tell."""

    name: str
    group: str
    seconds: float = 0.0
    failure: str = ""
    output: str = ""
    skipped: bool = False


def document(suite: str, cases: Sequence[Case]) -> str:
    """Return the XML document of one suite."""
    failed = sum(bool(case.failure) for case in cases)
    skipped = sum(case.skipped for case in cases)
    seconds = sum(case.seconds for case in cases)
    counts = (
        f'tests="{len(cases)}" failures="{failed}" errors="0" skipped="{skipped}"'
        f' time="{seconds:.3f}"'
    )
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            f"<testsuites {counts}>",
            f"<testsuite name={_attribute(suite)} {counts}>",
            *(_case(case) for case in cases),
            "</testsuite>",
            "</testsuites>",
            "",
        ]
    )


def _case(case: Case) -> str:
    head = (
        f"<testcase classname={_attribute(case.group)} name={_attribute(case.name)}"
        f' time="{case.seconds:.3f}"'
    )
    inner = []
    if case.failure:
        first = case.failure.partition("\n")[0]
        inner.append(f"<failure message={_attribute(first)}>{_text(case.failure)}</failure>")
    elif case.skipped:
        inner.append("<skipped/>")
    if case.output:
        inner.append(f"<system-out>{_text(case.output)}</system-out>")
    return f"{head}>{''.join(inner)}</testcase>" if inner else f"{head}/>"


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))
