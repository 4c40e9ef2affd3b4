"""Names of images: their parts, their whole form, their order."""

import pytest

from stackctl.errors import InvalidInputError
from stackctl.oci.reference import in_order, is_registry, parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("team/app:v1", "docker.io/team/app:v1"),
        ("index.docker.io/a", "docker.io/library/a"),
        ("reg.example:5000/a/b:c", "reg.example:5000/a/b:c"),
        (f"localhost/a@{DIGEST}", f"localhost/a@{DIGEST}"),
    ],
)
def test_a_name_has_a_whole_form(text, full):
    assert parse_reference(text).full == full


def test_names_are_told_by_their_whole_form_each_once():
    names = [
        "z:1",
        "reg.example.com/a:1",
        "bb:2",
        "127.0.0.1:5000/x:1",
        "team/bb:1",
        "bb:10",
        "bb:2",
    ]
    names.append(f"bb@{DIGEST}")
    assert in_order(names) == (
        "127.0.0.1:5000/x:1", "bb:10", "bb:2", f"bb@{DIGEST}", "z:1", "team/bb:1", "reg.example.com/a:1",
    )  # fmt: skip


def test_a_tag_takes_the_place_of_what_was_there():
    reference = parse_reference(f"a/b:c@{DIGEST}").with_tag("d")
    assert str(reference) == "a/b:d"
    for wrong in ("", ":", "a/b", "x:y", ".a", "-a", "é", "a" * 129):
        with pytest.raises(InvalidInputError, match="invalid tag format"):
            reference.with_tag(wrong)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("localhost", True), ("a.b:5", True), ("[::1]:5", True), ("not a host", False), ("", False), ("a:b", False)],
)  # fmt: skip
def test_what_can_be_a_registry_is_told(text, is_one):
    assert is_registry(text) == is_one
