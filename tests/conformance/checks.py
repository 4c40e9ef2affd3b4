"""Dockerfiles and what Docker's build checks find in them; recorded by python -m tests.conformance.checks [DOCKER COMMAND...].

The command must reach a Docker Engine 28 with its build plugin on this machine, which has the base image of the cases.
"""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance.cases import BASE

RECORDED = Path(__file__).with_name("checks.json")
B = f"FROM {BASE}\n"
CHECKS: dict[str, str] = {
    "nothing": B + "RUN true\nCMD [\"x\"]\n",
    "stage-casing": f"FROM {BASE} AS One\nFROM {BASE} AS two\n",
    "from-as-casing": f"FROM {BASE} as one\nfrom {BASE} AS two\n",
    "from-as-lower": f"from {BASE} as one\n",
    "continuation-empty": B + "RUN echo a \\\n\n  b\nRUN echo c \\\n# comment\n  d\n",
    "continuation-empty-twice": B + "RUN echo a \\\n\n\n  b\nENV A=1 \\\n\n  B=2\n",
    "casing-upper": B + "run true\nCMD [\"x\"]\n",
    "casing-lower": f"from {BASE}\nrun true\nCMD [\"x\"]\n",
    "casing-mixed": B + "Run true\nENV A=1\n",
    "casing-even": B + "run true\nENV A=1\nenv B=2\n",
    "stage-twice": f"FROM {BASE} AS a\nFROM {BASE} AS b\nFROM {BASE} AS a\n",
    "stage-reserved": f"FROM {BASE} AS scratch\nFROM {BASE} AS context\n",
    "json-cmd": B + "CMD echo x\n",
    "json-entrypoint": B + "ENTRYPOINT echo x\n",
    "json-healthcheck": B + "HEALTHCHECK CMD echo x\n",
    "json-shell-before": B + "SHELL [\"/bin/sh\", \"-c\"]\nCMD echo x\nENTRYPOINT echo y\n",
    "json-shell-after": B + "CMD echo x\nSHELL [\"/bin/sh\", \"-c\"]\n",
    "json-shell-of-parent": f"FROM {BASE} AS a\nSHELL [\"/bin/sh\", \"-c\"]\nFROM a\nCMD echo x\n",
    "maintainer": B + "MAINTAINER x\n",
    "from-argument-declared": f"ARG B={BASE}\nFROM $B\n",
    "from-argument-default-fine": f"ARG T=latest\nFROM {BASE}:$T\n",
    "from-argument-default-modifier": "ARG T\nFROM " + BASE + ":${T:-latest}\n",
    "workdir-relative": B + "WORKDIR w\nWORKDIR x\n",
    "workdir-absolute-first": B + "WORKDIR /w\nWORKDIR x\n",
    "workdir-variable": B + "ENV D=/d\nWORKDIR $D\nWORKDIR x\n",
    "workdir-of-parent": f"FROM {BASE} AS a\nWORKDIR /w\nFROM a\nWORKDIR x\n",
    "undefined": B + "ENV A=$NOTHING\nCOPY $X /x\nLABEL l=$A m=${Y}\n",
    "undefined-modifiers": B + "ENV A=${N:-x} B=${M:+y} C=${O-z} D=${P#a}\n",
    "undefined-required": B + "ARG Q=1\nENV A=${Q:?x}\n",
    "undefined-argument": B + "ARG A\nENV B=$A\nUSER $A\n",
    "undefined-path": B + "ENV A=$PATH:$HOME\n",
    "undefined-run": B + "RUN echo $NOTHING\nCMD [\"$X\"]\nENTRYPOINT [\"$Y\"]\n",
    "undefined-heredoc": B + "COPY <<EOF /x\n$NOTHING\nEOF\nCOPY <<'EOF' /y\n$NOTHING\nEOF\n",
    "undefined-everywhere": B + "WORKDIR /$A\nUSER $B\nEXPOSE $C\nVOLUME /$D\nSTOPSIGNAL ${E:-TERM}\nADD $F /f\nONBUILD ENV G=$H\nARG I=$J\n",
    "undefined-twice": B + "ENV A=$X B=$X\nENV C=$Y D=$X\n",
    "undefined-global": f"ARG G=1\nFROM {BASE}\nENV A=$G\n",
    "undefined-of-parent": f"FROM {BASE} AS a\nARG A=1\nENV E=1\nFROM a\nENV B=$A C=$E\n",
    "undefined-platform": B + "ENV A=$TARGETARCH\nARG TARGETOS\nENV B=$TARGETOS\n",
    "undefined-proxy": B + "ENV A=$HTTP_PROXY\n",
    "undefined-case": B + "ARG foo=1\nENV A=$Foo\n",
    "multiple-cmd": B + "CMD [\"a\"]\nCMD [\"b\"]\nCMD [\"c\"]\n",
    "multiple-entrypoint": B + "ENTRYPOINT [\"a\"]\nRUN true\nENTRYPOINT [\"b\"]\n",
    "multiple-healthcheck": B + "HEALTHCHECK CMD a\nHEALTHCHECK NONE\n",
    "multiple-in-stages": f"FROM {BASE} AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n",
    "old-form": B + "ENV A x\nLABEL l x\nENV B=1\n",
    "platform-target": f"FROM --platform=$TARGETPLATFORM {BASE}\n",
    "platform-target-braces": f"FROM --platform=${{TARGETPLATFORM}} {BASE}\n",
    "platform-constant": f"FROM --platform=linux/amd64 {BASE}\n",
    "platform-constant-stages": f"FROM --platform=linux/amd64 {BASE} AS amd\nFROM --platform=linux/amd64 {BASE} AS build_amd64\nFROM amd\n",
    "secrets": B + "ARG API_KEY PASSWORD=x\nENV MY_TOKEN=1 PUBLIC_KEY=2 KEYBOARD=3 secret=4\n",
    "secrets-more": B + "ENV AUTH=1 CREDENTIALS=2 KEY_FILE=3 PASSWD=4 APIKEY=5 TOKENS=6 PWORD=7 PASSWORD_FILE=8 X_AUTH_Y=9\n",
    "expose-casing": B + "EXPOSE 80/TCP 81/udp 82/Udp\n",
    "expose-format": B + "EXPOSE 8080:80\nEXPOSE 127.0.0.1:80:80\nEXPOSE 80 81-82/tcp\n",
    "ignored-file": B + "COPY ignored /x\n",
    "skip": "# check=skip=StageNameCasing,JSONArgsRecommended\n" + f"FROM {BASE} AS One\nCMD echo x\nMAINTAINER y\n",
    "skip-all": "# check=skip=all\n" + f"FROM {BASE} AS One\nCMD echo x\n",
    "several": f"FROM {BASE} as One\ncmd echo x\nENV A $B\nMAINTAINER y\nEXPOSE 1/TCP\n",
    "unused-stage": f"FROM {BASE} AS One\nCMD echo x\nFROM {BASE}\nCMD [\"x\"]\n",
}  # fmt: skip


def found(docker: list[str], text: str) -> list[list[object]]:
    """Return the rules and lines of what Docker finds, sorted."""
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        Path(home, "Dockerfile").write_text(text)
        Path(home, ".dockerignore").write_text("ignored\n")
        argv = [*docker, "build", "--call=check,format=json", home]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        tree = json.loads(done.stdout or "{}")
        if "buildError" in tree or not done.stdout:
            return [["error", 0]]
        return sorted(
            [item["ruleName"], item["location"]["ranges"][0]["start"]["line"]]
            for item in tree.get("warnings") or ()
        )


def main() -> None:
    docker = sys.argv[1:] or ["docker"]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda text: found(docker, text), CHECKS.values())
        tree = dict(zip(CHECKS, results, strict=True))
    lines = [f" {json.dumps(name)}: {json.dumps(rules)}" for name, rules in sorted(tree.items())]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
