"""aiohttp without its client until somebody asks for that: a fifth of what the daemon's start would otherwise cost.

The package's own __init__ imports the client with everything below it, TLS contexts and their certificates included,
and serving needs none of it. Submodules are imported as always; the first look at anything else runs that __init__.
"""

import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


class _Package(ModuleType):
    """The package as far as it is needed."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or name in _submodules(self):
            raise AttributeError(name)
        spec = self.__spec__
        if spec is None or spec.loader is None or self.__dict__.get("__stackctl_loaded__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__["__stackctl_loaded__"] = True
        spec.loader.exec_module(self)
        return getattr(self, name)


def _submodules(package: ModuleType) -> frozenset[str]:
    found = package.__dict__.get("__stackctl_submodules__")
    if not isinstance(found, frozenset):
        files = [file for folder in package.__path__ for file in Path(folder).iterdir()]
        found = frozenset(file.name.partition(".")[0] for file in files)
        package.__dict__["__stackctl_submodules__"] = found
    return found


def defer_client() -> None:
    """Put the package in place; nothing happens where it was imported already."""
    if "aiohttp" in sys.modules:
        return
    spec: ModuleSpec | None = importlib.util.find_spec("aiohttp")
    if spec is None or spec.submodule_search_locations is None or spec.origin is None:
        return  # the import that follows says what is missing
    version = _VERSION.search(Path(spec.origin).read_text(encoding="utf-8"))
    if version is None:
        return  # not the package we know: it is imported as it is
    package = _Package(spec.name)
    package.__spec__ = spec
    package.__path__ = spec.submodule_search_locations
    package.__file__ = spec.origin
    package.__dict__["__version__"] = version[1]  # submodules ask for it
    package.__package__ = spec.name
    package.__loader__ = spec.loader
    sys.modules[spec.name] = package
