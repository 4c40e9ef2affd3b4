"""Registry credentials from the user's Docker config: auths, credsStore and credHelpers, by the docker SDK."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from stackctl.errors import StackctlError


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
