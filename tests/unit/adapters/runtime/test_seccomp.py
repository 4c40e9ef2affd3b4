"""Unit tests of the seccomp translation."""

import ctypes
import json
import platform
import tempfile

import pytest

from stackctl.adapters.runtime.seccomp import SeccompProfiles, by_number, translate
from stackctl.errors import InvalidInputError
from stackctl.host.seccomp import syscall_numbers

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


def filter_of(profile: dict) -> bytes:
    """Return what libseccomp makes of a profile, by the calls that the runtime does."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    for name in ("seccomp_arch_add", "seccomp_export_bpf", "seccomp_release"):
        getattr(lib, name).argtypes = [ctypes.c_void_p, ctypes.c_uint32][
            : 1 if name == "seccomp_release" else 2
        ]
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    allow, refuse = 0x7FFF0000, 0x00050000
    context = lib.seccomp_init(refuse | profile["defaultErrnoRet"])
    for name in profile["architectures"]:
        plain = name.removeprefix("SCMP_ARCH_").lower().encode()
        lib.seccomp_arch_add(context, lib.seccomp_arch_resolve_name(plain) & 0xFFFFFFFF)
    added = 0
    for rule in profile["syscalls"]:
        action = allow if rule["action"] == "SCMP_ACT_ALLOW" else refuse | rule["errnoRet"]
        for name in rule["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == -1:
                continue
            args = rule.get("args") or ()
            conditions = (Condition * len(args))(
                *(
                    Condition(
                        item["index"], OPERATIONS.index(item["op"]), item["value"], item["valueTwo"]
                    )
                    for item in args
                )
            )
            count = len(args)
            assert lib.seccomp_rule_add_array(context, action, number, count, conditions) == 0, name
            added += 1
    assert added > 300
    with tempfile.TemporaryFile() as file:
        assert lib.seccomp_export_bpf(context, file.fileno()) == 0
        lib.seccomp_release(context)
        file.seek(0)
        return file.read()


OPERATIONS = (
    "", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)  # fmt: skip


class Condition(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def test_the_order_of_the_names_is_libseccomps_and_changes_nothing_else() -> None:
    path = SeccompProfiles().default_path()
    assert path is not None
    plain = translate(
        path.read_text(), frozenset(), machine=platform.machine(), kernel=platform.release()
    )
    ordered = by_number(plain)
    assert ordered != plain
    for before, after in zip(plain["syscalls"], ordered["syscalls"], strict=True):
        assert sorted(before["names"]) == sorted(after["names"])
        assert {**before, "names": 0} == {**after, "names": 0}
    twin = plain["architectures"][-1].removeprefix("SCMP_ARCH_").lower()
    longest = max(ordered["syscalls"], key=lambda rule: len(rule["names"]))["names"]
    numbers = syscall_numbers(longest, twin)
    known = [numbers[name] for name in longest if numbers[name] >= 0]
    assert known == sorted(known, reverse=True)
    assert filter_of(ordered) == filter_of(plain)


def test_names_of_an_unknown_architecture_keep_their_order() -> None:
    assert syscall_numbers(["read"], "vax") == {}
    rule = {"names": ["b", "a"], "action": "SCMP_ACT_ALLOW"}
    profile = {"architectures": ["SCMP_ARCH_VAX"], "syscalls": [rule]}
    assert by_number(profile) == profile
    assert by_number({**profile, "architectures": []}) == {**profile, "architectures": []}
