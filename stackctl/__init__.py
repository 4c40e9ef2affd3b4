"""Declarative multi-container stacks with a container engine of their own.

``from stackctl import Stack`` (or ``AsyncStack``) is the way in for programs; the command line and the engine import
nothing of it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stackctl.library.aio import AsyncStack
    from stackctl.library.leases import lease
    from stackctl.library.stack import Stack

__all__ = ["AsyncStack", "Stack", "__version__", "lease"]
__version__ = "0.1.0"
_LAZY = {
    "AsyncStack": "stackctl.library.aio",
    "Stack": "stackctl.library.stack",
    "lease": "stackctl.library.leases",
}


def __getattr__(name: str) -> object:
    """Import the library when it is asked for: importing stackctl costs nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
