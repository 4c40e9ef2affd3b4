"""The table: every instruction and flag of Dockerfiles, a case each; and how what a build made is described."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from tests.sourceserver import Sources, context_tar

BASE = "conformance-base"
# What Docker's export adds for its own mounts, and what differs on every run.
_MADE_BY_ENGINE = (
    ".dockerenv",
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/mtab",
    "proc",
    "sys",
)
TIME = 1_600_000_000
_CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "Volumes", "WorkingDir", "Labels",
    "OnBuild", "StopSignal", "Shell",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One build: its Dockerfile, the options of ``docker build`` beside the context, files beside the usual ones.

    With ``context`` that is built, a URL, instead of the directory with the files. ``before`` is the Dockerfile of an
    image that is there then, "{before}" its name.
    """

    dockerfile: str = ""
    options: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    context: str = ""
    before: str = ""


def _tar(kind: str = "gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in (("packed/one", b"1"), ("packed/two", b"22")):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(data), 0o640, 7, 8, 1_000_000
            archive.addfile(info, io.BytesIO(data))
    if kind == "gz":
        # Without a time in its header, so that it is the same on every run.
        return gzip.compress(out.getvalue(), mtime=0)
    squeeze = {"bz2": bz2.compress, "xz": lzma.compress}
    return squeeze[kind](out.getvalue())


def _links_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in (
            ("f", tarfile.REGTYPE, ""),
            ("hard", tarfile.LNKTYPE, "f"),
            ("soft", tarfile.SYMTYPE, "/etc/passwd"),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("é" * 60, tarfile.DIRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, 0o755
            archive.addfile(info)
    return out.getvalue()


def _zstd() -> bytes:
    return zstandard.compress(gzip.decompress(_tar()))


def _case(text: str, *options: str, before: str = "", **files: bytes) -> Case:
    return Case(dockerfile=text, options=options, files=files, before=before)


B = f"FROM {BASE}\n"
CASES: dict[str, Case] = {
    "from-scratch": _case("FROM scratch\nCOPY a.txt /a\n"),
    "from-as-and-target": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM one AS two\nRUN echo 2 > /2\n", "--target", "one"),
    "from-stage": _case(f"FROM {BASE} AS one\nENV A=b\nRUN echo 1 > /1\nFROM one\nRUN echo $A > /2\n"),
    "from-platform": _case(f"FROM --platform=linux/amd64 {BASE}\nRUN echo x > /x\n"),
    "arg-before-from": _case(f"ARG B={BASE}\nFROM $B\nARG B\nRUN echo \"[$B]\" > /b\n"),
    "arg-default": _case(B + "ARG A=one\nRUN echo $A > /a\n"),
    "arg-given": _case(B + "ARG A=one\nRUN echo $A > /a\n", "--build-arg", "A=two"),
    "arg-scope": _case(B + "ARG A=one\nFROM " + BASE + "\nRUN echo \"[$A]\" > /a\n"),
    "arg-and-env": _case(B + "ARG A=one\nENV A=two\nRUN echo $A > /a\n", "--build-arg", "A=three"),
    "env-forms": _case(B + "ENV A=1 B=\"two words\" C=esc\\ aped\nENV D old form\nRUN env | grep -E '^[A-D]=' | sort > /e\n"),
    "env-same-line": _case(B + "ENV A=1\nENV A=2 B=$A\n"),
    "expansion": _case(B + "ENV A=x\nENV B=${A:-d} C=${N:-d} D=${A:+s} E=${N:+s} F=\\$A G='$A' H=\"$A\" I=${N-d} J=${A+s}\n"),
    "expansion-patterns": _case(B + "ENV A=foobar.tar.gz\nENV B=${A#foo} C=${A%.gz} D=${A%%.*} E=${A/o/0} F=${A//o/0}\n"),
    "label": _case(B + "LABEL a=1 b=\"two words\"\nLABEL \"c d\"=e multi=\"a\\\nb\"\n"),
    "label-option": _case(B + "LABEL a=1\n", "--label", "z=9", "--label", "a=2"),
    "maintainer": _case(B + "MAINTAINER Somebody <s@example.com>\n"),
    "expose": _case(B + "EXPOSE 80 443/tcp 53/udp\nEXPOSE 8000-8002\n"),
    "volume": _case(B + "VOLUME /data /more\nVOLUME [\"/json\"]\n"),
    "user": _case(B + "USER 1000:1000\nRUN id -u > /tmp/u\nUSER user\nRUN id -un > /tmp/n\n"),
    "workdir": _case(B + "WORKDIR /one\nWORKDIR two\nENV D=three\nWORKDIR $D\nRUN pwd > p\n"),
    "workdir-user": _case(B + "USER 1000\nWORKDIR /home/w\n"),
    "cmd-forms": _case(B + "CMD echo shell\nCMD [\"echo\", \"exec\"]\n"),
    "cmd-shell": _case(B + "CMD echo $HOME && true\n"),
    "entrypoint": _case(B + "CMD [\"x\"]\nENTRYPOINT [\"/bin/echo\", \"a\"]\n"),
    "entrypoint-then-cmd": _case(B + "ENTRYPOINT [\"/bin/echo\"]\nCMD [\"x\"]\n"),
    "entrypoint-shell": _case(B + "ENTRYPOINT exec top -b\n"),
    "shell": _case(B + "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo x > /x\nCMD echo y\n"),
    "stopsignal": _case(B + "STOPSIGNAL SIGQUIT\n"),
    "healthcheck": _case(B + "HEALTHCHECK --interval=5s --timeout=3s --start-period=1s --retries=2 CMD test -e /x\n"),
    "healthcheck-exec": _case(B + "HEALTHCHECK --start-interval=2s CMD [\"true\"]\n"),
    "healthcheck-none": _case(B + "HEALTHCHECK CMD true\nHEALTHCHECK NONE\n"),
    "onbuild": _case(B + "ONBUILD RUN echo x > /x\nONBUILD COPY a.txt /a\n"),
    "run-exec": _case(B + "RUN [\"/bin/sh\", \"-c\", \"echo $0 > /x\", \"zero\"]\n"),
    "run-heredoc": _case(B + "RUN <<EOF\necho one > /1\necho two > /2\nEOF\n"),
    "run-heredoc-interpreter": _case(B + "RUN <<EOF\n#!/bin/sh -e\necho $0 | wc -c > /n\nEOF\n"),
    "run-heredoc-quoted": _case(B + "RUN cat > /f <<'EOF'\n$HOME\nEOF\n"),
    "run-heredoc-dash": _case(B + "RUN cat > /f <<-EOF\n\tindented\n\tEOF\n"),
    "run-network-none": _case(B + "RUN --network=none ls /sys/class/net > /n\n"),
    "run-mount-bind": _case(B + "RUN --mount=type=bind,target=/ctx cat /ctx/a.txt > /a\n"),
    "run-mount-bind-from": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM {BASE}\nRUN --mount=type=bind,from=one,source=/1,target=/in cat /in > /out\n"),
    "run-mount-bind-rw": _case(B + "RUN --mount=type=bind,target=/ctx,rw echo x > /ctx/new && ls /ctx/new > /l\n"),
    "run-mount-tmpfs": _case(B + "RUN --mount=type=tmpfs,target=/t,size=1m echo x > /t/x && cp /t/x /x\n"),
    "run-mount-cache": _case(B + "RUN --mount=type=cache,target=/c,id=conformance,mode=0750,uid=3,gid=4 stat -c '%a %u %g' /c > /s\n"),
    "run-whiteouts": _case(B + "RUN mkdir /d && echo 1 > /d/1 && echo 2 > /2\nRUN rm -r /d /2 && mkdir /d && echo 3 > /d/3\n"),
    "run-modes": _case(B + "RUN echo x > /x && chmod 4755 /x && ln -s x /l && ln /x /h && mkdir -m 1777 /t && chown 5:6 /t && mkfifo /p\n"),
    "copy-file": _case(B + "COPY a.txt /new/deep/a\n"),
    "copy-into-directory": _case(B + "COPY a.txt sub/b.txt /into/\n"),
    "copy-directory": _case(B + "COPY sub /s\n"),
    "copy-directory-onto": _case(B + "RUN mkdir -m 700 /s && echo old > /s/old\nCOPY sub /s\n"),
    "copy-everything": _case(B + "COPY . /ctx/\n"),
    "copy-wildcards": _case(B + "COPY *.txt sub/?.txt /w/\n"),
    "copy-relative": _case(B + "WORKDIR /w\nCOPY a.txt ./x/\nCOPY a.txt .\n"),
    "copy-json": _case(B + "COPY [\"a.txt\", \"with space\", \"/j/\"]\n", **{"with space": b"s"}),
    "copy-links": _case(B + "COPY links /l\n"),
    "copy-chown": _case(B + "COPY --chown=user:extra a.txt /a\nCOPY --chown=7 sub /s\nCOPY --chown=7:8 a.txt /d/e/\n"),
    "copy-chmod": _case(B + "COPY --chmod=0751 a.txt /a\nCOPY --chmod=700 sub /s\n"),
    "copy-from": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1 && chown 3:4 /d/1 && chmod 600 /d/1\nFROM {BASE}\nCOPY --from=one /d /e\nCOPY --from=0 /d/1 /f\n"),
    "copy-from-image": _case(f"FROM scratch\nCOPY --from={BASE} /etc/passwd /p\n"),
    "copy-link": _case(B + "COPY --link a.txt /link/a\n"),
    "copy-exclude": _case(B + "COPY --exclude=*.txt --exclude=deep sub /x/\n"),
    "copy-heredoc": _case(B + "ENV A=1\nCOPY <<EOF /h\nvalue $A\nEOF\nCOPY <<'EOF' /q\nvalue $A\nEOF\n"),
    "copy-variables": _case(B + "ENV F=a.txt D=/v\nCOPY $F ${D}/\n"),
    "add-file": _case(B + "ADD a.txt /added/\n"),
    "add-tar": _case(B + "ADD packed.tar.gz /t/\n"),
    "add-tar-chown": _case(B + "ADD --chown=9:9 packed.tar.gz /t\n"),
    "add-tar-unpack-false": _case(B + "ADD --unpack=false packed.tar.gz /t/\n"),
    "add-url": _case(B + "ADD {sources}/plain.txt /d/\nADD --chmod=640 --chown=5:6 {sources}/plain.txt /named\n"),
    "add-url-checksum": _case(B + "ADD --checksum=sha256:dacf36547c7774a0a170806363b5d412991fbc0d6260b2c00b1d3a80a816c23f {sources}/plain.txt /p\n"),
    "add-url-archive": _case(B + "ADD {sources}/packed.tar.gz /kept/\nADD --unpack=true {sources}/packed.tar.gz /t/\n"),
    "add-git": _case(B + "ADD {sources}/project.git /r\n"),
    "add-git-into": _case(B + "ADD {sources}/project.git a.txt /r/\n"),
    "add-git-tag": _case(B + "ADD {sources}/project.git#v1 /r\n"),
    "add-git-branch-directory": _case(B + "ADD --chown=3:4 {sources}/project.git#topic:sub /r\n"),
    "add-git-commit": _case(B + "ADD {sources}/project.git#{commit} /r\n"),
    "add-git-checksum": _case(B + "ADD --checksum={commit} {sources}/project.git#v1 /r\n"),
    "add-git-checksum-wrong": _case(B + "ADD --checksum=0123456789012345678901234567890123456789 {sources}/project.git#v1 /r\n"),
    "add-git-keep": _case(B + "ADD --keep-git-dir=true {sources}/project.git#v1 /r\nRUN test -d /r/.git/objects && cp /r/.git/HEAD /head && rm -r /r/.git\n"),
    "add-git-keep-directory": _case(B + "ADD --keep-git-dir=true {sources}/project.git#main:sub /r\n"),
    "add-git-no-such-ref": _case(B + "ADD {sources}/project.git#nothing /r\n"),
    "add-git-no-such-directory": _case(B + "ADD {sources}/project.git#main:nothing /r\n"),
    "add-git-query": _case(B + "ADD {sources}/project.git?branch=topic&subdir=sub /r\n"),
    "add-git-exclude": _case(B + "ADD --exclude=sub/*.sh {sources}/project.git /r\n"),
    "add-git-chmod": _case(B + "ADD --chmod=700 {sources}/project.git /r\n"),
    "dockerignore": _case(B + "COPY . /c/\n", **{".dockerignore": b"# comment\n*.txt\n!a.txt\nsub/**/c*\n\n/links\n"}),
    "dockerignore-own": Case(
        dockerfile=B + "COPY . /c/\n",
        files={"Dockerfile.dockerignore": b"sub\nlinks\n"},
    ),
    "escape-directive": _case("# escape=`\n" + B + "RUN echo a `\n  b > /x\nCOPY a.txt /c/\n"),
    "syntax-directive": _case("#check=skip=all\n" + B + "RUN echo a \\\n# a comment in between\n\n  b > /x\n"),
    "case-of-words": _case(f"from {BASE} as One\nrun echo 1 > /1\nFROM one\ncopy a.txt /a\n"),
    "predefined-args": _case(B + "ARG TARGETARCH\nARG TARGETOS\nARG BUILDPLATFORM\nRUN echo $TARGETOS/$TARGETARCH $BUILDPLATFORM > /p\n"),
    "proxy-args": _case(B + "RUN echo $HTTP_PROXY > /p\n", "--build-arg", "HTTP_PROXY=http://p.invalid"),
    "no-newline-at-end": _case(B + "RUN echo x > /x"),
    "arg-given-before-from": _case(f"ARG V=nothing\nFROM {BASE}\nARG V\nARG W=$V-x X\nRUN echo \"$V $W [$X]\" > /a\n", "--build-arg", "V=given"),
    "arg-several": _case(B + "ARG A=1 B=${A}2 C\nRUN echo $A $B [$C] > /a\n", "--build-arg", "C=3"),
    "arg-in-platform": _case(f"ARG P=linux/amd64\nFROM --platform=$P {BASE}\nARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM > /p\n"),
    "arg-env-expansion": _case(B + "ARG A=1\nENV B=${A:-2} C=${D:-$A}\nRUN echo $B $C > /e\n"),
    "expansion-required": _case(B + "ENV A=${N:?is missing}\n"),
    "expansion-unset-required": _case(B + "ARG N\nENV A=x${N?is missing}\n"),
    "expansion-quotes": _case(B + "ENV A=\"a'b\" B='c\"d' C=e\\\"f D=\"g\\$h\" E='i\\j' F=\"k\\l\"\nRUN printf '%s|' \"$A\" \"$B\" \"$C\" \"$D\" \"$E\" \"$F\" > /e\n"),
    "env-unset-looks-empty": _case(B + "ENV A=$NOTHING B=x${NOTHING}y\n"),
    "env-with-equals": _case(B + "ENV A=b=c D=\"e = f\" G=\n"),
    "label-expansion": _case(B + "ENV A=b\nLABEL x=$A y='$A' z=\"${A}c\" \"w v\"=\\$A\n"),
    "expose-variables": _case(B + "ENV P=81\nEXPOSE $P ${P}/udp 90-91/sctp\n"),
    "user-group-variable": _case(B + "ENV U=user G=extra\nUSER $U:$G\nRUN id -un > /tmp/u && id -gn > /tmp/g\n"),
    "user-unknown": _case(B + "USER nobodyknows\nRUN true\n"),
    "user-numeric-group": _case(B + "USER 12:34\nRUN id -u > /tmp/u && id -g > /tmp/g\n"),
    "workdir-through-link": _case(B + "RUN mkdir /real && ln -s /real /link\nWORKDIR /link/sub\nRUN touch here\n"),
    "workdir-on-file": _case(B + "RUN touch /f\nWORKDIR /f/g\n"),
    "volume-then-write": _case(B + "VOLUME /data\nRUN echo x > /data/x; echo y > /y\n"),
    "cmd-empty": _case(B + "CMD [\"x\"]\nCMD []\n"),
    "entrypoint-empty": _case(B + "ENTRYPOINT [\"x\"]\nENTRYPOINT []\n"),
    "stopsignal-number": _case(B + "STOPSIGNAL 9\n"),
    "stopsignal-wrong": _case(B + "STOPSIGNAL HELLO\n"),
    "healthcheck-inherited": _case(f"FROM {BASE} AS a\nHEALTHCHECK --retries=7 CMD x\nFROM a\nENV A=b\n"),
    "healthcheck-no-command": _case(B + "HEALTHCHECK CMD\n"),
    "onbuild-of-a-stage": _case(f"FROM {BASE} AS one\nONBUILD RUN echo x > /x\nFROM one\nRUN echo y > /y\n"),
    "onbuild-not-allowed": _case(B + "ONBUILD FROM x\n"),
    "shell-for-heredoc": _case(B + "SHELL [\"/bin/sh\", \"-ec\"]\nRUN <<EOF\nfalse\necho never > /n\nEOF\n"),
    "run-heredoc-several": _case(B + "RUN cat <<A > /a && cat <<B > /b\none\nA\ntwo\nB\n"),
    "run-heredoc-variables": _case(B + "ENV V=v\nRUN <<EOF\necho $V \"$(echo sub)\" > /x\nEOF\n"),
    "run-heredoc-descriptor": _case(B + "RUN cat 3<<EOF <&3 > /x\nthree\nEOF\n"),
    "run-fails": _case(B + "RUN exit 7\n"),
    "run-missing-program": _case(B + "RUN [\"/not/there\"]\n"),
    "run-continued": _case(B + "RUN echo a \\\n  # comment\n  \\\n  b > /x && \\\n  echo c >> /x\n"),
    "run-json-that-is-none": _case(B + "RUN ['echo', 'x'] || echo shell > /x\n"),
    "run-security-not-allowed": _case(B + "RUN --security=insecure true\n"),
    "run-network-unknown": _case(B + "RUN --network=other true\n"),
    "run-mount-bind-file": _case(B + "RUN --mount=source=a.txt,target=/in/a cat /in/a > /a && ls -d /in > /l\n"),
    "run-mount-bind-image": _case(B + f"RUN --mount=from={BASE},target=/img cat /img/etc/passwd > /p\n"),
    "run-mount-bind-missing": _case(B + "RUN --mount=source=missing,target=/in true\n"),
    "run-mount-variables": _case(B + "ARG T=/mnt S=a.txt\nRUN --mount=source=${S},target=${T}/f cat /mnt/f > /a\n"),
    "run-mount-relative": _case(B + "WORKDIR /w\nRUN --mount=type=tmpfs,target=t echo x > t/x && pwd > /p\n"),
    "run-mount-cache-from": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1\nFROM {BASE}\nRUN --mount=type=cache,target=/c,from=one,source=/d,id=from cat /c/1 > /x\n"),
    "run-mount-cache-read-only": _case(B + "RUN --mount=type=cache,target=/c,ro,id=ro touch /c/x || echo refused > /x\n"),
    "run-mount-cache-locked": _case(B + "RUN --mount=type=cache,target=/c,sharing=locked,id=lock ls /c > /x\n"),
    "run-mount-secret-missing": _case(B + "RUN --mount=type=secret,id=s ls /run/secrets > /x || true\n"),
    "run-mount-secret-required": _case(B + "RUN --mount=type=secret,id=s,required=true true\n"),
    "run-mount-unknown": _case(B + "RUN --mount=type=other,target=/x true\n"),
    "copy-onto-link-to-directory": _case(B + "RUN mkdir /real && ln -s /real /link\nCOPY a.txt /link/\nCOPY sub /link/s\n"),
    "copy-onto-link-to-file": _case(B + "RUN echo old > /real && ln -s /real /link\nCOPY a.txt /link\n"),
    "copy-directory-as-name": _case(B + "COPY sub/deep /a/b/c\n"),
    "copy-directory-onto-file": _case(B + "RUN touch /f\nCOPY sub /f\n"),
    "copy-file-onto-directory": _case(B + "RUN mkdir /d\nCOPY a.txt /d\n"),
    "copy-two-without-slash": _case(B + "COPY a.txt sub/b.txt /d\n"),
    "copy-missing": _case(B + "COPY missing /m\n"),
    "copy-nothing-matches": _case(B + "COPY missing* /m/\n"),
    "copy-out-of-context": _case(B + "COPY ../../etc/passwd /p\n"),
    "copy-two-directories": _case(B + "COPY sub links /d/\n"),
    "copy-wildcard-directories": _case(B + "COPY s*b l* /d/\n"),
    "copy-a-link": _case(B + "COPY links/to /l\nCOPY links/away /d/\n"),
    "copy-escaped-wildcard": _case(B + "COPY br[[]x].txt /b\n", **{"br[x].txt": b"x"}),
    "copy-modes": _case(B + "COPY sub /s\nCOPY --chmod=u=rwX,go=rX sub /t\n"),
    "copy-chmod-variable": _case(B + "ARG M=750\nCOPY --chmod=$M a.txt /a\n"),
    "copy-chmod-wrong": _case(B + "COPY --chmod=99 a.txt /a\n"),
    "copy-chown-variable": _case(B + "ARG O=user\nCOPY --chown=$O:extra a.txt /a\n"),
    "copy-chown-unknown": _case(B + "COPY --chown=who a.txt /a\n"),
    "copy-exclude-deep": _case(B + "COPY --exclude=**/c.txt --exclude=run.sh sub /x/\n"),
    "copy-exclude-from": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1 && echo 2 > /d/2\nFROM {BASE}\nCOPY --from=one --exclude=2 /d /e\n"),
    "copy-link-directory": _case(B + "RUN mkdir -m 700 /l\nCOPY --link --chown=7:8 sub /l/\n"),
    "copy-hard-links": _case(B + "COPY hard /h\n"),
    "copy-everything-changed": _case(B + "COPY --chmod=700 --chown=3:4 . /ctx/\nCOPY --chmod=700 . /new\n"),
    "copy-two-onto-one": _case(B + "COPY sub a.txt /d\n"),
    "copy-wildcard-and-file": _case(B + "COPY missing* a.txt /m/\n"),
    "copy-onto-dangling-link": _case(B + "RUN ln -s /real /link\nCOPY a.txt /link\n"),
    "copy-chown-from-scratch": _case("FROM scratch\nCOPY --chown=user a.txt /a\n"),
    "check-argument": _case("FROM " + BASE + " AS One\nRUN true\n", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true"),
    "check-several": _case("# check=error=true\n" + B + "LABEL a=1\nWORKDIR /w\nENTRYPOINT [\"x\"]\nEXPOSE 80\n"),
    "copy-from-missing-stage": _case(B + "COPY --from=7 /x /y\n"),
    "copy-from-variable-path": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1\nFROM {BASE}\nENV D=/d\nCOPY --from=one $D/1 /e\n"),
    "copy-from-wildcard": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1x && echo 2 > /d/2x\nFROM {BASE}\nCOPY --from=one /d/*x /e/\n"),
    "copy-from-links": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1 && ln -s 1 /d/l && ln /d/1 /d/h && ln -s /d /dl\nFROM {BASE}\nCOPY --from=one /d /e\nCOPY --from=one /dl/l /f\n"),
    "copy-heredoc-several": _case(B + "COPY <<one <<\"two\" /d/\n1 $PATH\none\n2 $PATH\ntwo\n"),
    "copy-heredoc-mode": _case(B + "COPY --chmod=755 --chown=user <<EOF /s\n#!/bin/sh\nEOF\n"),
    "copy-heredoc-and-file": _case(B + "COPY a.txt <<EOF /d/\nx\nEOF\n"),
    "add-heredoc": _case(B + "ADD <<EOF /d/\nx\nEOF\n"),
    "add-tar-plain-bz2-xz": _case(B + "ADD p.tar.bz2 p.tar.xz /t/\n", **{"p.tar.bz2": _tar("bz2"), "p.tar.xz": _tar("xz")}),
    "add-tar-zstd": _case(B + "ADD p.tar.zst /t/\n", **{"p.tar.zst": _zstd()}),
    "add-not-a-tar": _case(B + "ADD n.tar.gz /t/\n", **{"n.tar.gz": b"no archive"}),
    "add-gzip-no-tar": _case(B + "ADD n.gz /t/\n", **{"n.gz": gzip.compress(b"text", mtime=0)}),
    "add-tar-onto": _case(B + "RUN mkdir -p /t/packed && echo old > /t/packed/one && echo k > /t/packed/kept\nADD packed.tar.gz /t\n"),
    "add-directory": _case(B + "ADD sub /s\n"),
    "add-link": _case(B + "ADD --link a.txt /l/\n"),
    "from-unknown": _case("FROM conformance-not-there\n"),
    "from-nothing": _case("RUN true\n"),
    "from-stage-number": _case(f"FROM {BASE}\nRUN echo 1 > /1\nFROM {BASE}\nCOPY --from=0 /1 /2\n"),
    "from-scratch-again": _case("FROM scratch AS a\nCOPY a.txt /a\nFROM scratch\nCOPY --from=a / /\n"),
    "target-by-number": _case(f"FROM {BASE}\nRUN echo 1 > /1\nFROM {BASE}\nRUN echo 2 > /2\n", "--target", "0"),
    "target-unknown": _case(B + "RUN true\n", "--target", "nothing"),
    "unneeded-stage-fails": _case(f"FROM {BASE} AS bad\nRUN false\nFROM {BASE}\nRUN echo x > /x\n"),
    "unknown-instruction": _case(B + "FOO bar\n"),
    "unknown-flag": _case(B + "COPY --wrong a.txt /a\n"),
    "empty-file": _case("# nothing\n"),
    "crlf": _case(B.replace("\n", "\r\n") + "RUN echo a \\\r\n  b > /x\r\nENV A=b\r\n"),
    "bom": _case("\ufeff" + B + "RUN echo x > /x\n"),
    "check-directive": _case("# check=skip=JSONArgsRecommended;error=true\n" + B + "CMD echo x\n"),
    "check-directive-error": _case("# check=error=true\n" + B + "CMD echo x\n"),
    "dockerignore-patterns": _case(B + "COPY . /c/\n", **{".dockerignore": b"**/deep\n!sub/deep/c.txt\n*.tar.?z\n[l-m]inks/to\n"}),
    "dockerignore-everything-but": _case(B + "COPY . /c/\n", **{".dockerignore": b"*\n!sub\nsub/b.txt\n"}),
    "dockerignore-named": _case(B + "COPY a.txt /a\n", **{".dockerignore": b"a.txt\n"}),
    "dockerignore-dockerfile": _case(B + "COPY . /c/\n", **{".dockerignore": b"Dockerfile\n.dockerignore\n"}),
    "build-label-and-epoch": _case(B + "RUN echo x > /x\n", "--build-arg", "SOURCE_DATE_EPOCH=1000", "--label", "a=b"),
    "build-network-none": _case(B + "RUN ls /sys/class/net > /n\n", "--network", "none"),
    "build-add-host": _case(B + "RUN grep -c somewhere /etc/hosts > /n\n", "--add-host", "somewhere:10.1.2.3"),
    "build-shm-size": _case(B + "RUN df -k /dev/shm | tail -1 | awk '{print $2}' > /n\n", "--shm-size", "32m"),
    "build-ulimit": _case(B + "RUN ulimit -n > /n\n", "--ulimit", "nofile=123:456"),
    "build-platform": _case(B + "ARG TARGETPLATFORM\nRUN echo $TARGETPLATFORM > /p\n", "--platform", "linux/amd64"),
    "build-dockerfile-elsewhere": _case(B + "RUN false\n", "-f", "{context}/other/Containerfile", **{"other/Containerfile": (B + "COPY a.txt /a\n").encode()}),
    "target-stage-arg": _case(f"FROM {BASE} AS one\nARG TARGETSTAGE\nRUN echo $TARGETSTAGE > /s\nFROM one\n", "--target", "one"),
    # Corners, instruction by instruction.
    "from-platform-scratch": _case("FROM --platform=linux/arm64 scratch\nCOPY a.txt /a\n"),
    "from-default": _case(f"FROM ${{NOTHING:-{BASE}}}\nRUN echo x > /x\n"),
    "from-unset": _case("FROM $NOTHING\nRUN true\n"),
    "from-name-wrong": _case(f"FROM {BASE} AS 1a\nRUN true\n"),
    "from-two-words": _case(f"FROM {BASE} one\nRUN true\n"),
    "from-unknown-flag": _case(f"FROM --wrong=x {BASE}\nRUN true\n"),
    "from-platform-wrong": _case(f"FROM --platform=no/such/thing/x {BASE}\nRUN true\n"),
    "from-same-name-twice": _case(f"FROM {BASE} AS a\nRUN echo 1 > /1\nFROM {BASE} AS a\nRUN echo 2 > /2\nFROM a\nRUN echo 3 > /3\n"),
    "from-name-of-image": _case(f"FROM {BASE} AS {BASE}\nRUN echo 1 > /1\nFROM {BASE}\nRUN echo 2 > /2\n"),
    "from-scratch-run": _case("FROM scratch\nRUN true\n"),
    "from-build-platform": _case(f"FROM --platform=$BUILDPLATFORM {BASE} AS b\nARG TARGETARCH BUILDARCH\nRUN echo $BUILDARCH to $TARGETARCH > /x\nFROM scratch\nCOPY --from=b /x /x\n", "--platform", "linux/arm64"),
    "from-arg-after": _case(f"FROM {BASE} AS a\nARG X={BASE}\nFROM $X\nRUN true\n"),
    "from-later-stage": _case(f"FROM {BASE}\nCOPY --from=late /x /y\nFROM {BASE} AS late\nRUN echo x > /x\n", "--target", "0"),
    "from-cycle": _case(f"FROM {BASE} AS a\nCOPY --from=a /x /y\n"),
    "arg-inherited": _case(f"FROM {BASE} AS a\nARG A=1 B\nFROM a\nRUN echo \"$A [$B]\" > /x\n", "--build-arg", "B=2"),
    "arg-again": _case(B + "ARG A=1\nRUN echo $A > /1\nARG A=2\nRUN echo $A > /2\nARG A\nRUN echo \"[$A]\" > /3\n"),
    "arg-quotes": _case(B + "ARG A=\"x  y\" B='$A' C=\\\"\nRUN printf '%s|' \"$A\" \"$B\" \"$C\" > /x\n"),
    "arg-under-env": _case(B + "ENV A=env\nARG A=arg\nRUN echo $A > /x\nENV B=$A\n"),
    "arg-name-wrong": _case(B + "ARG =x\n"),
    "arg-empty-given": _case(B + "ARG A=default\nRUN echo \"[$A]\" > /x\n", "--build-arg", "A="),
    "arg-from-client": _case(B + "ARG A=default\nRUN echo \"[$A]\" > /x\n", "--build-arg", "A"),
    "arg-global-hidden": _case(f"ARG A=1\nFROM {BASE}\nRUN echo \"[$A]\" > /x\nARG A\nRUN echo \"[$A]\" > /y\n"),
    "arg-global-overridden": _case(f"ARG A=1\nFROM {BASE}\nARG A=2\nRUN echo \"[$A]\" > /x\n"),
    "arg-predefined-all": _case(B + "ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM BUILDOS BUILDARCH BUILDVARIANT\nRUN env | grep -E '^(TARGET|BUILD)' | sort > /x\n"),
    "arg-predefined-hidden": _case(B + "RUN env | grep -cE '^(TARGET|BUILD)' > /x; true\n"),
    "arg-predefined-given": _case(B + "ARG TARGETARCH\nRUN echo $TARGETARCH > /x\n", "--build-arg", "TARGETARCH=mine"),
    "arg-predefined-default": _case(B + "ARG TARGETARCH=mine\nRUN echo $TARGETARCH > /x\n"),
    "arg-proxy-declared": _case(B + "ARG HTTP_PROXY\nRUN env | grep -i proxy | sort > /x\nENV P=$HTTP_PROXY\n", "--build-arg", "HTTP_PROXY=http://p.invalid"),
    "arg-proxy-lower": _case(B + "RUN env | grep -i proxy | sort > /x\n", "--build-arg", "no_proxy=x", "--build-arg", "ALL_PROXY=y", "--build-arg", "ftp_proxy=z"),
    "arg-hostname": _case(B + "RUN hostname > /x\n", "--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=box"),
    "arg-hostname-default": _case(B + "RUN hostname > /x\n"),
    "arg-epoch": _case(B + "ARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /x\n", "--build-arg", "SOURCE_DATE_EPOCH=1000"),
    "run-environment": _case(B + "ENV E=1\nARG A=2\nRUN env | grep -v -E '^(_|SHLVL)=' | sort > /x\n"),
    "run-environment-user": _case(B + "USER user\nRUN env | grep -v -E '^(_|SHLVL)=' | sort > /tmp/x; pwd >> /tmp/x\n"),
    "run-exec-environment": _case(B + "RUN [\"sh\", \"-c\", \"env | grep -v -E '^(_|SHLVL)=' | sort > /x\"]\n"),
    "run-exec-no-expansion": _case(B + "ENV A=1\nRUN [\"/bin/busybox\", \"touch\", \"/$A\"]\n"),
    "run-arg-not-stored": _case(B + "ARG A=1\nRUN echo $A > /x\nCMD echo $A\n"),
    "run-path-lookup": _case(B + "ENV PATH=/own:$PATH\nRUN mkdir /own && printf '#!/bin/sh\\necho own > /x\\n' > /own/prog && chmod +x /own/prog\nRUN [\"prog\"]\n"),
    "run-empty": _case(B + "RUN\n"),
    "run-empty-json": _case(B + "RUN []\n"),
    "run-heredoc-options": _case(B + "RUN <<EOF sh -e\necho one > /1\nfalse\necho two > /2\nEOF\n"),
    "run-heredoc-two-documents": _case(B + "RUN <<A <<B\necho 1 > /1\nA\necho 2 > /2\nB\n"),
    "run-heredoc-quoted-word": _case(B + "RUN <<\"E-O-F\"\necho $HOME > /1\nE-O-F\n"),
    "run-heredoc-dash-quoted": _case(B + "RUN <<-'EOF'\n\techo \"$(echo a)\" > /1\n\t\techo b > /2\n\tEOF\n"),
    "run-heredoc-backslash": _case(B + "RUN <<EOF\necho a \\\n  b > /1\necho 'c\\nd' > /2\nEOF\n"),
    "run-heredoc-comment": _case(B + "RUN <<EOF\n# a comment\necho '# no comment' > /1\nEOF\n"),
    "run-heredoc-continued": _case(B + "RUN true && \\\n  cat <<EOF > /1 && \\\n  echo two > /2\none\nEOF\n"),
    "run-heredoc-unfinished": _case(B + "RUN <<EOF\necho one > /1\n"),
    "run-heredoc-crlf": _case(B + "RUN <<EOF\r\necho one > /1\r\nEOF\r\nRUN echo two > /2\n"),
    "run-heredoc-interpreter-args": _case(B + "RUN <<EOF\n#!/bin/sh -eu\nfalse || echo \"$0\" | sed 's/.*\\///' > /n\nEOF\n"),
    "run-heredoc-exec-form": _case(B + "RUN [\"cat\", \"<<EOF\"]\nEOF\n"),
    "run-heredoc-mount": _case(B + "RUN --mount=type=bind,target=/ctx <<EOF\ncat /ctx/a.txt > /a\nEOF\n"),
    "run-heredoc-user": _case(B + "USER user\nRUN <<EOF\n#!/bin/sh\nid -un > /tmp/u\nEOF\n"),
    "run-here-string": _case(B + "RUN cat <<<word > /x || echo none > /y\n"),
    "run-shift-is-none": _case(B + "RUN echo $((1<<3)) > /x\n"),
    "run-stdin": _case(B + "RUN cat > /x\n"),
    "run-mount-bind-default-source": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM {BASE}\nRUN --mount=from=one,target=/in ls /in/1 /in/bin/sh > /out\n"),
    "run-mount-bind-readonly": _case(B + "RUN --mount=target=/ctx touch /ctx/x || echo refused > /x\n"),
    "run-mount-bind-rw-stage": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1\nFROM {BASE}\nRUN --mount=from=one,source=/d,target=/d,readwrite echo 2 > /d/2 && ls /d > /l\nRUN --mount=from=one,source=/d,target=/d ls /d > /m\n"),
    "run-mount-bind-onto": _case(B + "RUN mkdir /d && echo own > /d/own\nRUN --mount=source=sub,target=/d ls /d > /l\nRUN ls /d > /m\n"),
    "run-mount-bind-stage-missing": _case(B + "RUN --mount=from=nothing-there,target=/x true\n"),
    "run-mount-bind-from-variable": _case(f"FROM {BASE} AS one\nFROM {BASE}\nARG S=one\nRUN --mount=from=$S,target=/x true\n"),
    "run-mount-bind-ignored": _case(B + "RUN --mount=target=/ctx ls -A /ctx > /l\n", **{".dockerignore": b"*\n!sub\n"}),
    "run-mount-no-target": _case(B + "RUN --mount=type=bind,source=sub true\n"),
    "run-mount-root": _case(B + "RUN --mount=type=tmpfs,target=/ true\n"),
    "run-mount-unknown-key": _case(B + "RUN --mount=type=tmpfs,target=/t,wrong=1 true\n"),
    "run-mount-key-of-other-type": _case(B + "RUN --mount=type=bind,target=/t,sharing=locked true\n"),
    "run-mount-order": _case(B + "RUN --mount=type=tmpfs,target=/t/deep --mount=source=sub,target=/t ls /t > /l || true\n"),
    "run-mount-tmpfs-size": _case(B + "RUN --mount=type=tmpfs,target=/t,size=2m df -k /t | tail -1 | awk '{print $2}' > /x; stat -c '%a %u:%g' /t >> /x\n"),
    "run-mount-tmpfs-size-wrong": _case(B + "RUN --mount=type=tmpfs,target=/t,size=big true\n"),
    "run-mount-tmpfs-hides": _case(B + "RUN mkdir /t && echo own > /t/own\nRUN --mount=type=tmpfs,target=/t ls -A /t > /x && echo y > /t/y\n"),
    "run-mount-tmpfs-not-kept": _case(B + "RUN --mount=type=tmpfs,target=/new/t echo y > /new/t/y\n"),
    "run-mount-cache-stays": _case(B + "RUN --mount=type=cache,target=/c,id=stays echo 1 > /c/f\nRUN --mount=type=cache,target=/d,id=stays cat /d/f > /x\n"),
    "run-mount-cache-by-target": _case(B + "RUN --mount=type=cache,target=/c-by-target echo 1 > /c-by-target/f\nRUN --mount=type=cache,target=/c-by-target cat /c-by-target/f > /x\n"),
    "run-mount-cache-default-mode": _case(B + "USER user\nRUN --mount=type=cache,target=/c,id=default-mode stat -c '%a %u %g' /c > /tmp/s\n"),
    "run-mount-cache-private": _case(B + "RUN --mount=type=cache,target=/c,sharing=private,id=private ls /c > /x\n"),
    "run-mount-cache-sharing-wrong": _case(B + "RUN --mount=type=cache,target=/c,sharing=other true\n"),
    "run-mount-cache-mode-wrong": _case(B + "RUN --mount=type=cache,target=/c,mode=rwx true\n"),
    "run-mount-cache-variables": _case(B + "ARG N=7 T=/c\nRUN --mount=type=cache,target=$T,id=by-$N,uid=$N stat -c '%u' /c > /s\n"),
    "run-mount-secret": _case(B + "RUN --mount=type=secret,id=word cat /run/secrets/word > /x && stat -c '%a %u %g' /run/secrets/word >> /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-target": _case(B + "RUN --mount=type=secret,id=word,target=/etc/deep/w,mode=0440,uid=3,gid=4 cat /etc/deep/w > /x && stat -c '%a %u %g' /etc/deep/w >> /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-relative": _case(B + "WORKDIR /w\nRUN --mount=type=secret,id=word,target=here cat /w/here > /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-env": _case(B + "RUN --mount=type=secret,id=word,env=WORD echo $WORD > /x && ls /run/secrets >> /x 2>/dev/null; true\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-env-alone": _case(B + "RUN --mount=type=secret,env=word echo \"[$word]\" > /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-env-and-target": _case(B + "RUN --mount=type=secret,id=word,env=WORD,target=/w echo $WORD > /x && cat /w >> /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-by-target": _case(B + "RUN --mount=type=secret,target=/word cat /word > /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-nothing": _case(B + "RUN --mount=type=secret true\n"),
    "run-mount-secret-required-bare": _case(B + "RUN --mount=type=secret,id=s,required true\n"),
    "run-mount-ssh-missing": _case(B + "RUN --mount=type=ssh echo \"[$SSH_AUTH_SOCK]\" > /x\n"),
    "run-mount-ssh-required": _case(B + "RUN --mount=type=ssh,required=true true\n"),
    "run-mount-ssh": _case(B + "RUN --mount=type=ssh echo $SSH_AUTH_SOCK > /x && stat -c '%a %u %g %F' $SSH_AUTH_SOCK >> /x\n", "--ssh", "default={agent}"),
    "run-mount-ssh-target": _case(B + "RUN --mount=type=ssh,id=own,target=/sock,mode=0666,uid=5,gid=6 echo $SSH_AUTH_SOCK > /x && stat -c '%a %u %g %F' /sock >> /x\n", "--ssh", "own={agent}"),
    "run-mount-missing-value": _case(B + "RUN --mount=type true\n"),
    "run-mount-bare": _case(B + "RUN --mount true\n"),
    "run-mount-twice": _case(B + "RUN --mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/t echo x > /x\n"),
    "run-network-default": _case(B + "RUN --network=default ls /sys/class/net | grep -c eth0 > /n\n"),
    "run-network-host-not-allowed": _case(B + "RUN --network=host true\n"),
    "run-device": _case(B + "RUN --device=vendor.com/x=y true\n"),
    "run-two-networks": _case(B + "RUN --network=none --network=default true\n"),
    "run-capabilities": _case(B + "RUN grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status > /x\n"),
    "run-proc-read-only": _case(B + "RUN (echo x > /proc/sys/kernel/domainname) 2>/dev/null && echo written > /x || echo refused > /x; ls /dev | sort > /d\n"),
    "run-changes-nothing": _case(B + "RUN true\nRUN touch /tmp\n"),
    "run-special-files": _case(B + "RUN mknod /c c 1 3 && mknod /b b 7 99 && mkfifo -m 600 /p && ln -s nowhere /l && chmod 2755 /tmp\n"),
    "run-replaces-kinds": _case(B + "RUN mkdir /a && touch /a/x /b && ln -s a /c\nRUN rm -r /a && touch /a && rm /b && mkdir /b && touch /b/y && rm /c && mkdir /c\n"),
    "run-renames-directory": _case(B + "RUN mkdir /a && touch /a/x\nRUN mv /a /b && touch /b/y\n"),
    "run-odd-names": _case(B + "RUN touch '/a b' '/-c' '/d\\e' '/é' '/[f]' '/.wh' && mkdir '/g\"h'\n"),
    "copy-times": _case(B + "COPY a.txt /a\nADD sub /s\nRUN stat -c '%n %Y' /a /s/b.txt > /t\n"),
    "copy-from-times": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/f && touch -d @77 /d/f && touch -d @78 /d\nFROM {BASE}\nCOPY --from=one /d /e\nCOPY --from=one /d /x/d\nRUN stat -c '%n %Y' /e /e/f /x/d /x/d/f > /t\n"),
    "add-tar-times": _case(B + "ADD packed.tar.gz /t/\nRUN stat -c '%n %Y' /t/packed/one > /s\n"),
    "copy-trailing-slashes": _case(B + "COPY sub/ /d\nCOPY ./sub/. /e/\nCOPY /sub /f\nCOPY sub/../a.txt /g/\n"),
    "copy-file-with-slash": _case(B + "COPY a.txt/ /d\n"),
    "copy-dot-destinations": _case(B + "WORKDIR /w\nCOPY a.txt .\nCOPY sub ./s\nCOPY a.txt ../up\nCOPY a.txt /x/../y\n"),
    "copy-onto-kinds": _case(B + "RUN mkdir -p /s/b.txt\nCOPY sub /s\n"),
    "copy-onto-kinds-other": _case(B + "RUN mkdir /s && touch /s/deep\nCOPY sub /s\n"),
    "copy-over-link-inside": _case(B + "RUN mkdir /s /real && ln -s /real /s/deep\nCOPY sub /s\n"),
    "copy-odd-names": _case(B + "COPY . /c/\nCOPY [\"sp ace\", \"é\", \"/d/\"]\nCOPY -dash /e/\n", **{"sp ace": b"1", "é": b"2", "-dash": b"3"}),
    "copy-json-one": _case(B + "COPY [\"a.txt\"]\n"),
    "copy-one-word": _case(B + "COPY a.txt\n"),
    "copy-nothing": _case(B + "COPY\n"),
    "copy-empty-source": _case(B + "COPY \"\" /d/\n"),
    "copy-variable-empty": _case(B + "COPY $NOTHING /d/\n"),
    "copy-variable-words": _case(B + "ENV F=\"a.txt sub\"\nCOPY $F /d/\n"),
    "copy-double-star": _case(B + "COPY sub/**/*.txt /d/\nCOPY **/c.txt /e/\n"),
    "copy-class-wildcard": _case(B + "COPY [a-b].* /d/\nCOPY sub/[!x].txt /e/\nCOPY sub/[^x].txt /f/\n"),
    "copy-wildcard-wrong": _case(B + "COPY [a /d/\n"),
    "copy-chmod-symbolic": _case(B + "COPY --chmod=+x a.txt /1\nCOPY --chmod=go-r a.txt /2\nCOPY --chmod=a=rw,u+x a.txt /3\nCOPY --chmod=u+s,g+s,+t a.txt /4\nCOPY --chmod=o= a.txt /5\nCOPY --chmod=a+X sub /6\n"),
    "copy-chmod-copies": _case(B + "COPY --chmod=g=u a.txt /1\nCOPY --chmod=go=u-w a.txt /2\nCOPY --chmod=o+g sub /3\n"),
    "copy-chmod-several": _case(B + "COPY --chmod=u=rwx,g=rx,o-rwx sub/run.sh /1\nCOPY --chmod=u-w+x a.txt /2\nCOPY --chmod=ugo=rX . /3/\n"),
    "copy-chmod-special": _case(B + "COPY --chmod=7755 a.txt /1\nCOPY --chmod=01777 sub /2\nCOPY --chmod=0 a.txt /3\nCOPY --chmod=4711 a.txt /d/4\n"),
    "copy-chmod-too-large": _case(B + "COPY --chmod=17777 a.txt /1\n"),
    "copy-chmod-wrong-letters": _case(B + "COPY --chmod=u=rwz a.txt /1\n"),
    "copy-chmod-empty": _case(B + "COPY --chmod= a.txt /1\n"),
    "copy-chmod-parents": _case(B + "COPY --chmod=700 --chown=3:4 a.txt /new/deep/a\nCOPY --chmod=711 --chown=3:4 sub /other/deep/s\n"),
    "copy-chmod-link": _case(B + "COPY --chmod=600 --chown=5:6 links /l\n"),
    "copy-chown-group-alone": _case(B + "COPY --chown=:extra a.txt /1\n"),
    "copy-chown-user-colon": _case(B + "COPY --chown=user: a.txt /1\n"),
    "copy-chown-name": _case(B + "COPY --chown=user a.txt /1\nCOPY --chown=1000 a.txt /2\nCOPY --chown=user:9 a.txt /3\nCOPY --chown=9:extra a.txt /4\n"),
    "copy-chown-group-unknown": _case(B + "COPY --chown=user:who a.txt /1\n"),
    "copy-user-does-not-count": _case(B + "USER user\nCOPY a.txt /1\nADD sub /2\n"),
    "copy-exclude-variable": _case(B + "ARG X=run.sh\nCOPY --exclude=$X --exclude=*/c.txt sub /x/\n"),
    "copy-exclude-negated": _case(B + "COPY --exclude=*.txt --exclude=!b.txt sub /x/\n"),
    "copy-exclude-directory": _case(B + "COPY --exclude=sub/deep . /x/\nCOPY --exclude=deep/ sub /y/\n"),
    "copy-exclude-file-itself": _case(B + "COPY --exclude=a.txt a.txt /x/\n"),
    "copy-exclude-wildcards": _case(B + "COPY --exclude=b* sub/*.txt sub/*.sh /x/\n"),
    "copy-exclude-everything": _case(B + "COPY --exclude=* sub /x/\nCOPY --exclude=** sub /y/\n"),
    "copy-link-onto-link": _case(B + "RUN mkdir /real && ln -s /real /link\nCOPY --link a.txt /link/\n"),
    "copy-link-relative": _case(B + "WORKDIR /w\nCOPY --link a.txt x/\nCOPY --link=false a.txt y\nCOPY --link=true --chmod=600 a.txt z\n"),
    "copy-link-chown-name": _case(B + "COPY --link --chown=user a.txt /x\n"),
    "copy-link-from": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1 && chown 3 /1\nFROM {BASE}\nCOPY --link --from=one /1 /d/\n"),
    "copy-link-wrong": _case(B + "COPY --link=maybe a.txt /x\n"),
    "copy-flag-twice": _case(B + "COPY --chown=1 --chown=2 a.txt /x\n"),
    "copy-flag-without-value": _case(B + "COPY --chown a.txt /x\n"),
    "copy-flag-after-source": _case(B + "COPY a.txt --chown=1 /x/\n"),
    "copy-flags-end": _case(B + "COPY -- a.txt /x/\n"),
    "copy-from-case": _case(f"FROM {BASE} AS One\nRUN echo 1 > /1\nFROM {BASE}\nCOPY --from=ONE /1 /x\n"),
    "copy-from-variable": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM {BASE}\nARG S=one\nCOPY --from=$S /1 /x\n"),
    "copy-from-relative": _case(f"FROM {BASE} AS one\nWORKDIR /w\nRUN echo 1 > f\nFROM {BASE}\nCOPY --from=one w/f /x\nCOPY --from=one ./w /y\n"),
    "copy-from-everything": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM scratch\nCOPY --from=one / /\n"),
    "copy-from-special": _case(f"FROM {BASE} AS one\nRUN mkdir /d && cd /d && mkfifo p && mknod c c 1 3 && ln -s nowhere l && touch s && chmod 6755 s && mkdir -m 1777 t\nFROM {BASE}\nCOPY --from=one /d /e\n"),
    "copy-from-link-to-directory": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1 && ln -s d /l && ln -s /d/1 /f\nFROM {BASE}\nCOPY --from=one /l /x\nCOPY --from=one /l/ /y\nCOPY --from=one /f /z\n"),
    "copy-from-onbuild": _case(f"FROM {BASE} AS one\nONBUILD RUN echo never > /1\nRUN echo 2 > /2\nFROM {BASE}\nCOPY --from=one /2 /x\n"),
    "copy-from-missing-file": _case(f"FROM {BASE} AS one\nFROM {BASE}\nCOPY --from=one /missing /x\n"),
    "copy-from-later": _case(f"FROM {BASE}\nCOPY --from=1 /x /y\nFROM {BASE}\n", "--target", "0"),
    "copy-heredoc-escapes": _case(B + "ENV A=1\nCOPY <<EOF /h\n\\$A $A ${A}x ${N:-d} \"$A\" '$A' \\\\ \\n $(x) `y`\nEOF\n"),
    "copy-heredoc-tabs": _case(B + "COPY <<-EOF /h\n\t\tone\n\ttwo\n\tEOF\n"),
    "copy-heredoc-empty": _case(B + "COPY <<EOF /h\nEOF\n"),
    "copy-heredoc-no-name": _case(B + "COPY <<EOF /d/\nx\nEOF\nCOPY <<file.txt /d/\ny\nfile.txt\n"),
    "copy-heredoc-quoted-part": _case(B + "COPY <<E\"O\"F /h\n$HOME\nEOF\n"),
    "copy-heredoc-as-destination": _case(B + "COPY a.txt <<EOF\nx\nEOF\n"),
    "copy-heredoc-from": _case(f"FROM {BASE} AS one\nFROM {BASE}\nCOPY --from=one <<EOF /x\ny\nEOF\n"),
    "copy-heredoc-unset": _case(B + "COPY <<EOF /h\n[$NOTHING] [${NOTHING}]\nEOF\n"),
    "copy-heredoc-required": _case(B + "COPY <<EOF /h\n${NOTHING:?is missing}\nEOF\n"),
    "copy-heredoc-link": _case(B + "COPY --link --chmod=700 <<EOF /d/h\nx\nEOF\n"),
    "add-unpack-local": _case(B + "ADD --unpack=true packed.tar.gz /t/\nADD --unpack packed.tar.gz /u/\n"),
    "add-unpack-no-archive": _case(B + "ADD --unpack=true a.txt /t/\n"),
    "add-tar-chmod": _case(B + "ADD --chmod=700 packed.tar.gz /t/\n"),
    "add-tar-link": _case(B + "ADD --link packed.tar.gz /t/\n"),
    "add-tar-exclude": _case(B + "ADD --exclude=packed/one packed.tar.gz /t/\n"),
    "add-tar-onto-file": _case(B + "RUN touch /f\nADD packed.tar.gz /f\n"),
    "add-tar-wildcard": _case(B + "ADD *.tar.gz a.txt /t/\n"),
    "add-tar-of-links": _case(B + "ADD l.tar /t/\n", **{"l.tar": _links_tar()}),
    "add-tar-in-directory": _case(B + "ADD d /t/\n", **{"d/packed.tar.gz": _tar()}),
    "add-copy-of-tar": _case(B + "COPY packed.tar.gz /t/\n"),
    "add-url-no-name": _case(B + "ADD {sources}/ /d/\n"),
    "add-url-query": _case(B + "ADD {sources}/plain.txt?x=y#z /d/\n"),
    "add-url-missing": _case(B + "ADD {sources}/missing /d/\n"),
    "add-url-checksum-wrong": _case(B + "ADD --checksum=sha256:" + "0" * 64 + " {sources}/plain.txt /p\n"),
    "add-url-checksum-variable": _case(B + "ARG C=sha256:dacf36547c7774a0a170806363b5d412991fbc0d6260b2c00b1d3a80a816c23f\nADD --checksum=$C {sources}/plain.txt /p\n"),
    "add-url-and-file": _case(B + "ADD {sources}/plain.txt a.txt /d/\n"),
    "add-url-times": _case(B + "ADD {sources}/plain.txt /p\nRUN stat -c '%a %Y' /p > /s\n"),
    "add-url-variable": _case(B + "ARG U={sources}\nADD $U/plain.txt /p\n"),
    "add-url-archive-chown": _case(B + "ADD --unpack=true --chown=9:9 {sources}/packed.tar.gz /t\n"),
    "add-checksum-wrong-form": _case(B + "ADD --checksum=md5:abc {sources}/plain.txt /p\n"),
    "add-checksum-local": _case(B + "ADD --checksum=sha256:" + "0" * 64 + " a.txt /p\n"),
    "add-checksum-several": _case(B + "ADD --checksum=sha256:dacf36547c7774a0a170806363b5d412991fbc0d6260b2c00b1d3a80a816c23f {sources}/plain.txt {sources}/packed.tar.gz /p/\n"),
    "add-keep-git-dir-plain": _case(B + "ADD --keep-git-dir=true a.txt /p\n"),
    "add-git-checksum-short": _case(B + "ADD --checksum={short} {sources}/project.git#v1 /r\n"),
    "add-git-checksum-query": _case(B + "ADD {sources}/project.git?tag=v1&checksum={commit} /r\n"),
    "add-git-submodules": _case(B + "ADD {sources}/outer.git /r\nRUN rm -f /r/inner/.git\n"),
    "add-git-no-submodules": _case(B + "ADD {sources}/outer.git?submodules=false /r\n"),
    "add-git-keep-variable": _case(B + "ADD {sources}/project.git?keep-git-dir=1&ref=v1 /r\nRUN test -d /r/.git && rm -r /r/.git\n"),
    "add-git-query-unknown": _case(B + "ADD {sources}/project.git?wrong=1 /r\n"),
    "add-git-and-file": _case(B + "ADD {sources}/project.git a.txt /r/\n"),
    "add-git-times": _case(B + "ADD {sources}/project.git#v1 /r\nRUN test $(stat -c %Y /r/readme.txt) -gt 1700000000 && echo later > /x || echo commit > /x\n"),
    "add-missing": _case(B + "ADD missing /m\n"),
    "add-from": _case(B + "ADD --from=x a.txt /m\n"),
    "env-continued": _case(B + "ENV A=1 \\\n  B=2 \\\n\n# comment\n  C=3\n"),
    "env-old-form-expansion": _case(B + "ENV A x y\nENV B $A z\nENV C \"q r\"\n"),
    "env-odd-names": _case(B + "ENV a.b=1 c-d=2 9e=3\n"),
    "env-no-equals": _case(B + "ENV A=1 B\n"),
    "env-one-word": _case(B + "ENV A\n"),
    "env-empty-name": _case(B + "ENV =1\n"),
    "env-name-variable": _case(B + "ENV N=X\nENV $N=1\n"),
    "env-again": _case(B + "ENV A=1 B=2\nENV A=3\nENV C=$A$B\n"),
    "env-path": _case(B + "ENV PATH=$PATH:/more\n"),
    "env-newline": _case(B + "ENV A=\"one\\\n two\" B='three\\\n four'\n"),
    "env-escapes": _case(B + "ENV A=\\a B=\\\\ C=a\\ b D=\"\\a\\\"\" E='\\' F=\\$x\n"),
    "expansion-nested": _case(B + "ENV A=${X:-${Y:-$(z)}} B=${X:-\"q r\"} C=${X:-'$s'} D=${PATH:+${HOME:-none}}\n"),
    "expansion-odd": _case(B + "ENV A=$ B=$1 C=a$$ D=\"$\" E=$- F=x$.y\n"),
    "expansion-unclosed": _case(B + "ENV A=${X\n"),
    "expansion-empty": _case(B + "ENV A=${}\n"),
    "expansion-modifier-wrong": _case(B + "ENV A=${X:x}\n"),
    "expansion-modifier-unknown": _case(B + "ENV A=${X^^}\n"),
    "expansion-quote-unclosed": _case(B + "ENV A=\"x\n"),
    "expansion-required-set": _case(B + "ENV X=1\nENV A=${X:?no} B=${X?no}\n"),
    "expansion-required-word": _case(B + "ENV A=${X:?no}\n"),
    "expansion-required-empty": _case(B + "ENV X=\nENV A=${X?no} B=1\nENV C=${X:?no}\n"),
    "expansion-trim-more": _case(B + "ENV A=a/b/c.x.y\nENV B=${A##*/} C=${A#*/} D=${A%/*} E=${A%%/*} F=${A%.*} G=${A%%.*} H=${A#z} I=${A%}\n"),
    "expansion-replace-more": _case(B + "ENV A=aXbXc\nENV B=${A/X/} C=${A//X} D=${A//X/-} E=${A/?/_} F=${A//[X]/} G=${A/X*/} H=${A/#a/z} I=${A/%c/z}\n"),
    "expansion-in-everything": _case(B + "ENV V=v N=7\nLABEL l$V=$V\nEXPOSE 80$N\nVOLUME /$V\nUSER $N\nWORKDIR /w$V\nSTOPSIGNAL $N\nCMD [\"$V\"]\nENTRYPOINT $V\nHEALTHCHECK --retries=3 CMD $V\n"),
    "label-again": _case(B + "LABEL a=1 b=2\nLABEL a=3\n"),
    "label-old-form": _case(B + "LABEL a one two\n"),
    "label-no-equals": _case(B + "LABEL a\n"),
    "label-odd": _case(B + "LABEL \"a b\"=\"c=d\" e.f-g=h 'i'='j' k=\"l\\nm\" n=\n"),
    "expose-upper": _case(B + "EXPOSE 80/TCP 81/UDP\n"),
    "expose-again": _case(B + "EXPOSE 80 80/tcp\nEXPOSE 80\n"),
    "expose-too-large": _case(B + "EXPOSE 70000\n"),
    "expose-word": _case(B + "EXPOSE http\n"),
    "expose-range-wrong": _case(B + "EXPOSE 90-80\n"),
    "expose-protocol-wrong": _case(B + "EXPOSE 80/xyz\n"),
    "expose-host-port": _case(B + "EXPOSE 8080:80\n"),
    "expose-zero": _case(B + "EXPOSE 0\n"),
    "expose-unset": _case(B + "EXPOSE $NOTHING\n"),
    "expose-words-in-variable": _case(B + "ENV P=\"80 81\"\nEXPOSE $P\n"),
    "expose-range-udp": _case(B + "EXPOSE 7000-7002/udp\n"),
    "volume-odd": _case(B + "VOLUME [\"/a b\"]\nVOLUME /x/ /y/../z\nVOLUME $NOTHING/v\n"),
    "volume-empty": _case(B + "VOLUME [\"\"]\n"),
    "volume-empty-list": _case(B + "VOLUME []\n"),
    "volume-bare": _case(B + "VOLUME\n"),
    "user-root-names": _case(B + "USER root:root\nRUN id -u > /x\nUSER 0:0\nUSER :extra\nRUN id -u > /tmp/y && id -g >> /tmp/y\n"),
    "user-group-unknown": _case(B + "USER user:who\nRUN true\n"),
    "user-groups": _case(B + "USER user\nRUN id -G > /tmp/g\n"),
    "user-number-known": _case(B + "USER 1000\nRUN id -G > /tmp/g; echo $HOME >> /tmp/g\n"),
    "user-empty-variable": _case(B + "USER $NOTHING\nRUN id -u > /x\n"),
    "user-two-words": _case(B + "USER a b\n"),
    "user-bare": _case(B + "USER\n"),
    "user-in-build": _case(B + "RUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\nUSER late\nRUN id -u > /tmp/u; id -g >> /tmp/u\n"),
    "workdir-odd": _case(B + "WORKDIR /a/../b/./c/\nWORKDIR ../d\nWORKDIR \"/with space\"\nRUN pwd > p\n"),
    "workdir-unset": _case(B + "WORKDIR $NOTHING\n"),
    "workdir-bare": _case(B + "WORKDIR\n"),
    "workdir-of-scratch": _case("FROM scratch\nWORKDIR rel\nCOPY a.txt x\n"),
    "workdir-exists": _case(B + "RUN mkdir -m 700 /w && chown 5:6 /w\nUSER user\nWORKDIR /w\n"),
    "workdir-unwritten": _case(B + "WORKDIR /\nWORKDIR /tmp\n"),
    "workdir-user-parents": _case(B + "USER user:extra\nWORKDIR /new/deep\n"),
    "workdir-inherited": _case(f"FROM {BASE} AS a\nWORKDIR /w\nFROM a\nCOPY a.txt b\n"),
    "cmd-json-wrong": _case(B + "CMD ['a']\n"),
    "cmd-json-comma": _case(B + "CMD [\"a\",]\n"),
    "cmd-json-number": _case(B + "CMD [\"a\", 1]\n"),
    "cmd-json-text-after": _case(B + "CMD [\"a\"] b\n"),
    "cmd-json-spread": _case(B + "CMD [ \"a\", \\\n  \"b\" ]\n"),
    "cmd-json-escapes": _case(B + "CMD [\"a\\tb\", \"\\u00e9\", \"c\\\\d\"]\n"),
    "cmd-bare": _case(B + "CMD\n"),
    "cmd-several-spaces": _case(B + "CMD echo   a  \"b   c\"\n"),
    "cmd-with-shell": _case(B + "SHELL [\"/bin/ash\", \"-xc\"]\nCMD echo a\nENTRYPOINT echo b\nHEALTHCHECK CMD echo c\n"),
    "entrypoint-resets-cmd": _case(f"FROM {BASE} AS a\nCMD [\"x\"]\nFROM a\nENTRYPOINT [\"y\"]\n"),
    "entrypoint-keeps-own-cmd": _case(f"FROM {BASE} AS a\nCMD [\"x\"]\nFROM a\nCMD [\"z\"]\nENTRYPOINT [\"y\"]\n"),
    "entrypoint-bare": _case(B + "CMD [\"x\"]\nENTRYPOINT\n"),
    "shell-text": _case(B + "SHELL /bin/sh -c\n"),
    "shell-empty": _case(B + "SHELL []\n"),
    "shell-inherited": _case(f"FROM {BASE} AS a\nSHELL [\"/bin/sh\", \"-ec\"]\nFROM a\nRUN echo x > /x\n"),
    "stopsignal-forms": _case(B + "STOPSIGNAL SIGRTMIN+3\n"),
    "stopsignal-lower": _case(B + "STOPSIGNAL sigterm\n"),
    "stopsignal-short": _case(B + "STOPSIGNAL TERM\n"),
    "stopsignal-zero": _case(B + "STOPSIGNAL 0\n"),
    "stopsignal-variable": _case(B + "ARG S=SIGINT\nSTOPSIGNAL $S\n"),
    "stopsignal-two": _case(B + "STOPSIGNAL SIGINT SIGTERM\n"),
    "healthcheck-durations": _case(B + "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=1h CMD x\n"),
    "healthcheck-zero": _case(B + "HEALTHCHECK --interval=0s --timeout=0 --retries=0 CMD x\n"),
    "healthcheck-negative": _case(B + "HEALTHCHECK --interval=-1s CMD x\n"),
    "healthcheck-too-short": _case(B + "HEALTHCHECK --interval=10us CMD x\n"),
    "healthcheck-duration-wrong": _case(B + "HEALTHCHECK --timeout=soon CMD x\n"),
    "healthcheck-retries-wrong": _case(B + "HEALTHCHECK --retries=-1 CMD x\n"),
    "healthcheck-type-wrong": _case(B + "HEALTHCHECK RUN x\n"),
    "healthcheck-none-words": _case(B + "HEALTHCHECK NONE x\n"),
    "healthcheck-none-flags": _case(B + "HEALTHCHECK --interval=1s NONE\n"),
    "healthcheck-empty-list": _case(B + "HEALTHCHECK CMD []\n"),
    "healthcheck-lower": _case(B + "healthcheck cmd x y\n"),
    "healthcheck-continued": _case(B + "HEALTHCHECK --interval=5s \\\n  --retries=2 \\\n  CMD a || \\\n  b\n"),
    "healthcheck-bare": _case(B + "HEALTHCHECK\n"),
    "onbuild-kinds": _case(f"FROM {BASE} AS one\nONBUILD ARG A=1\nONBUILD ENV E=$A\nONBUILD WORKDIR /w\nONBUILD COPY a.txt ./\nONBUILD RUN echo $A > x\nONBUILD USER user\nONBUILD EXPOSE 80\nONBUILD LABEL l=$A\nFROM one\nENV F=$E\n"),
    "onbuild-once": _case(f"FROM {BASE} AS one\nONBUILD RUN echo x >> /x\nFROM one AS two\nFROM two\nRUN echo y > /y\n"),
    "onbuild-heredoc": _case(f"FROM {BASE} AS one\nONBUILD COPY <<EOF /h\nx\nEOF\nONBUILD RUN <<EOF\necho y > /y\nEOF\nFROM one\n"),
    "onbuild-from-stage": _case(f"FROM {BASE} AS src\nRUN echo 1 > /1\nFROM {BASE} AS one\nONBUILD COPY --from=src /1 /x\nFROM one\n"),
    "onbuild-fails": _case(f"FROM {BASE} AS one\nONBUILD RUN false\nFROM one\n"),
    "onbuild-lower": _case(B + "onbuild run echo x\nOnBuild  copy  a.txt   /b\n"),
    "onbuild-nested": _case(B + "ONBUILD ONBUILD RUN x\n"),
    "onbuild-maintainer": _case(B + "ONBUILD MAINTAINER x\n"),
    "onbuild-bare": _case(B + "ONBUILD\n"),
    "onbuild-flags": _case(f"FROM {BASE} AS one\nONBUILD COPY --chown=3:4 --chmod=600 a.txt /x\nONBUILD RUN --mount=target=/c cat /c/a.txt > /y\nFROM one\n"),
    "onbuild-variables": _case(B + "ENV A=1\nONBUILD RUN echo $A \\\n  more\n"),
    "maintainer-bare": _case(B + "MAINTAINER\n"),
    # On an image that another build made.
    "image-onbuild": _case("FROM {before}\nENV F=$E\n", before=B + "ONBUILD ARG A=1\nONBUILD ENV E=$A\nONBUILD WORKDIR /w\nONBUILD COPY a.txt ./\nONBUILD RUN echo $A > x\n"),
    "image-onbuild-heredocs": _case("FROM {before}\n", before=B + "ONBUILD COPY <<EOF /h\n$HOME x\nEOF\nONBUILD RUN <<EOF\necho y > /y\nEOF\n"),
    "image-onbuild-argument": _case("FROM {before}\nRUN echo $A >> /x\n", "--build-arg", "A=2", before=B + "ONBUILD ARG A=1\nONBUILD RUN echo $A > /x\n"),
    "image-onbuild-from-stage": _case(f"FROM {BASE} AS src\nRUN echo 1 > /1\nFROM {{before}}\n", before=B + "ONBUILD COPY --from=src /1 /x\n"),
    "image-onbuild-mount": _case("FROM {before}\n", before=B + "ONBUILD RUN --mount=target=/c cat /c/a.txt > /y\nONBUILD ADD packed.tar.gz /t\n"),
    "image-onbuild-once": _case("FROM {before} AS one\nFROM one\nRUN echo y > /y\n", before=B + "ONBUILD RUN echo x >> /x\n"),
    "image-onbuild-copied-from": _case(f"FROM {BASE}\nCOPY --from={{before}} /etc/passwd /p\n", before=B + "ONBUILD RUN false\n"),
    "image-onbuild-fails": _case("FROM {before}\n", before=B + "ONBUILD RUN false\n"),
    "image-onbuild-adds-onbuild": _case("FROM {before}\nONBUILD RUN echo z\n", before=B + "ONBUILD RUN echo x > /x\n"),
    "image-onbuild-missing-file": _case("FROM {before}\n", before=B + "ONBUILD COPY missing /x\n"),
    "image-configuration": _case("FROM {before}\nRUN id -u > u; pwd > p; echo $A > a\n", before=B + "ENV A=1 B=\"x y\"\nWORKDIR /w\nRUN chmod 777 /w\nUSER user\nEXPOSE 80\nVOLUME /v\nLABEL a=1\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\nSHELL [\"/bin/sh\", \"-ec\"]\nSTOPSIGNAL SIGINT\nHEALTHCHECK --retries=2 CMD true\n"),
    "image-configuration-changed": _case("FROM {before}\nENV A=2\nWORKDIR x\nUSER root\nEXPOSE 81\nVOLUME /w\nLABEL a=2 b=3\nENTRYPOINT [\"f\"]\nHEALTHCHECK NONE\n", before=B + "ENV A=1\nWORKDIR /w\nUSER user\nEXPOSE 80\nVOLUME /v\nLABEL a=1\nCMD [\"c\"]\nENTRYPOINT [\"e\"]\nHEALTHCHECK CMD true\n"),
    "image-entrypoint-resets": _case("FROM {before}\nENTRYPOINT [\"f\"]\n", before=B + "CMD [\"c\"]\n"),
    "image-cmd-keeps-entrypoint": _case("FROM {before}\nCMD [\"d\"]\n", before=B + "ENTRYPOINT [\"e\"]\nCMD [\"c\"]\n"),
    "image-argument-over-env": _case("FROM {before}\nARG A=2\nRUN echo $A > /x\nENV B=$A\n", before=B + "ENV A=1\n"),
    "image-files": _case("FROM {before}\nRUN rm -r /d && mkdir /d && echo 3 > /d/3 && mv /e /f && rm /l && ln -s b /l && chmod 600 /m && cat /m > /n\n", before=B + "RUN mkdir /d /e && echo 1 > /d/1 && echo 2 > /e/2 && ln -s a /l && echo m > /m && ln /m /m2\n"),
    "image-volume-then-write": _case("FROM {before}\nRUN echo x > /v/x\nCOPY a.txt /v/\n", before=B + "RUN mkdir /v && echo o > /v/o\nVOLUME /v\n"),
    "image-of-scratch": _case("FROM {before}\nENV A=$PATH\nCOPY sub /s\n", before="FROM scratch\nCOPY a.txt /a\n"),
    "image-copied-from": _case("FROM scratch\nCOPY --from={before} /d /e\nCOPY --from={before} /l /m\n", before=B + "RUN mkdir -m 750 /d && echo 1 > /d/1 && chown -R 3:4 /d && ln -s d /l\n"),
    "image-mounted-from": _case(B + "RUN --mount=from={before},source=/d,target=/m cat /m/1 > /x\n", before=B + "RUN mkdir /d && echo 1 > /d/1\n"),
    "image-user-without-passwd": _case("FROM {before}\nUSER 5\nWORKDIR /w\nCOPY --chown=5:6 a.txt /x\n", before="FROM scratch\nCOPY a.txt /a\n"),
    # Stages.
    "stage-inherits-configuration": _case(f"FROM {BASE} AS a\nENV A=1\nWORKDIR /w\nUSER user\nLABEL l=1\nEXPOSE 1\nVOLUME /v\nCMD [\"c\"]\nFROM a\nRUN id -u > /tmp/u; pwd >> /tmp/u\n"),
    "stage-chain": _case(f"FROM {BASE} AS a\nRUN echo 1 > /1\nFROM a AS b\nRUN echo 2 > /2\nFROM b AS c\nRUN cat /1 /2 > /3\nFROM scratch\nCOPY --from=c /3 /3\nCOPY --from=a /1 /1\n"),
    "stage-name-digits": _case(f"FROM {BASE} AS a1.b-c_d\nRUN echo 1 > /1\nFROM {BASE}\nCOPY --from=a1.b-c_d /1 /1\n"),
    "stage-name-variable": _case(f"ARG N=one\nFROM {BASE} AS $N\nRUN true\n"),
    "stage-scratch-named": _case(f"FROM {BASE} AS scratch\nRUN echo 1 > /1\nFROM scratch\nCOPY a.txt /a\n"),
    "stage-unused-argument": _case(f"FROM {BASE} AS a\nARG X=1\nFROM {BASE}\nARG X\nRUN echo \"[$X]\" > /x\n"),
    "stage-given-argument": _case(f"FROM {BASE} AS a\nARG X\nRUN echo \"[$X]\" > /x\nFROM {BASE}\nCOPY --from=a /x /x\nRUN echo \"[$X]\" > /y\n", "--build-arg", "X=g"),
    "stage-env-hides-argument": _case(f"FROM {BASE} AS a\nARG X=1\nENV X=2\nFROM a\nARG X=3\nRUN echo $X > /x\nENV Y=$X\n"),
    "stage-global-and-own": _case(f"ARG X=g\nFROM {BASE} AS a\nARG X=l\nFROM a\nARG X\nRUN echo \"[$X]\" > /x\n"),
    "stage-platform-arguments": _case(f"FROM --platform=linux/arm/v7 scratch AS a\nCOPY a.txt /a\nFROM --platform=$BUILDPLATFORM {BASE}\nARG TARGETPLATFORM TARGETVARIANT\nCOPY --from=a /a /b\nRUN echo \"$TARGETPLATFORM [$TARGETVARIANT]\" > /x\n"),
    # More of COPY, ADD and RUN.
    "copy-file-first": _case(B + "COPY a.txt sub /d\n"),
    "copy-wildcard-file-first": _case(B + "COPY [a-s]* /d\n"),
    "copy-wildcard-directory-first": _case(B + "COPY s* a.txt /d\n"),
    "copy-files-onto-one": _case(B + "COPY sub/b.txt a.txt /d\nCOPY sub/*.txt sub/*.sh /e\n"),
    "add-file-then-archive": _case(B + "ADD a.txt packed.tar.gz /t\n"),
    "add-archive-then-file": _case(B + "ADD packed.tar.gz a.txt /t\n"),
    "stage-argument-under-env": _case(f"FROM {BASE} AS a\nENV X=env\nARG X=arg Y=own\nRUN echo $X > /1\nFROM a\nRUN echo $X $Y > /2\nENV Z=$X$Y\n"),
    "stage-takes-from-itself": _case(f"FROM {BASE} AS a\nRUN --mount=from=a,target=/m true\nFROM {BASE}\nRUN true\n"),
    "arg-given-default-not-looked-at": _case(B + "ARG A=${B:?no}\nRUN echo $A > /x\n", "--build-arg", "A=given"),
    "run-mount-bind-as-user": _case(B + "USER 7\nRUN --mount=target=/c cp -r /c/sub /tmp/s && ls -ld /c | cut -c1-10 > /tmp/m\nRUN --mount=target=/c,rw touch /c/x || echo refused > /tmp/r\n"),
    "copy-same-file-twice": _case(B + "COPY a.txt a.txt /d/\nCOPY sub/b.txt a.txt sub/deep/c.txt /d/\n"),
    "copy-directory-merges": _case(B + "COPY sub links /m/\nCOPY sub/deep /m/deep\nCOPY sub /m/\n"),
    "copy-empty-directory": _case(B + "COPY empty /e\nCOPY empty/ /f/g\n", **{"empty/.keep": b""}),
    "copy-dotfiles": _case(B + "COPY . /c/\nCOPY .h* /d/\nCOPY * /e/\n", **{".hidden": b"1", "sub/.h": b"2"}),
    "copy-question-directories": _case(B + "COPY su?/*.txt /d/\nCOPY s* /e/\n"),
    "copy-deep-wildcard": _case(B + "COPY */*/c.txt /d/\nCOPY */*.txt /e/\n"),
    "copy-to-root": _case(B + "COPY a.txt /\nCOPY sub /\n"),
    "copy-to-existing-link-chain": _case(B + "RUN mkdir /real && ln -s real /one && ln -s one /two\nCOPY a.txt /two/x/\nCOPY sub /two\n"),
    "copy-absolute-link-out": _case(B + "RUN ln -s /tmp /t && ln -s ../../../tmp /u\nCOPY a.txt /t/1\nCOPY a.txt /u/2\n"),
    "copy-onto-link-loop": _case(B + "RUN ln -s b /a && ln -s a /b\nCOPY a.txt /a/x\n"),
    "copy-setuid-kept": _case(f"FROM {BASE} AS one\nRUN mkdir -m 2755 /d && touch /d/s && chmod 4755 /d/s\nFROM {BASE}\nCOPY --from=one /d/ /e/\nCOPY --from=one --chown=5 /d/s /f\n"),
    "copy-chmod-from": _case(f"FROM {BASE} AS one\nRUN mkdir /d && echo 1 > /d/1 && ln -s 1 /d/l\nFROM {BASE}\nCOPY --from=one --chmod=640 --chown=user:extra /d /e\n"),
    "copy-link-parents-owner": _case(B + "RUN mkdir -p -m 700 /x && chown 5 /x\nCOPY --link a.txt /x/y/z\nCOPY --link --chown=7:8 --chmod=640 a.txt /x/w/\n"),
    "copy-workdir-link": _case(B + "RUN mkdir /real && ln -s /real /w\nWORKDIR /w\nCOPY a.txt x\nCOPY sub ./s/\n"),
    "copy-variable-default": _case(B + "COPY ${F:-a.txt} /${D:-d}/\n"),
    "copy-single-quotes": _case(B + "ENV A=x\nCOPY 'a.txt' \"/d/$A\"\nCOPY a.txt '/e/$A'\n"),
    "add-tar-over-directories": _case(B + "RUN mkdir -m 700 /t && chown 5:5 /t\nADD packed.tar.gz /t\nADD packed.tar.gz /new/deep/\n"),
    "add-tar-and-file": _case(B + "ADD packed.tar.gz a.txt /t/\n"),
    "add-tar-user-workdir": _case(B + "WORKDIR /w\nUSER user\nADD packed.tar.gz .\nADD packed.tar.gz sub\n"),
    "add-tar-named-directory": _case(B + "ADD packed.tar.gz /t.tar.gz\n"),
    "add-url-to-directory": _case(B + "RUN mkdir /d\nADD {sources}/plain.txt /d\n"),
    "add-url-chmod-symbolic": _case(B + "ADD --chmod=u+x,g=u {sources}/plain.txt /x\n"),
    "add-url-onbuild": _case("FROM {before}\n", before=B + "ONBUILD ADD {sources}/plain.txt /p\n"),
    "run-pipefail": _case(B + "RUN false | true\nRUN set -o pipefail; (exit 3) | true || echo failed > /x\n"),
    "run-background": _case(B + "RUN sleep 60 & echo done > /x\n"),
    "run-umask-and-cwd": _case(B + "RUN umask > /u; pwd > /p; ulimit -c > /dev/null; echo $0 $# > /a\n"),
    "run-locale-and-term": _case(B + "RUN echo \"[$TERM][$LANG][$SHELL][$USER][$LOGNAME]\" > /x\n"),
    "run-dev": _case(B + "RUN ls -l /dev | awk '{print $1, $3, $4, $NF}' | sort > /d; mount | grep -c ' / ' > /m; cat /proc/1/cmdline | tr '\\0' ' ' > /c\n"),
    "run-limits-of-proc": _case(B + "RUN for f in kcore keys timer_list sched_debug; do head -c1 /proc/$f >/dev/null 2>&1 && echo $f open; done > /x; true\n"),
    "run-resolv-written": _case(B + "RUN echo 'nameserver 1.2.3.4' > /etc/resolv.conf || true\nRUN echo x >> /etc/hosts || true\n"),
    "run-own-name": _case(B + "RUN --network=none grep -c buildkitsandbox /etc/hosts > /x; hostname > /y\nRUN grep -w buildkitsandbox /etc/hosts | head -1 | cut -c1-9 > /z\n"),
    "workdir-trailing-slash": _case(B + "WORKDIR /w/\nWORKDIR x/\nRUN pwd > p\n"),
    "workdir-through-dangling-link": _case(B + "RUN ln -s /there /link\nWORKDIR /link/sub\nRUN pwd -P > /p\n"),
    "copy-through-dangling-parent": _case(B + "RUN ln -s /there /link\nCOPY a.txt /link/x/y\nCOPY sub /link/z\n"),
    "copy-through-file-parent": _case(B + "RUN touch /f\nCOPY a.txt /f/x\n"),
    "run-mount-secret-both-ways": _case(B + "RUN --mount=type=secret,id=word,dst=/a/b,required=true,mode=400 stat -c '%a' /a/b > /x && ls -d /a >> /x\nRUN ls -d /a >> /x || echo gone >> /x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-secret-user": _case(B + "USER user\nRUN --mount=type=secret,id=word cat /run/secrets/word > /tmp/x || echo refused > /tmp/x\n", "--secret", "id=word,src={context}/a.txt"),
    "run-mount-stubs": _case(B + "RUN --mount=type=tmpfs,target=/x/y/z true\nRUN --mount=source=a.txt,target=/f/g true\nRUN mkdir /k\nRUN --mount=type=cache,target=/k/c,id=stubs true\n"),
    "run-mount-stubs-kept": _case(B + "RUN --mount=type=tmpfs,target=/x/y touch /x/own\n"),
    "workdir-chain-variables": _case(B + "ENV A=/a B=b\nWORKDIR $A/${B}\nWORKDIR ${NOTHING:-c}\nRUN pwd > /x\n"),
    "user-variable-default": _case(B + "USER ${U:-1000:${G:-7}}\nRUN id -u > /tmp/x; id -g >> /tmp/x\n"),
    "env-quotes-kept": _case(B + "ENV A='\"x\"' B=\"'y'\" C=\\'z\\' D=a\"b\"c'd'e\n"),
    "env-spaces-around": _case(B + "ENV   A=1    B=2   \nENV\tC\t\tx  y \n"),
    "label-multiline": _case(B + "LABEL a=\"1\" \\\n      b=\"2 \\\n3\" \\\n      c=4\n"),
    "cmd-quotes": _case(B + "CMD echo \"a 'b' $C\" \\\n  && true\n"),
    "healthcheck-quotes": _case(B + "HEALTHCHECK CMD curl -f \"http://x/?a=$B\" || exit 1\n"),
    "healthcheck-exec-shell": _case(B + "SHELL [\"/bin/ash\", \"-c\"]\nHEALTHCHECK --interval=1m CMD [\"sh\", \"-c\", \"x\"]\n"),
    # The file itself.
    "escape-wrong": _case("# escape=x\n" + B),
    "escape-twice": _case("# escape=`\n# escape=\\\n" + B),
    "escape-after-comment": _case("# comment\n# escape=`\n" + B + "RUN echo a \\\n b > /x\n"),
    "escape-after-blank": _case("\n# escape=`\n" + B + "RUN echo a \\\n b > /x\n"),
    "escape-upper": _case("#  EsCaPe = `  \n" + B + "RUN echo a `\n b > /x\nENV A=x` B=\\\n"),
    "directive-unknown": _case("# other=x\n# escape=`\n" + B + "RUN echo a \\\n b > /x\n"),
    "shebang": _case("#!/usr/bin/env docker\n# escape=`\n" + B + "RUN echo a `\n b > /x\n"),
    "bom-and-directive": _case("\ufeff# escape=`\n" + B + "RUN echo a `\n b > /x\n"),
    "lines-indented": _case("  " + B + "\t# comment\n  RUN echo x > /x\n   ENV A=1\n"),
    "lines-escape-then-blanks": _case(B + "RUN echo a \\  \n  b > /x\n"),
    "lines-escaped-escape": _case(B + "RUN echo 'a\\\\' > /x\nRUN echo b \\\\\\\n > /y\n"),
    "lines-end-in-escape": _case(B + "RUN echo x > /x \\\n"),
    "lines-end-in-escape-comment": _case(B + "RUN echo x > /x \\\n# comment"),
    "lines-comment-is-none": _case(B + "RUN echo a # b > /x; echo c > /y\nENV A=b#c D=\"# e\"\n"),
    "lines-continued-quote": _case(B + "RUN echo \"a \\\n  b\" > /x\nRUN echo 'c \\\n  d' > /y\n"),
    "lines-keyword-alone": _case(B + "RUN \\\n  echo x > /x\n"),
    "lines-tabs": _case(B + "RUN\techo\tx\t> /x\nENV\tA=1\tB=2\n"),
    "lines-form-feed": _case(B + "ENV A=1\fB\n"),
    "instruction-split": _case(f"FR\\\nOM {BASE}\nRU\\\nN echo x > /x\n"),
    "nul-in-file": _case(B + "ENV A=\0\n"),
    "two-from-lines": _case(f"FROM \\\n  {BASE} \\\n  AS \\\n  one\nRUN echo x > /x\n"),
    "arg-alone": _case("ARG A=1\n"),
    "env-before-from": _case("ENV A=1\n" + B),
    # .dockerignore.
    "ignore-forms": _case(B + "COPY . /c/\n", **{".dockerignore": b"./a.txt\n sub/b.txt \nlinks/\n/hard/1\n"}),
    "ignore-stars": _case(B + "COPY . /c/\n", **{".dockerignore": b"*/b*\n**/*.gz\nlinks/*\n"}),
    "ignore-double-star": _case(B + "COPY . /c/\n", **{".dockerignore": b"**\n!a.txt\n!**/c.txt\n"}),
    "ignore-question": _case(B + "COPY . /c/\n", **{".dockerignore": b"?.txt\nsub/d??p\n"}),
    "ignore-order": _case(B + "COPY . /c/\n", **{".dockerignore": b"!sub/b.txt\nsub\n!sub/deep\nsub/deep/c.txt\n"}),
    "ignore-up": _case(B + "COPY . /c/\n", **{".dockerignore": b"../x\nsub/../a.txt\nsub/./b.txt\n"}),
    "ignore-crlf-and-bom": _case(B + "COPY . /c/\n", **{".dockerignore": "\ufeffa.txt\r\nsub\r\n".encode()}),
    "ignore-comment-forms": _case(B + "COPY . /c/\n", **{".dockerignore": b"#a.txt\n # sub\n\\#x\n", "#x": b"1"}),
    "ignore-bang-alone": _case(B + "COPY . /c/\n", **{".dockerignore": b"!\n"}),
    "ignore-bang-blank": _case(B + "COPY . /c/\n", **{".dockerignore": b"*\n! sub\n"}),
    "ignore-class": _case(B + "COPY . /c/\n", **{".dockerignore": b"[a-c].txt\nsub/[^r]*\n"}),
    "ignore-pattern-wrong": _case(B + "COPY . /c/\n", **{".dockerignore": b"[a\n"}),
    "ignore-case": _case(B + "COPY . /c/\n", **{".dockerignore": b"A.TXT\nSUB\n"}),
    "ignore-escaped": _case(B + "COPY . /c/\n", **{".dockerignore": b"x\\*y\n", "x*y": b"1", "xzy": b"2"}),
    "ignore-own-first": _case(B + "COPY . /c/\n", **{"Dockerfile.dockerignore": b"sub\n", ".dockerignore": b"links\n"}),
    "ignore-own-elsewhere": _case(B + "RUN false\n", "-f", "{context}/other/Containerfile", **{"other/Containerfile": (B + "COPY . /c/\n").encode(), "other/Containerfile.dockerignore": b"sub\nother\n", ".dockerignore": b"links\n"}),
    "ignore-own-empty": _case(B + "COPY . /c/\n", **{"Dockerfile.dockerignore": b"", ".dockerignore": b"links\n"}),
    "ignore-exception-in-directory": _case(B + "COPY sub /c/\nCOPY sub/deep /d/\n", **{".dockerignore": b"sub/*\n!sub/deep/c.txt\n"}),
    "ignore-named-directory": _case(B + "COPY sub /c/\n", **{".dockerignore": b"sub\n"}),
    "ignore-wildcard-source": _case(B + "COPY *.txt /c/\n", **{".dockerignore": b"a.txt\n", "b.txt": b"b"}),
    # What docker build is given beside the file.
    "build-context-directory": _case(B + "COPY --from=more b.txt /x\nRUN --mount=from=more,target=/m ls /m > /l\n", "--build-context", "more={context}/sub"),
    "build-context-image": _case(f"FROM own\nRUN echo x > /x\nFROM {BASE}\nCOPY --from=own /etc/passwd /p\n", "--build-context", f"own=docker-image://{BASE}"),
    "build-context-over-image": _case("FROM alpine:3\nRUN echo x > /x\n", "--build-context", f"alpine:3=docker-image://{BASE}"),
    "build-context-over-stage": _case(f"FROM scratch AS one\nCOPY sub /s\nFROM {BASE}\nCOPY --from=one b.txt /x\n", "--build-context", "one={context}/sub"),
    "build-context-as-base": _case("FROM root\nCOPY a.txt /x\n", "--build-context", "root={context}/sub"),
    "build-context-git": _case(B + "COPY --from=code readme.txt /x\n", "--build-context", "code={sources}/project.git#v1"),
    "build-context-git-base": _case("FROM code\nCOPY a.txt /x\n", "--build-context", "code={sources}/project.git#v1"),
    "build-context-ignored": _case(B + "COPY --from=more . /x/\n", "--build-context", "more={context}/sub", **{"sub/.dockerignore": b"*.txt\n", ".dockerignore": b"sub\n"}),
    "build-context-missing": _case(B + "COPY --from=more . /x/\n", "--build-context", "more={context}/missing"),
    "copy-chown-parts": _case(B + "RUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\nCOPY --chown=late:who a.txt /1\nCOPY --chown=late: a.txt /2\nCOPY --chown=late a.txt /3\nCOPY --chown=77 a.txt /4\nCOPY --chown=who:late a.txt /5\nCOPY --chown=77: a.txt /6\nCOPY --chown=:78 a.txt /7\nCOPY --chown=5:who a.txt /8\n"),
    "copy-made-directories": _case(B + "COPY --chmod=777 sub /1/y\nCOPY --chmod=1777 sub /2\nCOPY --chmod=u+s,o+w sub /3/z\nADD --chmod=2770 a.txt /4/z\nCOPY --chmod=500 <<EOF /5/f\nEOF\n"),
    "copy-from-directory-modes": _case(f"FROM {BASE} AS one\nRUN mkdir -p /d/in && echo 1 > /d/in/1 && chown 3:4 /d /d/in && chmod 700 /d /d/in && touch -d @77 /d /d/in\nFROM {BASE}\nCOPY --from=one /d /e\nCOPY --from=one /d/ /f/g/\nRUN stat -c '%n %Y' /e /e/in /f/g > /t\n"),
    "workdir-user-forms": _case(B + "RUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\nUSER 77\nWORKDIR /1\nUSER 9:8\nWORKDIR /2\nUSER late\nWORKDIR /3\nUSER 7\nWORKDIR /4\n"),
    "run-mount-quoted-fields": _case(B + "RUN --mount=type=tmpfs,\"target=/a,b\" ls -d /a,b > /x\nENV T=/c\nRUN --mount=type=tmpfs,target=\"${T}\" ls -d /c > /y\n"),
    "run-mount-ssh-user": _case(B + "USER user\nRUN --mount=type=ssh,uid=1000 stat -c '%a %u %g' $SSH_AUTH_SOCK > /tmp/s\n", "--ssh", "default={agent}"),
    "run-mount-ssh-two": _case(B + "RUN --mount=type=ssh,id=one --mount=type=ssh,id=two,target=/two echo $SSH_AUTH_SOCK > /x && ls /run/buildkit >> /x && test -S /two\n", "--ssh", "one={agent}", "--ssh", "two={agent}"),
    "build-host-network": _case(B + "RUN --network=host true\n", "--network", "host"),
    "build-secret-env": _case(B + "RUN --mount=type=secret,id=word cat /run/secrets/word > /x\n", "--secret", "id=word,env=WORD"),
    "build-remote-git": Case(context="{sources}/project.git#v1"),
    "build-remote-git-directory": Case(context="{sources}/project.git#v1:sub"),
    "build-remote-git-query": Case(context="{sources}/project.git?tag=v1&subdir=sub"),
    "build-remote-git-submodules": Case(context="{sources}/outer.git"),
    "build-remote-git-file": Case(options=("-f", "sub/Dockerfile"), context="{sources}/project.git#v1"),
    "build-remote-tar": Case(context="{sources}/context.tar.gz"),
    "build-remote-text": Case(context="{sources}/Containerfile"),
    "build-add-host-several": _case(B + "RUN grep -E 'one|two' /etc/hosts > /n\n", "--add-host", "one=10.1.2.3", "--add-host", "two:fd00::1"),
    "build-cgroup-and-memory": _case(B + "RUN echo x > /x\n", "--ulimit", "core=0"),
    "build-arg-unused": _case(B + "RUN echo x > /x\n", "--build-arg", "NOBODY=1"),
    "build-file-missing": _case(B, "-f", "{context}/nothing"),
    "build-target-case": _case(f"FROM {BASE} AS one\nRUN echo 1 > /1\nFROM one AS two\nRUN echo 2 > /2\n", "--target", "ONE"),
    "build-label-empty": _case(B + "RUN true\n", "--label", "a", "--label", "b="),
}  # fmt: skip


def write_context(
    case: Case, home: Path, words: Mapping[str, str], *, before: bool = False
) -> None:
    """Write the usual files, the case's own and its Dockerfile, or the one ``before``, the words in braces replaced."""
    (home / "sub" / "deep").mkdir(parents=True)
    (home / "links").mkdir()
    files = {
        "a.txt": b"a",
        "sub/b.txt": b"b",
        "sub/run.sh": b"#!/bin/sh\n",
        "sub/deep/c.txt": b"c",
        "packed.tar.gz": _tar(),
        "links/file": b"f",
        **case.files,
    }
    for name, data in files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(data)
        (home / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    (home / "hard").mkdir()
    (home / "hard" / "1").write_bytes(b"hard")
    (home / "hard" / "2").hardlink_to(home / "hard" / "1")
    (home / "links" / "to").symlink_to("file")
    (home / "links" / "away").symlink_to("/etc/passwd")
    for folder in ("sub", "sub/deep", "links", "hard"):
        (home / folder).chmod(0o755)
    text = case.before if before else case.dockerfile
    (home / "Dockerfile").write_bytes(with_words(text, words).encode())
    for path in (*home.rglob("*"), home):
        os.utime(path, (TIME, TIME), follow_symlinks=False)


def with_words(text: str, words: Mapping[str, str]) -> str:
    """Return a text with {sources} and the like replaced: what a run decides."""
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def publish(sources: Sources) -> dict[str, str]:
    """Put what the cases fetch on the server; return the words of the cases."""
    sources.files["/plain.txt"] = b"plain\n"
    sources.files["/packed.tar.gz"] = _tar()
    sources.files["/context.tar.gz"] = context_tar(
        {"Dockerfile": f"{B}COPY data /from-tar\n".encode(), "data": b"d"}
    )
    sources.files["/Containerfile"] = f"{B}RUN touch /from-text\n".encode()
    commit = sources.git("rev-parse", "v1^{commit}")
    layout = sources.home / "layout"
    return {
        "sources": sources.url,
        "commit": commit,
        "short": commit[:12],
        "layout": str(layout),
        "manifest": write_layout(layout, {"l": b"layout"}, "one"),
        "agent": str(sources.agent),
    }


def write_layout(home: Path, files: Mapping[str, bytes], tag: str) -> str:
    """Write an OCI layout that holds one image of one layer; return the manifest's digest."""
    home.mkdir(parents=True)
    (home / "blobs" / "sha256").mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (home / "blobs" / "sha256" / digest).write_bytes(data)
        media_type = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = gzip.decompress(context_tar(dict(files)))
    config = {
        "architecture": platform_architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "L=1"], "Labels": {"of": "layout"}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(layer, mtime=0), "layer.v1.tar+gzip")],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (home / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (home / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    return str(described["digest"])


def platform_architecture() -> str:
    """Return this machine's architecture as images name it."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def described(export: bytes, inspected: str) -> dict[str, object]:
    """Return what a build made: each file as "mode owner kind content", and the configuration's fields."""
    files: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(export)) as archive:
        for member in archive:
            name = member.name.strip("/").removeprefix("./")
            if name in ("", ".", "etc") or {name, name.split("/")[0]} & {*_MADE_BY_ENGINE}:
                continue
            content = ""
            if member.isreg():
                stream = archive.extractfile(member)
                content = hashlib.sha256(stream.read() if stream else b"").hexdigest()[:16]
            elif member.issym() or member.islnk():
                content = member.linkname.lstrip("./") if member.islnk() else member.linkname
            kind = member.type.decode()
            files[name] = (
                f"{member.mode & 0o7777:o} {member.uid}:{member.gid} {kind} {content}".strip()
            )
    config = json.loads(inspected)[0]["Config"]
    return {
        "files": {name: text for name, text in sorted(files.items()) if not _is_base(name)},
        "config": {key: config[key] for key in _CONFIG if config.get(key)},
    }


def _is_base(name: str) -> bool:
    """Tell a program of the base's, of which there are hundreds, all links to one."""
    return name.split("/")[0] in ("bin", "sbin", "usr")
