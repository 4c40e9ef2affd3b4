"""AnyChange: directory events where there is no inotify: whatever happens, everything is looked at again.

watchfiles knows every platform's own way to hear of changes. It tells neither of lost events nor lets directories be
left out, so what it says counts only as "something changed" (``host.inotify`` says what was measured on Linux).
"""

import threading

_OVERFLOW = 0x4000
_STEP, _DEBOUNCE = 5, 50  # milliseconds
_FOREVER = 3600.0


class AnyChange:
    """Satisfies ``changes.DirectoryEvents``; only the topmost directories are handed to the platform."""

    def __init__(self) -> None:
        from watchfiles._rust_notify import RustNotify

        self._make = RustNotify
        self._roots: list[str] = []
        self._notify: RustNotify | None = None
        self._stop = threading.Event()
        self._numbers: dict[str, int] = {}

    def add(self, path: str) -> int:
        if not any(path == root or path.startswith(f"{root}/") for root in self._roots):
            self._roots = [*(r for r in self._roots if not r.startswith(f"{path}/")), path]
            self._notify = None
        return self._numbers.setdefault(path, len(self._numbers) + 1)

    def remove(self, number: int) -> None:
        """Do nothing: a directory that is left out is not asked for."""

    def read(self, timeout: float | None) -> list[tuple[int, int, str]]:
        if self._notify is None:
            self._notify = self._make(self._roots, False, False, 0, True, True)
        wait = round((_FOREVER if timeout is None else timeout) * 1000)
        found = self._notify.watch(_DEBOUNCE, _STEP, max(wait, 1), self._stop)
        self._stop.clear()
        return [(0, _OVERFLOW, "")] if isinstance(found, set) and found else []

    def wake(self) -> None:
        self._stop.set()

    def close(self) -> None:
        if self._notify is not None:
            self._notify.close()
