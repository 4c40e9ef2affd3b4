"""The table: every instruction and flag of Dockerfiles, a case each; and how what a build made is described."""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

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


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in (("packed/one", b"1"), ("packed/two", b"22")):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid, info.mtime = len(data), 0o640, 7, 8, 1_000_000
            archive.addfile(info, io.BytesIO(data))
    # Without a time in its header, so that it is the same on every run.
    return gzip.compress(out.getvalue(), mtime=0)


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
}  # fmt: skip


def write_context(case: Case, home: Path) -> None:
    """Write the usual files, the case's own and its Dockerfile."""
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
        (home / name).write_bytes(data)
        (home / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    (home / "links" / "to").symlink_to("file")
    (home / "links" / "away").symlink_to("/etc/passwd")
    for folder in ("sub", "sub/deep", "links"):
        (home / folder).chmod(0o755)
    (home / "Dockerfile").write_text(case.dockerfile)


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
