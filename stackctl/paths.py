"""Where sockets, data and run files are, for both halves; pure but for reading the settings file.

One engine is identified by where it runs: the engine ID is empty for the default paths and four hexadecimal digits of
the run root's hash otherwise. The nft table, the bridge prefix, the cgroup parent and the address pool derive from
it, so that several engines live side by side on one machine.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stackctl.errors import InvalidInputError
from stackctl.frozen import frozen

DEFAULT_RUN_ROOT = Path("/run/stackctl")
DEFAULT_DATA_ROOT = Path("/var/lib/stackctl")
SETTINGS_FILE = Path("/etc/stackctl/engine.json")
SETTINGS = {
    "socket": "STACKCTL_SOCKET",
    "data-root": "STACKCTL_DATA_ROOT",
    "run-root": "STACKCTL_RUN_ROOT",
}


@frozen
class EnginePaths:
    """The places of one engine.

    ``socket`` serves the Docker Engine API. ``data_root`` holds what survives a reboot (images, volumes, state),
    ``run_root`` what does not (namespaces, bundles, sockets, logs of the daemon).
    """

    engine_id: str
    socket: Path
    data_root: Path
    run_root: Path

    @property
    def nft_table(self) -> str:
        return f"stackctl-{self.engine_id}" if self.engine_id else "stackctl"

    @property
    def bridge_prefix(self) -> str:
        """The start of every bridge's interface name; names have at most 15 characters."""
        return f"sk-{self.engine_id}"

    @property
    def veth_prefix(self) -> str:
        return f"skv{self.engine_id}"

    @property
    def cgroup_parent(self) -> str:
        return f"/stackctl-{self.engine_id}" if self.engine_id else "/stackctl"

    @property
    def address_pool(self) -> str:
        """The /16 that networks without a subnet of their own take their /24 from."""
        return f"10.{201 + (int(self.engine_id, 16) % 49 + 1 if self.engine_id else 0)}.0.0/16"

    @property
    def daemon_log(self) -> Path:
        return self.run_root / "stackctld.log"

    @property
    def lock(self) -> Path:
        return self.run_root / "start.lock"

    @property
    def keeper_socket(self) -> Path:
        return self.run_root / "keeper.sock"

    @property
    def netns(self) -> Path:
        return self.run_root / "netns"

    @property
    def bundles(self) -> Path:
        return self.run_root / "bundles"


def settings_file(environ: Mapping[str, str], *, uid: int) -> Path:
    """Return where the engine's settings file is: STACKCTL_ENGINE_CONFIG, else the usual place."""
    if named := environ.get("STACKCTL_ENGINE_CONFIG", ""):
        return Path(named)
    if uid == 0:
        return SETTINGS_FILE
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '/')}/.config"
    return Path(home) / "stackctl" / "engine.json"


def with_settings(environ: Mapping[str, str], *, uid: int) -> dict[str, str]:
    """Return the environment, with the places that the settings file names where no variable does.

    Its keys are "socket", "data-root" and "run-root". Raises InvalidInputError for a file that is no JSON object; one
    that is not there says nothing.
    """
    found = dict(environ)
    file = settings_file(environ, uid=uid)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return found
    import json

    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"the settings file {file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInputError(f"the settings file {file} must hold a JSON object")
    for key, name in SETTINGS.items():
        value = data.get(key)
        if value is not None and not (isinstance(value, str) and value.startswith("/")):
            raise InvalidInputError(
                f'the settings file {file}: "{key}" must be an absolute path', hint=f"got {value!r}"
            )
        if value and not found.get(name):
            found[name] = value
    return found


def engine_paths(environ: Mapping[str, str], *, uid: int) -> EnginePaths:
    """Return the built-in engine's places.

    STACKCTL_SOCKET, _DATA_ROOT and _RUN_ROOT move them; so does the settings file, through ``with_settings``.
    """
    run_default = DEFAULT_RUN_ROOT
    data_default = DEFAULT_DATA_ROOT
    if uid != 0:
        runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
        data_home = environ.get("XDG_DATA_HOME") or f"{environ.get('HOME', '/')}/.local/share"
        run_default = Path(runtime) / "stackctl"
        data_default = Path(data_home) / "stackctl"
    socket_text = environ.get("STACKCTL_SOCKET", "").removeprefix("unix://")
    run_text = environ.get("STACKCTL_RUN_ROOT", "")
    data_text = environ.get("STACKCTL_DATA_ROOT", "")
    run_root = Path(run_text) if run_text else run_default
    socket = Path(socket_text) if socket_text else run_root / "engine.sock"
    if socket_text and not run_text and socket != run_default / "engine.sock":
        # A socket of one's own means an engine of one's own: its run files live beside it.
        run_root = socket.parent / f"{socket.stem}.run"
    data_root = Path(data_text) if data_text else data_default
    if not data_text and run_root != run_default:
        data_root = data_default.parent / f"stackctl-{_engine_id(run_root)}"
    engine_id = "" if run_root == run_default else _engine_id(run_root)
    return EnginePaths(engine_id=engine_id, socket=socket, data_root=data_root, run_root=run_root)


def _engine_id(run_root: Path) -> str:
    return hashlib.sha256(str(run_root).encode()).hexdigest()[:4]
