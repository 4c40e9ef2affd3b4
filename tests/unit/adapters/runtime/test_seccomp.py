"""Unit tests of the seccomp translation."""

import json

import pytest

from stackctl.adapters.runtime.seccomp import SeccompProfiles, translate
from stackctl.errors import InvalidInputError

PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "defaultErrno": "ENOSYS",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "args": [], "errnoRet": 1, "errno": "EPERM"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["breakpoint"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32", "x86"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.1"}},
    ],
}  # fmt: skip


def names(capabilities: frozenset[str], machine: str = "x86_64") -> list[str]:
    made = translate(json.dumps(PROFILE), capabilities, machine=machine, kernel="6.18.1-x")
    return [f"{rule['action'][9:]} {name}" for rule in made["syscalls"] for name in rule["names"]]


def test_rules_depend_on_the_capabilities_the_architecture_and_the_kernel() -> None:
    assert names(frozenset()) == ["ALLOW read", "ERRNO mount", "ALLOW modify_ldt", "ALLOW ptrace"]
    assert "ALLOW mount" in names(frozenset({"CAP_SYS_ADMIN"}))
    assert "ALLOW breakpoint" in names(frozenset(), "aarch64")


def test_only_what_the_runtime_takes_is_left() -> None:
    made = translate(json.dumps(PROFILE), frozenset(), machine="x86_64", kernel="6.1")
    assert made["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert made["defaultErrnoRet"] == 38
    assert made["syscalls"][0] == {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
    assert set(made) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"defaultAction":"X","syscalls":[{}]}',
        '{"defaultAction":"X","syscalls":[1]}',
    ],
)
def test_what_is_not_a_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="SecurityOpt"):
        translate(text, frozenset(), machine="x86_64", kernel="6.1")


def test_a_translation_is_made_once(tmp_path) -> None:
    path = tmp_path / "seccomp.json"
    path.write_text(json.dumps(PROFILE))
    profiles = SeccompProfiles((path,), machine="x86_64", kernel="6.1")
    first = profiles.profile("default", frozenset())
    assert profiles.profile("default", frozenset()) is first
    assert profiles.profile("unconfined", frozenset()) is None


def test_a_distribution_without_a_profile_is_told(tmp_path) -> None:
    profiles = SeccompProfiles((tmp_path / "none",), machine="x86_64", kernel="6.1")
    assert profiles.default_path() is None
    assert profiles.profile("default", frozenset()) is None
