"""Sources to build from, served on loopback: a git repository over smart HTTP, and plain files.

Commits have fixed authors and times, so that their IDs are the same on every run.
"""

import contextlib
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "s@example.com" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_DATE": "1700000000 +0000" for who in ("AUTHOR", "COMMITTER")},
}


class Sources:
    """Repositories "project.git" and "outer.git" below ``home``, served; what ``files`` maps is served as it is.

    "outer.git" has the first as a submodule. ``agent`` is the socket of an SSH agent while it serves.

    ``asked`` are the (method, path, Authorization header) of the requests so far.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.work = home / "work"
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.token = ""
        self.url = ""
        self.agent = home / "agent"
        _fill(self.work)
        self.git("clone", "--quiet", "--bare", str(self.work), str(home / "project.git"), at=home)
        _fill_outer(home / "outer", self.git("rev-parse", "v1^{commit}"))
        self.git(
            "clone", "--quiet", "--bare", str(home / "outer"), str(home / "outer.git"), at=home
        )

    def git(self, *words: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=at or self.work, env=_ENV, capture_output=True, text=True, check=True
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, name: str, data: str) -> str:
        """Change a file on the main branch and publish it; return the commit."""
        (self.work / name).write_text(data)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", f"change {name}")
        self.git("push", "--quiet", str(self.home / "project.git"), "main")
        return self.git("rev-parse", "HEAD")

    @contextlib.contextmanager
    def serving(self) -> Iterator["Sources"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", self.agent], stdout=subprocess.DEVNULL)
        try:
            yield self
        finally:
            agent.terminate()
            agent.wait()
            server.shutdown()
            thread.join()
            server.server_close()


def _fill(work: Path) -> None:
    """Make the repository: a branch, a tag (annotated), a directory, an executable, a link, a Dockerfile."""
    work.mkdir(parents=True)

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=work, env=_ENV, capture_output=True, check=True)

    git("init", "--quiet", "--initial-branch=main")
    (work / "sub" / "deep").mkdir(parents=True)
    (work / "readme.txt").write_text("first\n")
    (work / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (work / "sub" / "run.sh").chmod(0o755)
    (work / "sub" / "deep" / "file").write_text("deep\n")
    (work / "link").symlink_to("readme.txt")
    (work / "Dockerfile").write_text("FROM conformance-base\nCOPY . /made/\n")
    (work / "sub" / "Dockerfile").write_text("FROM conformance-base\nCOPY run.sh /sub.sh\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    git("tag", "--annotate", "v1", "--message", "version 1")
    (work / "readme.txt").write_text("second\n")
    git("commit", "--quiet", "--all", "--message", "second")
    git("checkout", "--quiet", "-b", "topic")
    (work / "topic.txt").write_text("topic\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "topic")
    git("checkout", "--quiet", "main")


def _fill_outer(work: Path, commit: str) -> None:
    """Make a repository with a Dockerfile whose submodule "inner" is a commit of the other one."""
    work.mkdir()

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=work, env=_ENV, capture_output=True, check=True)

    git("init", "--quiet", "--initial-branch=main")
    # What a submodule's .git leads to is each builder's own business.
    (work / "Dockerfile").write_text(
        "FROM conformance-base\nCOPY . /made/\nRUN rm -f /made/inner/.git\n"
    )
    (work / ".gitmodules").write_text(
        '[submodule "inner"]\n\tpath = inner\n\turl = ../project.git\n'
    )
    git("add", "--all")
    git("update-index", "--add", "--cacheinfo", f"160000,{commit},inner")
    git("commit", "--quiet", "--message", "outer")


def context_tar(files: dict[str, bytes]) -> bytes:
    """Return a tar of files, as a build context is packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _handler(sources: Sources) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                self._answer(self._chunks())
            else:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            given = self.headers.get("Authorization", "")
            sources.asked.append((self.command, path, given))
            if sources.token and given != sources.token:
                self._send("401 Unauthorized", [("WWW-Authenticate", "Basic")], b"")
            elif path in sources.files:
                self._send("200 OK", [], sources.files[path])
            elif path.startswith(("/project.git/", "/outer.git/")):
                self._git(path, query, body)
            else:
                self._send("404 Not Found", [], b"")

        def _git(self, path: str, query: str, body: bytes) -> None:
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                capture_output=True,
                check=True,
                env={
                    **_ENV,
                    "GIT_PROJECT_ROOT": str(sources.home),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                },
            )
            head, _, data = done.stdout.partition(b"\r\n\r\n")
            headers = [
                (name, value.strip())
                for name, _, value in (line.partition(":") for line in head.decode().splitlines())
            ]
            status = next((value for name, value in headers if name == "Status"), "200 OK")
            self._send(status, [item for item in headers if item[0] != "Status"], data)

        def _send(self, status: str, headers: list[tuple[str, str]], data: bytes) -> None:
            code, _, reason = status.partition(" ")
            self.send_response(int(code), reason)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Handler
