"""The normal form as text: JSON as Compose prints it, and YAML."""

import json
import re

import yaml

from stackctl.errors import InvalidInputError
from stackctl.orchestrator.stackfile.load import Loaded, room_to_work
from stackctl.orchestrator.stackfile.marks import Raw, Where
from stackctl.values import JsonObject

# Characters that JSON allows in text and a YAML reader refuses or takes for the end of a line.
_UNREADABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_json(loaded: Loaded, *, escape: bool = True) -> str:
    """Return the tree as indented JSON; with ``escape`` a ``$`` is doubled, so that it can be read back.

    Where variables were left in place, so is every ``$``.
    """
    with room_to_work():
        tree = {
            key: _without_empty_lists(value) if key.startswith("x-") else value
            for key, value in loaded.tree.items()
        }
        try:
            text = json.dumps(_sorted(tree), indent=2, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise InvalidInputError(
                "an extension holds .nan or .inf, which JSON lacks", hint="use --format yaml"
            ) from error
    text = _UNREADABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return (text.replace("$", "$$") if escape and loaded.interpolated else text) + "\n"


def to_yaml(loaded: Loaded, *, escape: bool = True) -> str:
    """Return the tree as YAML, extensions and models included, commands left out where the image's holds.

    With ``escape`` every ``$`` of a value is doubled (keys are never interpolated), so that reading the output
    gives the same output again.
    """
    with room_to_work():
        tree = full_tree(loaded)
        return str(
            yaml.dump(
                _escaped(tree) if escape and loaded.interpolated else tree,
                Dumper=_Dumper,
                default_flow_style=False,
                sort_keys=False,
                allow_unicode=True,
                width=1_000_000,
            )
        )


def full_tree(loaded: Loaded) -> JsonObject:
    """Return a copy of the tree in the order of YAML output, extensions of every element in place."""
    order = ("name", "services", "networks", "volumes", "secrets", "configs", "models")
    tree: dict[str, Raw] = {**loaded.tree}
    if loaded.models:
        tree["models"] = loaded.models
    keys = [key for key in order if key in tree] + sorted(tree.keys() - set(order))
    complete = {key: _complete(tree[key], (key,), loaded) for key in keys}
    services = complete.get("services")
    for service in services.values() if isinstance(services, dict) else ():
        _readable(service)
    for network in (complete.get("networks") or {}).values():
        if isinstance(network, dict) and network.get("ipam") == {}:
            del network["ipam"]
    _add_unprinted(complete, loaded.marked)
    return complete


def _add_unprinted(tree: Raw, marked: Raw) -> None:
    """Add what the file says and Compose's normal form leaves out, in place."""
    for name, service in (tree.get("services") or {}).items():
        refresh = marked["services"][name].get("pull_refresh_after")
        if refresh is not None:
            tree["services"][name] = dict(
                sorted({**service, "pull_refresh_after": refresh}.items())
            )
    for name, network in (tree.get("networks") or {}).items():
        options = ((marked["networks"].get(name) or {}).get("ipam") or {}).get("options")
        if options:
            network["ipam"] = dict(sorted({**network["ipam"], "options": options}.items()))


def _readable(service: Raw) -> None:
    """Undo what the JSON form has that a stack file does not, in place."""
    build = service.get("build")
    if build and "dockerfile" not in build and "dockerfile_inline" not in build:
        # It was empty text, which means the same.
        service["build"] = dict(sorted({**build, "dockerfile": "Dockerfile"}.items()))
    for key, devices in (service.get("blkio_config") or {}).items():
        if isinstance(devices, list):
            service["blkio_config"][key] = [
                {name.lower(): value for name, value in device.items()} for device in devices
            ]


def _escaped(value: Raw) -> Raw:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _complete(value: Raw, where: Where, loaded: Loaded) -> Raw:
    if isinstance(value, dict):
        hidden = ("command", "entrypoint") if len(where) == 2 and where[0] == "services" else ()
        made = {
            key: _complete(value[key], (*where, key), loaded)
            for key in sorted(value)
            if value[key] is not None or key not in hidden
        }
        made.update(loaded.extensions.get(where, {}))
        return made
    if isinstance(value, list):
        return [_complete(item, (*where, index), loaded) for index, item in enumerate(value)]
    return value


def _sorted(value: Raw) -> Raw:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _without_empty_lists(value: Raw) -> Raw:
    """Compose prints an empty list in an extension as null."""
    if isinstance(value, dict):
        return {key: _without_empty_lists(item) for key, item in value.items()}
    return (
        [_without_empty_lists(item) for item in value] or None if isinstance(value, list) else value
    )


class _Dumper(yaml.CSafeDumper):
    """Block style; text that YAML 1.1 or 1.2 could take for something else is quoted."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    multiline = "\n" in text and not text.startswith((" ", "\n")) and "\t" not in text
    style = "|" if multiline else '"' if _ambiguous(text) else ""
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style or None)


def _ambiguous(text: str) -> bool:
    from stackctl.orchestrator.stackfile.scalars import resolve_plain

    return text == "<<" or type(resolve_plain(text)) is not str


_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(dict, yaml.CSafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.CSafeDumper.represent_list)
_Dumper.add_multi_representer(str, _represent_text)
