"""Starting a program that detaches itself (forks and lets its first process end when it is ready)."""

import subprocess
from collections.abc import Sequence

from stackctl.errors import HostError


def start_detached(argv: Sequence[str], *, log: str, timeout: float) -> None:
    """Run the program, with an empty environment, cwd / and the log as output, until its first process ends.

    Blocks; call it in a thread. Raises HostError when it fails or takes longer than ``timeout`` seconds.
    """
    with open(log, "ab") as output:
        try:
            done = subprocess.run(
                list(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, start_new_session=True,
                timeout=timeout, check=False,
            )  # fmt: skip
        except OSError as error:
            raise HostError(
                f"starting {argv[0]}: {error.strerror}", errno=error.errno or 0
            ) from error
        except subprocess.TimeoutExpired as error:
            raise HostError(
                f"{argv[0]} was not ready after {timeout:g} s", hint=f"see {log}"
            ) from error
    if done.returncode:
        raise HostError(
            f"{argv[0]} exited {done.returncode}", hint=f"see {log}", exit_code=done.returncode
        )
