"""dockerd's command line and daemon.json, for tools that start a dockerd themselves; ours is started instead.

What has a counterpart here is passed on, what cannot matter here is accepted and said to be ignored, all else is refused
by name: a flag that is silently dropped would be a promise broken.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from stackctl import __version__
from stackctl.daemon import main as daemon
from stackctl.errors import InvalidInputError
from stackctl.paths import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT
from stackctl.values import Json

CONFIG_FILE = "/etc/docker/daemon.json"
SOCKET = "/var/run/docker.sock"
PIDFILE = "/var/run/docker.pid"
# Flag to key of daemon.json; the flag of stackctld is the same but for those renamed below.
_LISTS = {
    "host": "hosts", "registry-mirror": "registry-mirrors", "insecure-registry": "insecure-registries",
    "label": "labels", "default-address-pool": "default-address-pools", "add-runtime": "runtimes",
}  # fmt: skip
_WORDS = (
    "data-root", "exec-root", "pidfile", "bip", "group", "default-runtime", "tlscacert", "tlscert", "tlskey",
    "log-level", "max-concurrent-downloads", "max-concurrent-uploads",
)  # fmt: skip
_NUMBERS = ("max-concurrent-downloads", "max-concurrent-uploads")
_SWITCHES = ("debug", "live-restore", "tls", "tlsverify", "experimental")
_RENAMED = {"exec-root": "run-root"}
# Accepted as dockerd takes them: how this engine does it is settled, or it has nothing of the kind.
_IGNORED_WORDS = (
    "cgroup-parent", "containerd", "containerd-namespace", "containerd-plugins-namespace",
    "max-download-attempts", "shutdown-timeout", "storage-driver", "userland-proxy-path",
    "init-path", "log-format", "metrics-addr", "oom-score-adjust", "network-control-plane-mtu",
)  # fmt: skip
_IGNORED_SWITCHES = (
    "iptables", "ip6tables", "ip-forward", "ip-masq", "userland-proxy", "init", "raw-logs", "no-new-privileges",
    "selinux-enabled", "rootless", "icc",
)  # fmt: skip
_IGNORED_LISTS = ("exec-opt", "storage-opt", "feature", "cdi-spec-dir")
_IGNORED_KEYS = {"exec-opts", "storage-opts", "features", "cdi-spec-dirs", "builder"}
_SHORT = {
    "H": "host",
    "D": "debug",
    "G": "group",
    "p": "pidfile",
    "l": "log-level",
    "s": "storage-driver",
}
_TRUE = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"dockerd: {message}", hint="stackctl engine install-shim --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the engine as dockerd would be started; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if "--version" in words or "-v" in words:
            sys.stdout.write(f"Docker version {__version__}, build stackctl\n")
            return 0
        argv, ignored = translate(words, _read)
    except InvalidInputError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        sys.stderr.write(f"{error.message}{hint}\n")
        return 1
    for name in ignored:
        sys.stderr.write(f"dockerd: {name} has no meaning for this engine and is ignored\n")
    if "--validate" in words:
        sys.stdout.write("configuration OK\n")
        return 0
    return daemon.main(argv)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error


def translate(
    words: Sequence[str], read: Callable[[str], str | None]
) -> tuple[list[str], list[str]]:
    """Return stackctld's arguments, and the flags and keys that mean nothing here.

    ``read`` gives a file's text, None when there is none. Raises InvalidInputError as dockerd would: for what it does
    not know, and for a setting that is both in the file and on the command line.
    """
    options = vars(_parser().parse_args(list(words)))
    file = options.pop("config_file")
    options.pop("validate")
    given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    text = read(file or CONFIG_FILE)
    if text is None and file:
        raise InvalidInputError(
            f"unable to configure the Docker daemon with file {file}: no such file"
        )
    config = _config(text, file or CONFIG_FILE) if text is not None else {}
    for flag, value in config.items():
        if flag in given:
            raise InvalidInputError(
                f"unable to configure the Docker daemon with file {file or CONFIG_FILE}: the following directives "
                f"are specified both as a flag and in the configuration file: {flag}"
            )
        given[flag] = value
    ignorable = (*_IGNORED_WORDS, *_IGNORED_SWITCHES, *_IGNORED_LISTS, *_IGNORED_KEYS)
    return _argv(given), sorted(name for name in given if name in ignorable)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dockerd", allow_abbrev=False, add_help=True)
    parser.add_argument("--config-file", default="")
    parser.add_argument("--validate", action="store_true")
    short = {name: letter for letter, name in _SHORT.items()}

    def names(name: str) -> list[str]:
        return [f"-{short[name]}", f"--{name}"] if name in short else [f"--{name}"]

    for name in (*_LISTS, *_IGNORED_LISTS):
        parser.add_argument(*names(name), action="append")
    for name in (*_WORDS, *_IGNORED_WORDS):
        parser.add_argument(*names(name))
    for name in (*_SWITCHES, *_IGNORED_SWITCHES):
        parser.add_argument(*names(name), nargs="?", const=True, type=_truth)
    return parser


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE:
        raise argparse.ArgumentTypeError(f'"{text}" is neither true nor false')
    return _TRUE[text.lower()]


def _config(text: str, file: str) -> dict[str, str | bool | list[str]]:
    """Return daemon.json by flags; raises InvalidInputError for a key or value that dockerd would not take."""
    try:
        data: Json = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise InvalidInputError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidInputError(f"{file} must hold a JSON object")
    keys = {key: flag for flag, key in _LISTS.items()}
    found: dict[str, str | bool | list[str]] = {}
    for key, value in data.items():
        flag = keys.get(key, key)
        if key in _IGNORED_KEYS or key in _IGNORED_WORDS or key in _IGNORED_SWITCHES:
            found[flag] = True
        elif (key in _SWITCHES and isinstance(value, bool)) or (
            key in _WORDS and key not in _NUMBERS and isinstance(value, str)
        ):
            found[flag] = value
        elif key in _NUMBERS and isinstance(value, int) and not isinstance(value, bool):
            found[flag] = str(value)
        elif key in keys and (items := _items(key, value)) is not None:
            found[flag] = items
        elif key in (*_SWITCHES, *_WORDS, *keys):
            raise InvalidInputError(f'{file}: "{key}" has a value of the wrong type: {value!r}')
        else:
            raise InvalidInputError(
                f"unable to configure the Docker daemon with file {file}: the following directives don't match "
                f"any configuration option: {key}"
            )
    return found


def _items(key: str, value: Json) -> list[str] | None:
    """Return a list of daemon.json as the words of its flag; None for what is none."""
    if key == "runtimes" and isinstance(value, dict):
        return [
            f"{name}={entry.get('path') or entry.get('runtimeType')}"
            for name, entry in value.items()
            if isinstance(entry, dict)
        ]
    if key == "default-address-pools" and isinstance(value, list):
        return [
            f"base={entry.get('base')},size={entry.get('size')}"
            for entry in value
            if isinstance(entry, dict)
        ]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [item for item in value if isinstance(item, str)]
    return None


def _argv(given: Mapping[str, str | bool | list[str]]) -> list[str]:
    if given.get("tls") is True and not given.get("tlsverify"):
        raise InvalidInputError(
            "--tls alone lets any client in; this engine serves TCP with --tlsverify",
            hint="give --tlsverify with --tlscacert, --tlscert and --tlskey",
        )
    argv = _hosts(given.get("host"))
    if not given.get("exec-root"):
        # A socket elsewhere would make an engine of its own; dockerd's is one whatever its sockets.
        argv += ["--run-root", str(DEFAULT_RUN_ROOT)]
        if not given.get("data-root"):
            argv += ["--data-root", str(DEFAULT_DATA_ROOT)]
    argv += ["--pidfile", str(given.get("pidfile") or PIDFILE)]
    if given.get("log-level") == "debug":
        argv.append("--debug")
    for flag in ("debug", "tlsverify", "experimental"):
        if given.get(flag) is True:
            argv.append(f"--{flag}")
    for flag in _WORDS:
        value = given.get(flag)
        if isinstance(value, str) and value and flag not in ("pidfile", "log-level"):
            argv += [f"--{_RENAMED.get(flag, flag)}", value]
    for flag in _LISTS:
        value = given.get(flag)
        if isinstance(value, list) and flag != "host":
            argv += [word for item in value for word in (f"--{flag}", item)]
    return argv


def _hosts(value: object) -> list[str]:
    hosts = [str(item) for item in value] if isinstance(value, list) else []
    paths = [host.removeprefix("unix://") for host in hosts if host.startswith("unix://")]
    if len(paths) > 1:
        raise InvalidInputError(
            f"only one UNIX socket is served: {', '.join(paths)}", hint="give --host unix://… once"
        )
    argv = [word for host in hosts if host.startswith("tcp://") for word in ("--host", host)]
    for host in hosts:
        if not host.startswith(("unix://", "tcp://", "fd://")):
            raise InvalidInputError(f'invalid --host "{host}"', hint="unix://, tcp:// or fd://")
    if paths or not hosts:
        argv += ["--socket", paths[0] if paths and paths[0] else SOCKET]
    return argv


if __name__ == "__main__":
    os.environ.setdefault("LANG", "C.UTF-8")
    sys.exit(main())
