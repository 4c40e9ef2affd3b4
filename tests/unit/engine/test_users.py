"""Unit tests of the user look-up."""

import pytest

from stackctl.engine.users import MAX_ID, User, owner_of, resolve_user
from stackctl.errors import InvalidInputError

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\nbroken\nhuge:x:4294967296:0::/:/x\n"
GROUP = "root:x:0:\nweb:x:102:\naudio:x:29:web,root\nvideo:x:44: web\nbad:x:nan:\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", User(uid=0, gid=0, groups=(0, 29), home="/root", name="root")),
        ("web", User(uid=101, gid=102, groups=(102, 29, 44), home="/srv", name="web")),
        ("101", User(uid=101, gid=102, groups=(102, 29, 44), home="/srv", name="web")),
        ("web:audio", User(uid=101, gid=29, groups=(29,), home="/srv", name="web")),
        ("web:7", User(uid=101, gid=7, groups=(7,), home="/srv", name="web")),
        ("500", User(uid=500, gid=0, groups=(0,), home="/", name="")),
        ("500:600", User(uid=500, gid=600, groups=(600,), home="/", name="")),
        (str(MAX_ID), User(uid=MAX_ID, gid=0, groups=(0,))),
    ],
)
def test_a_user_is_looked_up_as_docker_does(text: str, wanted: User) -> None:
    assert resolve_user(text, PASSWD, GROUP) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody", "unable to find user nobody"),
        ("web:none", "unable to find group none"),
        (str(MAX_ID + 1), "must be in range"),
        ("4294967296", "must be in range"),
        ("0:4294967296", "must be in range"),
        ("9" * 100_000, "must be in range"),
        ("-1", "unable to find user -1"),
        ("١", "unable to find user"),
        ("huge", "unable to find user huge"),
    ],
)
def test_what_is_not_there_or_out_of_range_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        resolve_user(text, PASSWD, GROUP)


def test_added_groups_come_on_top_once() -> None:
    found = resolve_user("web", PASSWD, GROUP, group_add=("audio", "1000"))
    assert found.groups == (102, 29, 44, 1000)


@pytest.mark.parametrize(
    ("chown", "found"),
    [
        ("web", (101, 102, "")),
        ("web:audio", (101, 29, "")),
        ("web:none", (101, 102, "group none")),
        ("web:", (101, 0, "")),
        ("7", (7, 7, "")),
        ("7:", (7, 0, "")),
        ("7:none", (7, 7, "group none")),
        (":audio", (0, 29, "")),
        ("who", (0, 0, "user who")),
        ("who:none", (0, 0, "user who and no group none")),
    ],
)
def test_owners_are_those_that_dockers_builder_takes(
    chown: str, found: tuple[int, int, str]
) -> None:
    assert owner_of(chown, PASSWD, GROUP) == found


def test_an_owner_that_would_wrap_round_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="must be in range"):
        owner_of("4294967296", PASSWD, GROUP)
