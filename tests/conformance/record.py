"""Record what Docker's builder makes of every case: python -m tests.conformance.record [DOCKER COMMAND...].

The command (``docker`` when none is given) must reach a Docker Engine 28 or newer on this machine, whose loopback is
this one's: what ADD fetches is served there. The engine needs git.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance.cases import (
    BASE,
    CASES,
    Case,
    described,
    publish,
    with_words,
    write_context,
)
from tests.conftest import busybox_rootfs
from tests.sourceserver import Sources

RECORDED = Path(__file__).with_name("recorded.json")


def made(
    docker: Sequence[str],
    name: str,
    case: Case,
    words: Mapping[str, str],
    environ: dict[str, str] | None = None,
):
    """Build a case and return its description, or {"error": True} when the build fails."""
    tag = f"conformance-{name}"

    def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [*docker, *argv],
            capture_output=True,
            env={**(environ or os.environ), "WORD": "w"},
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{argv}: {done.stdout.decode()}{done.stderr.decode()}")
        return done

    words = {**words, "before": f"{tag}-before"}
    if case.before:
        with tempfile.TemporaryDirectory(dir="/tmp") as home:
            write_context(case, Path(home), words, before=True)
            run("build", "--no-cache", "-q", "-t", words["before"], home)
    with contextlib.ExitStack() as held:
        home = held.enter_context(tempfile.TemporaryDirectory(dir="/tmp"))
        if case.before:
            held.callback(run, "rmi", words["before"])
        write_context(case, Path(home), words)
        words = {**words, "context": home}
        options = [with_words(option, words) for option in case.options]
        place = with_words(case.context, words) or home
        built = run("build", "--no-cache", "-q", "-t", tag, *options, place, check=False)
        if built.returncode:
            said = (built.stdout + built.stderr).decode().strip().splitlines()
            last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
            for word, value in words.items():
                last = last.replace(value, f"{{{word}}}")
            last = re.sub(r"/\S+(?=/overlay2/)", "/var/lib/docker", last)
            return {"error": True, "said": last[-300:]}
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
    # CASES="one two" records these alone and keeps the others.
    names = os.environ.get("CASES", "").split() or list(CASES)
    kept = json.loads(RECORDED.read_text())["cases"] if "CASES" in os.environ else {}
    cases = {name: kept[name] for name in CASES if name in kept}
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as home,
        Sources(Path(home)).serving() as sources,
        ThreadPoolExecutor(4) as pool,
    ):
        words = publish(sources)
        found = pool.map(lambda name: made(docker, name, CASES[name], words), names)
        for name, made_of_it in zip(names, found, strict=True):
            cases[name] = made_of_it
            sys.stdout.write(f"{name}: {made_of_it.get('said', 'ok')}\n")
            sys.stdout.flush()
            # After each, so that a recording that is broken off is not lost.
            tree = {"docker": version, "cases": cases}
            RECORDED.write_text(json.dumps(tree, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
