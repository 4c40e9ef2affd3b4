"""IDs and generated names."""

import re
import secrets
from collections.abc import Container

from stackctl.errors import InvalidInputError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_HEX = re.compile(r"[0-9a-f]{1,64}")
_LEFT = [
    "agile",
    "amber",
    "ancient",
    "brave",
    "brisk",
    "bright",
    "calm",
    "candid",
    "clever",
    "cosy",
    "crisp",
    "curious",
    "daring",
    "deft",
    "eager",
    "early",
    "earnest",
    "fair",
    "fancy",
    "fleet",
    "fond",
    "frank",
    "fresh",
    "gentle",
    "giddy",
    "glad",
    "golden",
    "grand",
    "happy",
    "hardy",
    "hasty",
    "hearty",
    "honest",
    "humble",
    "jolly",
    "jovial",
    "keen",
    "kind",
    "lively",
    "loyal",
    "lucid",
    "lucky",
    "merry",
    "mighty",
    "modest",
    "neat",
    "nimble",
    "noble",
    "patient",
    "placid",
    "plucky",
    "polite",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "robust",
    "rosy",
    "serene",
    "sharp",
    "silent",
    "sleek",
    "smart",
    "snappy",
    "sober",
    "solid",
    "steady",
    "stoic",
    "sunny",
    "swift",
    "tender",
    "tidy",
    "tranquil",
    "trusty",
    "upbeat",
    "vivid",
    "warm",
    "wise",
    "witty",
    "zealous",
]
_RIGHT = [
    "abel",
    "ampere",
    "archimedes",
    "babbage",
    "bell",
    "bernoulli",
    "bohr",
    "boole",
    "cantor",
    "carson",
    "cauchy",
    "cayley",
    "church",
    "curie",
    "darwin",
    "descartes",
    "dijkstra",
    "dirac",
    "edison",
    "einstein",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galilei",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goodall",
    "hamilton",
    "hawking",
    "heisenberg",
    "herschel",
    "hertz",
    "hilbert",
    "hopper",
    "hypatia",
    "joule",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mayer",
    "mcclintock",
    "meitner",
    "mendel",
    "mendeleev",
    "mirzakhani",
    "newton",
    "nobel",
    "noether",
    "pascal",
    "pasteur",
    "perlman",
    "planck",
    "poincare",
    "ramanujan",
    "ride",
    "riemann",
    "ritchie",
    "rubin",
    "shannon",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wiles",
    "wozniak",
    "yalow",
]


def new_id() -> str:
    """Return 64 random hexadecimal digits that do not read as a number (Docker's rule for short IDs)."""
    while True:
        text = secrets.token_hex(32)
        if not text[:12].isdecimal():
            return text


def short_id(full: str) -> str:
    return full[:12]


def generated_name(taken: Container[str]) -> str:
    """Return a name of the form adjective_surname that is free; a digit is added when need be."""
    for attempt in range(1000):
        name = f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}"
        if attempt >= 6:
            name += str(secrets.randbelow(10 ** (attempt // 6)))
        if name not in taken:
            return name
    return f"container_{secrets.token_hex(8)}"


def check_container_name(name: str) -> str:
    """Return the name without its leading slash; raises InvalidInputError."""
    plain = name.removeprefix("/")
    if not _NAME.fullmatch(plain):
        raise InvalidInputError(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return plain


def check_volume_name(name: str) -> str:
    """Return the name; raises InvalidInputError."""
    if len(name) < 2:
        raise InvalidInputError(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f'"{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return name


def is_id_prefix(text: str) -> bool:
    return _HEX.fullmatch(text) is not None
