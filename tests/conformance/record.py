"""Record what Docker's builder makes of every case: python -m tests.conformance.record [DOCKER COMMAND...].

The command (``docker`` when none is given) must reach a Docker Engine 28 or newer on this machine.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance.cases import BASE, CASES, Case, described, write_context
from tests.conftest import busybox_rootfs

RECORDED = Path(__file__).with_name("recorded.json")


def made(docker: Sequence[str], name: str, case: Case, environ: dict[str, str] | None = None):
    """Build a case and return its description, or {"error": True} when the build fails."""
    tag = f"conformance-{name}"

    def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([*docker, *argv], capture_output=True, env=environ, check=False)
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.stdout.decode()}{done.stderr.decode()}")
        return done

    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        write_context(case, Path(home))
        built = run("build", "--no-cache", "-q", "-t", tag, *case.options, home, check=False)
        if built.returncode:
            return {"error": True, "said": (built.stdout + built.stderr).decode()[-600:]}
        container = run("create", tag, "/nothing").stdout.decode().strip()
        try:
            return described(
                run("export", container).stdout, run("image", "inspect", tag).stdout.decode()
            )
        finally:
            run("rm", container)
            run("rmi", tag)


def main() -> None:
    docker = sys.argv[1:] or ["docker"]
    subprocess.run([*docker, "import", "-", BASE], input=busybox_rootfs(), check=True)
    version = subprocess.run(
        [*docker, "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    cases = {}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda name: made(docker, name, CASES[name]), CASES)
        for name, made_of_it in zip(CASES, found, strict=True):
            cases[name] = made_of_it
            sys.stdout.write(f"{name}: {made_of_it.get('said', 'ok')}\n")
            sys.stdout.flush()
            # After each, so that a recording that is broken off is not lost.
            tree = {"docker": version, "cases": cases}
            RECORDED.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
