"""nftables: text commands through libnftables, or through `nft -f -` where the library is missing.

One call is one transaction: all of its commands take effect or none.
"""

import contextlib
import ctypes
import json
import subprocess
import threading
from collections.abc import Iterator

from stackctl.errors import HostError

_LIBRARIES = ("libnftables.so.1", "libnftables.so")
_OUTPUT_JSON = 1 << 4
_OUTPUT_HANDLE = 1 << 3
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


class Nftables:
    """The packet filter of the network namespace of the thread that makes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = _load()
        self._context: int | None = None
        if self._library:
            self._context = self._library.nft_ctx_new(0)
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)

    def __enter__(self) -> "Nftables":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._library and self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, commands: str) -> str:
        """Run the commands as one transaction and return what they print.

        Raises HostError with nft's message and the line it is about.
        """
        with self._lock:
            if self._library is None:
                return _run_program(commands, [])
            return self._run_library(self._library, commands)

    def objects(self, command: str) -> list[dict[str, JsonValue]]:
        """Return the objects that a list command names, as nft's JSON has them (with handles)."""
        with self._lock:
            if self._library is None:
                text = _run_program(command, ["-j", "-a"])
            else:
                flags = self._library.nft_ctx_output_get_flags(self._context)
                self._library.nft_ctx_output_set_flags(
                    self._context, flags | _OUTPUT_JSON | _OUTPUT_HANDLE
                )
                try:
                    text = self._run_library(self._library, command)
                finally:
                    self._library.nft_ctx_output_set_flags(self._context, flags)
        document = json.loads(text) if text.strip() else {}
        return list(document.get("nftables", []))

    def _run_library(self, library: ctypes.CDLL, commands: str) -> str:
        status = library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = library.nft_ctx_get_output_buffer(self._context) or b""
        errors = library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            raise HostError(_message(errors.decode(errors="replace"), commands))
        return bytes(output).decode(errors="replace")


@contextlib.contextmanager
def nftables() -> Iterator[Nftables]:
    """Give the packet filter of this thread's namespace for a short while."""
    context = Nftables()
    try:
        yield context
    finally:
        context.close()


def _load() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_output_get_flags.restype = ctypes.c_uint
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        for function in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, function).restype = ctypes.c_char_p
        for function in (
            "nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error",
            "nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer", "nft_ctx_output_get_flags",
        ):  # fmt: skip
            getattr(library, function).argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        return library
    return None


def _run_program(commands: str, options: list[str]) -> str:
    try:
        done = subprocess.run(
            ["nft", *options, "-f", "-"],
            input=commands,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise HostError(
            f"nft: {error.strerror}",
            errno=error.errno or 0,
            hint="install the nftables package (libnftables or the nft program)",
        ) from error
    if done.returncode != 0:
        raise HostError(_message(done.stderr, commands), exit_code=done.returncode)
    return done.stdout


def _message(errors: str, commands: str) -> str:
    """Return nft's first complaint and the command it is about (it shows the line itself only at times)."""
    first = next((line for line in errors.splitlines() if "Error" in line), errors.strip())
    lines = commands.splitlines()
    place = first.split(":")
    number = int(place[1]) if len(place) > 2 and place[1].isdigit() else 0
    about = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    reason = first.split("Error:", 1)[-1].strip() or "unknown reason"
    return f"nftables: {reason}" + (f' in "{about[:200]}"' if about else "")
