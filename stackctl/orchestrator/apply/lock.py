"""One command at a time changes a stack; and the key that digests of secrets are made with."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from stackctl.errors import HostError


@contextlib.contextmanager
def project_lock(
    project: str, folder: Path, *, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the stack's lock; ``waiting`` is told the project when another command holds it.

    The kernel lets go of the lock when its holder dies. Raises HostError when the folder cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / f"{project}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(
            f"cannot lock stack {project!r} in {folder}: {error.strerror}", errno=error.errno or 0
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting(project)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock_folder(run_root: Path, environ: Mapping[str, str], *, uid: int) -> Path:
    """Return where the locks of stacks are: beside the engine where this user may write there."""
    if uid == 0 or os.access(run_root, os.W_OK):
        return run_root / "projects"
    return Path(environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"stackctl-{uid}"


def key_path(data_root: Path, environ: Mapping[str, str], *, uid: int) -> Path:
    """Return where the key of secrets is kept."""
    if uid == 0:
        return data_root / "fingerprint.key"
    home = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME', '/')}/.local/state"
    return Path(home) / "stackctl" / "fingerprint.key"


def secret_key(path: Path) -> bytes:
    """Return the key in ``path``, made at first use and readable by its owner only.

    Two commands at once agree on one key. Raises HostError when it can be neither read nor made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another command was first: its key holds
        finally:
            draft.unlink()
        return path.read_bytes()
    except OSError as error:
        raise HostError(
            f"cannot keep the key of secrets in {path}: {error.strerror}", errno=error.errno or 0
        ) from error
