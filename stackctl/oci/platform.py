"""Platform matching (OCI image specification, image index, platform)."""

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

# What uname calls a machine, and what Go and therefore OCI call it.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


@frozen
class Platform:
    """An operating system, architecture and variant."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def accepts(self, other: "Platform") -> bool:
        """Tell whether an image for ``other`` is what this asks for; an empty variant on either side fits."""
        return (self.os, self.architecture) == (other.os, other.architecture) and (
            not self.variant or not other.variant or self.variant == other.variant
        )


def of_machine(machine: str) -> Platform:
    """Return the platform of ``uname -m``'s answer."""
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform(architecture=architecture, variant=variant)


# What Go builds for (containerd/platforms, isKnownOS).
_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
        "zos",
    ]
)


def parse_platform(text: str) -> Platform:
    """Return the platform of "os/architecture[/variant]"; raises InvalidInputError."""
    parts = text.lower().split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidInputError(
            f'"{text}" is not a platform', hint="write it as os/architecture, such as linux/arm64"
        )
    if len(parts) == 1:
        if parts[0] in _ARCHITECTURES:
            return of_machine(parts[0])
        if parts[0] not in _SYSTEMS:
            raise InvalidInputError(
                f'"{text}": unknown operating system or architecture: invalid argument'
            )
        return Platform(os=parts[0])
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform(
        os=parts[0],
        architecture=architecture,
        variant=parts[2] if len(parts) == 3 else ("" if architecture == "arm64" else variant),
    )
