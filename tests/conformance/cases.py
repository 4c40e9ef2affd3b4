"""The table: every instruction and flag of Dockerfiles, a case each; and how what a build made is described."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from tests.sourceserver import Sources

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
_CONFIG = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "Volumes", "WorkingDir", "Labels",
    "OnBuild", "StopSignal", "Shell",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One build: its Dockerfile, the options of ``docker build`` beside the context, files beside the usual ones."""

    dockerfile: str
    options: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)


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


def _zstd() -> bytes:
    return zstandard.compress(gzip.decompress(_tar()))


def _case(text: str, *options: str, **files: bytes) -> Case:
    return Case(dockerfile=text, options=options, files=files)


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
}  # fmt: skip


def write_context(case: Case, home: Path, words: Mapping[str, str]) -> None:
    """Write the usual files, the case's own and its Dockerfile, the words in braces replaced."""
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
    (home / "Dockerfile").write_bytes(with_words(case.dockerfile, words).encode())


def with_words(text: str, words: Mapping[str, str]) -> str:
    """Return a text with {sources} and the like replaced: what a run decides."""
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def publish(sources: Sources) -> dict[str, str]:
    """Put what the cases fetch on the server; return the words of the cases."""
    sources.files["/plain.txt"] = b"plain\n"
    sources.files["/packed.tar.gz"] = _tar()
    return {"sources": sources.url, "commit": sources.git("rev-parse", "v1^{commit}")}


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
