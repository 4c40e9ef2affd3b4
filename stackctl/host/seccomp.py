"""System call numbers, by the library that the container runtime uses too (libseccomp(3))."""

import ctypes
import functools
from collections.abc import Mapping, Sequence

_LIBRARY = "libseccomp.so.2"


def syscall_numbers(names: Sequence[str], architecture: str) -> Mapping[str, int]:
    """Return each name's number on ``architecture`` ("x86", "aarch64"); negative where that has no such call.

    Empty where the library is missing or does not know the architecture.
    """
    library = _library()
    token = library.seccomp_arch_resolve_name(architecture.encode()) if library else 0
    if library is None or not token:
        return {}
    return {name: library.seccomp_syscall_resolve_name_arch(token, name.encode()) for name in names}


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library
