"""Repositories by the host's git program (git(1)): no prompt, no hooks, nobody's configuration."""

import asyncio
import base64
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stackctl.contracts.repositories import GitAccess, GitSource
from stackctl.errors import HostError, InvalidInputError, UnavailableError
from stackctl.host import process

_TIMEOUT = 900.0
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PROTOCOLS = "http:https:git:ssh"
_PROXIES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY")


class GitProgram:
    """Runs git for each question."""

    async def resolve(self, source: GitSource, access: GitAccess) -> str:
        if _COMMIT.fullmatch(source.ref):
            return source.ref
        wanted = [source.ref, f"{source.ref}^{{}}"] if source.ref else ["HEAD"]
        listed = await _git(source, access, "ls-remote", source.remote, *wanted)
        found = {}
        for line in listed.decode(errors="replace").splitlines():
            commit, _, name = line.partition("\t")
            found[name] = commit
        # A branch goes before a tag of the same name, and a tag's commit before the tag itself.
        names = (
            f"refs/heads/{source.ref}", f"refs/tags/{source.ref}^{{}}", f"refs/tags/{source.ref}",
            f"{source.ref}^{{}}", source.ref,
        ) if source.ref else ("HEAD",)  # fmt: skip
        for name in names:
            if _COMMIT.fullmatch(found.get(name, "")):
                return found[name]
        raise InvalidInputError(
            f"{_shown(source.remote)} has no {source.ref[:200]!r}"
            if source.ref
            else f"{_shown(source.remote)} is empty",
            hint="name a branch, a tag or a whole commit ID after the #",
        )

    async def checkout(
        self, source: GitSource, commit: str, access: GitAccess, target: Path, *, keep: bool
    ) -> None:
        target.mkdir(mode=0o755)
        at = ("-C", str(target))
        await _git(source, access, *at, "init", "--quiet")
        await _git(source, access, *at, "remote", "add", "origin", source.remote)
        fetch = (*at, "fetch", "--quiet", "--update-head-ok", "--no-tags")
        try:
            await _git(source, access, *fetch, "--depth=1", "origin", commit)
        except UnavailableError:
            # A server may refuse a commit by its ID, and a dumb one cannot give a part: then everything is fetched.
            await _git(source, access, *fetch, "origin", "+refs/*:refs/remotes/origin/*")
        await _git(source, access, *at, "checkout", "--quiet", "--force", commit)
        if source.submodules and (target / ".gitmodules").is_file():
            words = ("submodule", "update", "--quiet", "--init", "--recursive")
            try:
                await _git(source, access, *at, *words, "--depth=1")
            except UnavailableError:
                # As above; what is there of them has a history cut off, and would keep it.
                await _git(
                    source, access, *at, "submodule", "deinit", "--quiet", "--all", "--force"
                )
                modules = target / ".git" / "modules"
                await asyncio.to_thread(shutil.rmtree, modules, ignore_errors=True)
                await _git(source, access, *at, *words)
        if keep and not source.subdir:
            await asyncio.to_thread((target / ".git" / "FETCH_HEAD").unlink, missing_ok=True)
        else:
            await asyncio.to_thread(_drop_git, target)


def _drop_git(target: Path) -> None:
    shutil.rmtree(target / ".git")
    for pointer in target.rglob(".git"):  # of submodules
        if pointer.is_file() and not pointer.is_symlink():
            pointer.unlink()


async def _git(source: GitSource, access: GitAccess, *words: str) -> bytes:
    argv = ["git", *words]
    try:
        done = await process.run(argv, env=_env(source, access), timeout=_TIMEOUT, check=False)
    except HostError as error:
        raise HostError(
            f"repositories need git on the engine's machine: {error.message}",
            hint="apt-get install git",
            errno=error.errno,
        ) from error
    if done.code:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UnavailableError(
            f"cannot read the repository {_shown(source.remote)}: {_reason(said, done.code)}",
            hint="an agent with the key goes with the build: build.ssh: [default]"
            if any("Permission denied (publickey" in line for line in said)
            else "",
        )
    return done.stdout


def _reason(said: Sequence[str], code: int) -> str:
    """Return what git said that tells why it failed: ssh's own word goes before git's about it."""
    own = [line for line in said if "Permission denied" in line or line.startswith("ssh:")]
    reasons = own or [line for line in said if line.startswith(("fatal:", "error:", "ERROR"))]
    return (reasons or said or [f"git ended with {code}"])[-1][:300]


def _env(source: GitSource, access: GitAccess) -> dict[str, str]:
    settings = {
        "protocol.allow": "never",
        **{f"protocol.{name}.allow": "always" for name in _PROTOCOLS.split(":")},
        "core.hooksPath": "/dev/null",
        "core.fsmonitor": "false",
        "init.defaultBranch": "master",
        "advice.detachedHead": "false",
        "credential.helper": "",
        "safe.directory": "*",
        **_header(source.remote, access),
    }
    env = {
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
        "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
        "-o UserKnownHostsFile=/dev/null",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (key, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    if access.agent:
        env["SSH_AUTH_SOCK"] = access.agent
    return {**{name: os.environ[name] for name in _PROXIES if name in os.environ}, **env}


def _header(remote: str, access: GitAccess) -> dict[str, str]:
    """Return the header that a secret named as BuildKit names them gives the repository's own host, and no other."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return {}
    for suffix in (f".{parts.hostname}", ""):
        header = (
            access.secrets.get(f"GIT_AUTH_HEADER{suffix}", b"").decode(errors="replace").strip()
        )
        token = access.secrets.get(f"GIT_AUTH_TOKEN{suffix}", b"").strip()
        if not header and token:
            header = "basic " + base64.b64encode(b"x-access-token:" + token).decode()
        if header and "\n" not in header:
            host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
            return {f"http.{host}.extraHeader": f"Authorization: {header}"}
    return {}


def _shown(remote: str) -> str:
    """Return the URL without a password that may be in it."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:xxxxx@", remote)
