"""Spans as rows of a trace."""

from stackctl.cli.trace import Span, lanes


def test_spans_that_overlap_are_on_rows_of_their_own_and_rows_are_used_again():
    spans = [
        Span(name="a", start=0, end=2),
        Span(name="b", start=1, end=3),
        Span(name="c", start=2, end=4),
        Span(name="d", start=3, end=5),
    ]
    assert lanes(spans) == {"a": 0, "b": 1, "c": 0, "d": 1}
