"""Registry credentials in the user's Docker config: auths, credsStore and credHelpers; read by the docker SDK."""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from stackctl.errors import InvalidInputError, NotFoundError, StackctlError
from stackctl.values import JsonObject

HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("", "docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_HELPER_SECONDS = 60


def header_for(reference: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the X-Registry-Auth header for an image's registry; empty when there are no credentials."""
    if not _configured(environ):
        return {}
    import docker.auth
    import docker.errors

    try:
        config = docker.auth.load_config(config_path=str(_file(environ)))
        registry, _ = docker.auth.resolve_repository_name(reference)
        found = docker.auth.resolve_authconfig(config, registry)
    except docker.errors.DockerException as error:
        raise StackctlError(
            f"cannot get credentials for {reference}: {error}",
            hint=f"look at {_file(environ)}: credsStore, credHelpers",
        ) from error
    return {"X-Registry-Auth": _encode(found)} if found else {}


def header_for_build(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the X-Registry-Config header: credentials by registry; empty when there are none."""
    if not _configured(environ):
        return {}
    import docker.auth
    import docker.errors

    try:
        every = docker.auth.load_config(config_path=str(_file(environ))).get_all_credentials()
    except docker.errors.DockerException as error:
        raise StackctlError(f"cannot get registry credentials: {error}") from error
    return {"X-Registry-Config": _encode(every)} if every else {}


def _file(environ: Mapping[str, str]) -> Path:
    folder = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '/')}/.docker"
    return Path(folder) / "config.json"


def _configured(environ: Mapping[str, str]) -> bool:
    """Tell whether there is anything to ask the SDK for, so that its import is paid only then."""
    try:
        data = json.loads(_file(environ).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and any(
        data.get(k) for k in ("auths", "credsStore", "credHelpers")
    )


def _encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def registry_key(server: str) -> str:
    """Return what a registry is called in the Docker config: Docker Hub's URL, else its host and port.

    Raises InvalidInputError for what names no host.
    """
    text = server.strip()
    if "://" in text:
        text = text.partition("://")[2]
    host = text.partition("/")[0]
    if host in _HUB_NAMES:
        return HUB
    if any(letter.isspace() for letter in host) or host.startswith("-"):
        raise InvalidInputError(f'"{server}" is not the name of a registry', hint="HOST[:PORT]")
    return host


def known_login(server: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the user name and the password (or identity token) that are kept for a registry; "" for none."""
    key = registry_key(server)
    tree = _read(environ)
    helper = _helper(tree, key)
    if helper:
        found = _ask(helper, "get", key, environ, missing_is_fine=True)
        try:
            answer = json.loads(found) if found else {}
        except ValueError as error:
            raise StackctlError(f"docker-credential-{helper} answers no JSON") from error
        return str(answer.get("Username", "")), str(answer.get("Secret", ""))
    auths = tree.get("auths")
    entry = auths.get(key) if isinstance(auths, dict) else None
    text = entry.get("auth") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        return "", ""
    try:
        user, _, password = base64.b64decode(text).decode().partition(":")
    except (ValueError, UnicodeError):
        return "", ""
    return user, password


def keep(
    server: str, username: str, password: str, identity_token: str, environ: Mapping[str, str]
) -> str:
    """Keep a login as Docker does; return where: the helper program's name or the config file's path.

    An identity token is kept in the password's place. A helper gets it on its standard input, never as an argument.
    """
    key = registry_key(server)
    tree = _read(environ)
    helper = _helper(tree, key)
    raw_auths = tree.get("auths")
    auths: JsonObject = dict(raw_auths) if isinstance(raw_auths, dict) else {}
    if helper:
        secret: JsonObject = {
            "ServerURL": key,
            "Username": "<token>" if identity_token else username,
            "Secret": identity_token or password,
        }
        _ask(helper, "store", json.dumps(secret), environ)
        # As Docker does it: an empty entry says that there is a login, the helper has it.
        auths[key] = {}
        where = f"docker-credential-{helper}"
    else:
        # With an identity token the password is not needed any more, and so not kept.
        pair = f"{username}:{'' if identity_token else password}"
        auths[key] = {
            "auth": base64.b64encode(pair.encode()).decode(),
            **({"identitytoken": identity_token} if identity_token else {}),
        }
        where = str(_file(environ))
    _write({**tree, "auths": auths}, environ)
    return where


def forget(server: str, environ: Mapping[str, str]) -> bool:
    """Forget a login; False when there was none."""
    key = registry_key(server)
    tree = _read(environ)
    helper = _helper(tree, key)
    raw_auths = tree.get("auths")
    auths: JsonObject = dict(raw_auths) if isinstance(raw_auths, dict) else {}
    had = auths.pop(key, None) is not None
    if helper:
        had = bool(_ask(helper, "get", key, environ, missing_is_fine=True)) or had
        _ask(helper, "erase", key, environ, missing_is_fine=True)
    if isinstance(raw_auths, dict) and key in raw_auths:
        _write({**tree, "auths": auths}, environ)
    return had


def _helper(tree: JsonObject, key: str) -> str:
    """Return the program that keeps a registry's login: its own, else the one for all; "" for the file itself."""
    own = tree.get("credHelpers")
    chosen = own.get(key) if isinstance(own, dict) else None
    name = chosen or tree.get("credsStore") or ""
    if not isinstance(name, str) or "/" in name:
        raise InvalidInputError(f'"{name}" is not the name of a credential helper')
    return name


def _ask(
    helper: str, verb: str, text: str, environ: Mapping[str, str], *, missing_is_fine: bool = False
) -> str:
    """Run one verb of a helper (the protocol of docker-credential-helpers); "" for a missing login."""
    import shutil

    from stackctl.host import process

    program = shutil.which(f"docker-credential-{helper}", path=environ.get("PATH"))
    if program is None:
        raise NotFoundError(
            f"the credential helper docker-credential-{helper} is not in PATH",
            hint="install it, or take credsStore or credHelpers out of the Docker config",
        )
    done = process.run_sync(
        [program, verb],
        stdin=text.encode(),
        timeout=_HELPER_SECONDS,
        # A helper may need the session's bus or the home directory to find its store.
        env=environ,
        check=False,
    )
    if done.code:
        said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")[:300]
        if missing_is_fine and "credentials not found" in said.lower():
            return ""
        raise StackctlError(f"docker-credential-{helper} {verb} failed: {said or done.code}")
    return done.stdout.decode(errors="replace")


def _read(environ: Mapping[str, str]) -> JsonObject:
    """Return the whole config. Raises InvalidInputError when it is none, since writing it anew would lose it."""
    file = _file(environ)
    try:
        tree = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"cannot read {file}: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidInputError(f"{file} must hold a JSON object")
    return cast(JsonObject, tree)


def _write(tree: JsonObject, environ: Mapping[str, str]) -> None:
    """Replace the config in one step, readable for its owner alone; a symlink stays one."""
    file = _file(environ)
    file = file.resolve() if file.is_symlink() else file
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as out:
            json.dump(tree, out, indent="\t")
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StackctlError(f"cannot write {file}: {error.strerror}") from error
