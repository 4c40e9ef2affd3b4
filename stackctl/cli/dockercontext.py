"""Docker contexts: registers our engine where the docker command line looks for engines (~/.docker/contexts)."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from stackctl.errors import HostError, InvalidInputError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")


def docker_home(environ: Mapping[str, str]) -> Path:
    """Return the docker command line's own directory."""
    named = environ.get("DOCKER_CONFIG", "")
    return Path(named) if named else Path(environ.get("HOME", "/root")) / ".docker"


def register(home: Path, name: str, address: str) -> Path:
    """Write the context and return its file; an older one of that name is replaced. Raises InvalidInputError."""
    file = _file(home, name)
    body = {
        "Name": name,
        "Metadata": {"Description": "The container engine of stackctl"},
        "Endpoints": {"docker": {"Host": address, "SkipTLSVerify": False}},
    }
    _write(file, body)
    return file


def remove(home: Path, name: str) -> bool:
    """Remove the context; False when there was none. It is no longer the chosen one then."""
    file = _file(home, name)
    found = file.exists()
    shutil.rmtree(file.parent, ignore_errors=True)
    config = _config(home)
    if config.get("currentContext") == name:
        del config["currentContext"]
        _write(home / "config.json", config)
    return found


def use(home: Path, name: str) -> None:
    """Make it the context that docker commands use by default."""
    _write(home / "config.json", {**_config(home), "currentContext": name})


def _config(home: Path) -> dict[str, object]:
    try:
        tree = json.loads((home / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read {home / 'config.json'}: {error}") from error
    return tree if isinstance(tree, dict) else {}


def _file(home: Path, name: str) -> Path:
    if not _NAME.fullmatch(name) or name == "default":
        raise InvalidInputError(
            f'"{name[:80]}" cannot name a docker context', hint="use letters, digits, _.+-"
        )
    # docker/cli keeps a context in a directory named by the digest of its name.
    digest = hashlib.sha256(name.encode()).hexdigest()
    return home / "contexts" / "meta" / digest / "meta.json"


def _write(file: Path, body: Mapping[str, object]) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_name(f"{file.name}.new")
        new.write_text(json.dumps(body, indent="\t"), encoding="utf-8")
        new.chmod(0o600)
        new.replace(file)
    except OSError as error:
        raise HostError(f"cannot write {file}: {error.strerror}") from error
