"""The tour: docker commands, what an engine prints for them, and that in a form that two engines share.

Record what Docker says anew (root; an engine of Docker's at HOST, which gets and loses things named tour-…):

    python -m tests.compat.tour unix:///var/run/docker.sock [LIST]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat.dockercli import docker_cli
from tests.conftest import busybox_rootfs
from tests.oddimage import OddImage

HERE = Path(__file__).parent
LISTS = ("tour", "tour-images")
_DOCKERFILE = (
    "FROM tour-box\nARG WORD=x\nENV SAID=$WORD\nWORKDIR /here\nCOPY file .\nRUN echo $WORD >> file\n"
    'CMD ["cat", "file"]\n'
)
_RULES = (
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"/tmp/tour[\w-]+"), "$W"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)"), "TIME"),
    (re.compile(r"(?:file|multi|dir):[0-9a-f]{16,64}…?"), "CONTENT"),
    (re.compile(r"endpoint \w+ \("), "endpoint NAME ("),
    (re.compile(r"\[::1\]:\d{2,}"), "[::1]:PORT"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"Up .*?(?= \(|$|\n)"), "Up TIME"),
    (re.compile(r"Exited \((\d+)\) [\w ]+ ago"), r"Exited (\1) TIME ago"),
    (re.compile(r"[\d.]+ ?(?:k|M|G)?B\b"), "SIZE"),
    # The client's own complaint, now and then, when the engine refuses while it still sends.
    (re.compile(r'time="TIME" level=error msg="Can\'t [^\n]*closed pipe"\n'), ""),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" +\n"), "\n"),
)


def transcript(name: str) -> Path:
    """Return where Docker's answers to a list of commands are."""
    return HERE / "transcripts" / f"docker-28.5{name.removeprefix('tour')}.json"


def commands(name: str) -> list[str]:
    lines = (HERE / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def normal(text: str) -> str:
    for pattern, by in _RULES:
        text = pattern.sub(by, text)
    return text.strip()


def take(name: str, host: str, home: Path) -> list[dict[str, object]]:
    """Run every command of a list on the engine at ``host``; return what each printed, and its exit code."""
    with tempfile.TemporaryDirectory(prefix="tour", dir="/tmp") as work:
        build = Path(work, "build")
        build.mkdir()
        Path(work, "file").write_text("content\n")
        (build / "file").write_text("first\n")
        (build / "Dockerfile").write_text(_DOCKERFILE)
        Path(work, "root.tar").write_bytes(busybox_rootfs())
        Path(work, "odd.tar").write_bytes(OddImage(busybox_rootfs()).docker_archive("tour-odd:1"))
        (build / "Bad").write_text("FROM tour-box\nRUN exit 4\n")
        bin_ = Path(work, "bin")
        bin_.mkdir()
        (bin_ / "docker").symlink_to(docker_cli())
        environ = {
            "PATH": f"{bin_}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(home), "LANG": "C.UTF-8", "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0",
            "DOCKER_CLI_HINTS": "false", "W": work,
        }  # fmt: skip
        subprocess.run(
            ["docker", "import", "-c", 'CMD ["sh"]', "-", "tour-box"],
            env=environ, input=busybox_rootfs(), check=True, capture_output=True,
        )  # fmt: skip
        try:
            return [_one(line, environ) for line in commands(name)]
        finally:
            for words in (
                "ps -aq --filter name=tour- | xargs -r docker rm -fv",
                "volume rm -f tour-v", "network rm -f tour-n",
                "images --format '{{.Repository}}:{{.Tag}}' | grep tour | xargs -r docker rmi -f",
            ):  # fmt: skip
                subprocess.run(
                    ["sh", "-c", f"docker {words}"], env=environ, capture_output=True, check=False
                )


def _one(line: str, environ: dict[str, str]) -> dict[str, object]:
    script = line if line.startswith("echo ") else f"docker {line}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        env=environ, capture_output=True, text=True, errors="replace", timeout=60, check=False,
        stdin=subprocess.DEVNULL, cwd=environ["W"],
    )  # fmt: skip
    return {
        "command": line,
        "code": done.returncode,
        "out": normal(done.stdout),
        "err": normal(done.stderr),
    }


def main() -> None:
    for name in sys.argv[2:] or LISTS:
        with tempfile.TemporaryDirectory() as home:
            found = take(name, sys.argv[1], Path(home))
        file = transcript(name)
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"{len(found)} commands recorded in {file}")


if __name__ == "__main__":
    os.umask(0o022)
    main()
