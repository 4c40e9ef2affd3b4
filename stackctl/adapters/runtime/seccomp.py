"""Seccomp: profiles in Docker's form, translated to the runtime specification's for one container's capabilities.

Docker's form has conditions (architectures, capabilities, kernel versions) that the OCI form lacks. The native
architecture and its 32-bit twin are emitted, never x32: each architecture costs several milliseconds of every start.
"""

import functools
import json
import platform
from collections.abc import Mapping
from pathlib import Path

from stackctl.errors import InvalidInputError
from stackctl.host.seccomp import syscall_numbers
from stackctl.values import Json, JsonObject

PROFILES = (
    Path("/etc/containers/seccomp.json"),
    Path("/usr/share/containers/seccomp.json"),
    Path("/usr/share/docker/seccomp.json"),
)
# By machine: the name in conditions, then the native architecture and its twin.
_ARCHITECTURES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "x86_64": ("amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")),
    "aarch64": ("arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    "armv7l": ("arm", ("SCMP_ARCH_ARM",)),
    "ppc64le": ("ppc64le", ("SCMP_ARCH_PPC64LE",)),
    "s390x": ("s390x", ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")),
    "riscv64": ("riscv64", ("SCMP_ARCH_RISCV64",)),
}
_TWINS = {"amd64": "x86", "arm64": "arm", "s390x": "s390"}


class SeccompProfiles:
    """Translated profiles, kept in memory by text and capability set."""

    def __init__(
        self, paths: tuple[Path, ...] = PROFILES, *, machine: str = "", kernel: str = ""
    ) -> None:
        self._paths = paths
        self._machine = machine or platform.machine()
        self._kernel = kernel or platform.release()
        self._cache: dict[tuple[str, frozenset[str]], JsonObject] = {}

    def default_path(self) -> Path | None:
        """Return the file of the distribution's default profile; None when it has none (``engine check`` says so)."""
        return next((path for path in self._paths if path.is_file()), None)

    def profile(self, wanted: str, capabilities: frozenset[str]) -> JsonObject | None:
        """Return ``linux.seccomp``: for "default", for a profile's own text; None for "unconfined".

        None also for "default" where the distribution has no profile. Raises InvalidInputError for a text that is
        not a profile.
        """
        if wanted == "unconfined":
            return None
        key = (wanted, capabilities)
        if key not in self._cache:
            text = self._default_text() if wanted == "default" else wanted
            if text is None:
                return None
            if len(self._cache) > 256:
                self._cache.clear()
            self._cache[key] = by_number(
                translate(text, capabilities, machine=self._machine, kernel=self._kernel)
            )
        return self._cache[key]

    def _default_text(self) -> str | None:
        path = self.default_path()
        return None if path is None else path.read_text()


def translate(text: str, capabilities: frozenset[str], *, machine: str, kernel: str) -> JsonObject:
    """Return the OCI form of a profile's text; raises InvalidInputError when it is none."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"HostConfig.SecurityOpt: seccomp profile: {error}") from error
    if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
        raise InvalidInputError(
            "HostConfig.SecurityOpt: seccomp profile has no defaultAction",
            hint="Give a profile in Docker's form, or seccomp=unconfined.",
        )
    name, architectures = _ARCHITECTURES.get(machine, (machine, ()))
    if profile.get("architectures") and not profile.get("archMap"):
        architectures = tuple(str(item) for item in profile["architectures"])
    known = frozenset((name, _TWINS.get(name, name)))
    rules: list[Json] = []
    for rule in profile.get("syscalls") or ():
        if _applies(rule, known, capabilities, kernel):
            rules.extend(_rule(rule))
    result: JsonObject = {
        "defaultAction": profile["defaultAction"],
        "architectures": list(architectures),
        "syscalls": rules,
    }
    if isinstance(profile.get("defaultErrnoRet"), int):
        result["defaultErrnoRet"] = profile["defaultErrnoRet"]
    return result


def by_number(profile: JsonObject) -> JsonObject:
    """Return the same profile, the names of each rule from the highest number on the last architecture downwards.

    libseccomp keeps its rules in a list by number and looks for each place from the lowest on, in every start of a
    container and every exec. What it makes of them is the same in any order.
    """
    architectures, rules = profile["architectures"], profile["syscalls"]
    if not isinstance(architectures, list) or not isinstance(rules, list) or not architectures:
        return profile
    last = str(architectures[-1]).removeprefix("SCMP_ARCH_").lower()
    names = [name for rule in rules for name in _names(rule)]
    numbers = syscall_numbers(names, last)

    def key(name: str) -> int:
        return -numbers.get(name, -1)

    ordered: list[Json] = [
        {**rule, "names": [*sorted(_names(rule), key=key)]}
        for rule in rules
        if isinstance(rule, dict)
    ]
    return {**profile, "syscalls": ordered}


def _names(rule: Json) -> list[str]:
    names = rule.get("names") if isinstance(rule, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _applies(
    rule: object, known: frozenset[str], capabilities: frozenset[str], kernel: str
) -> bool:
    if not isinstance(rule, dict):
        raise InvalidInputError("HostConfig.SecurityOpt: seccomp profile: a rule is not an object")
    includes = rule.get("includes") or {}
    excludes = rule.get("excludes") or {}
    if includes.get("arches") and not known.intersection(includes["arches"]):
        return False
    if includes.get("caps") and not capabilities.issuperset(includes["caps"]):
        return False
    if includes.get("minKernel") and _version(kernel) < _version(includes["minKernel"]):
        return False
    if known.intersection(excludes.get("arches") or ()):
        return False
    if capabilities.intersection(excludes.get("caps") or ()):
        return False
    return not (excludes.get("minKernel") and _version(kernel) >= _version(excludes["minKernel"]))


def _rule(rule: Mapping[str, Json]) -> list[Json]:
    names = rule.get("names") or ([rule["name"]] if rule.get("name") else [])
    if not isinstance(names, list) or not names or not isinstance(rule.get("action"), str):
        raise InvalidInputError(
            "HostConfig.SecurityOpt: seccomp profile: a rule needs names and an action"
        )
    made: JsonObject = {"names": names, "action": rule["action"]}
    if isinstance(rule.get("errnoRet"), int) and rule["action"] != "SCMP_ACT_ALLOW":
        made["errnoRet"] = rule["errnoRet"]
    if rule.get("args"):
        made["args"] = rule["args"]
    return [made]


@functools.cache
def _version(text: str) -> tuple[int, int]:
    numbers = []
    for part in text.split("-")[0].split(".")[:2]:
        digits = "".join(letter for letter in part if letter.isdigit())
        numbers.append(int(digits or 0))
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)
