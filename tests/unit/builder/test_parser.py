"""Dockerfile text to statements and instructions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackctl.builder import instructions as ins
from stackctl.builder.instructions import KEYWORDS, read_text
from stackctl.builder.parser import parse
from stackctl.errors import InvalidInputError


def one(text: str) -> ins.Instruction:
    return read_text(text)[1][0]


def test_continued_lines_skip_comments_and_keep_the_first_line_number():
    file = parse("# head\n\nRUN a \\\n  # inside\n\n  && b\nRUN c\n")
    assert [(item.rest, item.line, item.end_line) for item in file.statements] == [
        ("a   && b", 3, 6),
        ("c", 7, 7),
    ]


def test_directives_are_read_from_the_top_only():
    file = parse("# syntax=docker/dockerfile:1\n# escape=`\n\nRUN a `\n b\\\n# escape=\\\nRUN x")
    assert (file.escape, file.syntax) == ("`", "docker/dockerfile:1")
    assert [item.rest for item in file.statements] == ["a  b\\", "x"]


@pytest.mark.parametrize("text", ["# escape=x\nFROM a", "# escape=`\n# escape=`\nFROM a"])
def test_a_wrong_directive_is_refused(text):
    with pytest.raises(InvalidInputError, match=r"^Dockerfile:[12]: "):
        parse(text)


def test_heredocs_end_at_their_names_and_know_quotes_and_tabs():
    file = parse("COPY <<A <<-'B' /x\n1\nA\n\t2\n\tB\nRUN cat <<< x\n")
    first, second = file.statements[0].heredocs
    assert (first.name, first.content, first.expand) == ("A", "1\n", True)
    assert (second.text, second.expand, second.chomp) == ("2\n", False, True)
    assert file.statements[1].heredocs == ()


def test_an_unterminated_heredoc_is_located():
    with pytest.raises(InvalidInputError, match="Dockerfile:2: unterminated heredoc 'E'"):
        parse("FROM a\nRUN <<E\nx\n")


def test_an_unknown_instruction_shows_its_line_and_a_suggestion():
    with pytest.raises(InvalidInputError) as caught:
        read_text("FROM a\nCOPPY a b\n", name="x.Dockerfile")
    assert (
        caught.value.message
        == "x.Dockerfile:2: unknown instruction: COPPY (did you mean COPY?)\n  2 | COPPY a b"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM", "either one or three arguments"),
        ("FROM a AS 1b", "invalid name for build stage"),
        ("FROM a b", "either one or three"),
        ("RUN []", "at least one argument"),
        ('CMD ["a", 1]', "strings only"),
        ("RUN --mount=from=$S,target=/x y", "takes no variables"),
        ("RUN --mount=type=secret y", "needs an id"),
        ("RUN --mount=type=bnd,target=/x y", "did you mean bind"),
        ("RUN --mount=type=cache x", "needs a target"),
        ("RUN --mount=typ=bind,target=/x y", "unexpected key 'typ'"),
        ("COPY a", "at least two arguments"),
        ("COPY --chmod a b", "missing a value on flag: --chmod"),
        ("COPY --from=a --from=b c d", "duplicate flag"),
        ("ENV a", "must have two arguments"),
        ("ENV a=b c", "can't find ="),
        ("ENV =b", "can not be blank"),
        ("HEALTHCHECK", "at least one argument"),
        ("HEALTHCHECK FOO", "unknown type"),
        ("HEALTHCHECK --interval=abc CMD x", "not a duration"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("SHELL bash", "JSON form"),
        ("ONBUILD FROM x", "isn't allowed"),
        ("ONBUILD ONBUILD RUN x", "isn't allowed"),
        ('VOLUME [""]', "empty string"),
        ("ARG 1x", "is not a variable's name"),
    ],
)
def test_a_wrong_instruction_is_one_located_error(text, words):
    with pytest.raises(InvalidInputError) as caught:
        read_text(text)
    assert caught.value.message.startswith("Dockerfile:1: ")
    assert words in caught.value.message


def test_exec_and_shell_form_are_told_apart():
    assert one('CMD ["a", "b c"]').args == ("a", "b c")
    assert not one('CMD ["a"]').shell
    assert one("CMD ['a']").shell
    assert one("CMD [ -f x ] && y").args == ("[ -f x ] && y",)


def test_flags_mounts_and_options_are_read():
    run = one(
        "RUN --network=none --mount=type=cache,dst=/c,id=x,sharing=locked --mount=type=tmpfs,target=/t,size=64m a b"
    )
    assert run.args == ("a b",)
    assert run.network == "none"
    assert [(item.type, item.target, item.sharing, item.size) for item in run.mounts] == [
        ("cache", "/c", "locked", 0), ("tmpfs", "/t", "shared", 64 << 20),
    ]  # fmt: skip
    copy = one("COPY --from=x --chown=a:b --link --exclude=*.a --exclude=b s1 s2 /d/")
    assert (copy.sources, copy.destination, copy.link, copy.exclude) == (
        ("s1", "s2"),
        "/d/",
        True,
        ("*.a", "b"),
    )
    check = one('HEALTHCHECK --interval=1m30s --timeout=500ms CMD ["x"]').check
    assert (check.test, check.interval, check.timeout) == (("CMD", "x"), 90.0, 0.5)


def test_old_and_new_forms_of_pairs_are_read():
    assert one("ENV a b c").pairs == (("a", "b c"),)
    assert one('ENV a=b c="d e" f=g\\ h').pairs == (("a", "b"), ("c", '"d e"'), ("f", "g\\ h"))


WORDS = st.sampled_from(
    [
        *KEYWORDS,
        "--mount=type=bind",
        "--from=x",
        "<<E",
        "E",
        "\\",
        "\n",
        "[",
        '"a"',
        "]",
        "=",
        "$x",
        "#",
        "'",
        "a",
        "/",
    ]
)


@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(WORDS, max_size=20).map(" ".join),
        st.lists(WORDS, max_size=20).map("\n".join),
    )
)
def test_any_text_ends_in_instructions_or_one_located_error(text):
    try:
        file, found = read_text(text)
    except InvalidInputError as failure:
        error = failure.message
    else:
        assert len(found) == len(file.statements)
        return
    assert error.startswith("Dockerfile:")
