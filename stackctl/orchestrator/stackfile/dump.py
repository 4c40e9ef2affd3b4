"""The normal form as text: JSON as Compose prints it, and YAML."""

import json

import yaml

from stackctl.orchestrator.stackfile.load import Loaded
from stackctl.orchestrator.stackfile.marks import Raw, Where
from stackctl.values import JsonObject


def to_json(loaded: Loaded, *, escape: bool = True) -> str:
    """Return the tree as indented JSON; with ``escape`` a ``$`` is doubled, so that it can be read back."""
    tree = {
        key: _without_empty_lists(value) if key.startswith("x-") else value
        for key, value in loaded.tree.items()
    }
    text = json.dumps(_sorted(tree), indent=2, ensure_ascii=False, allow_nan=False)
    return text.replace("$", "$$") + "\n" if escape else text + "\n"


def to_yaml(loaded: Loaded, *, escape: bool = True) -> str:
    """Return the tree as YAML, extensions and models included, commands left out where the image's holds."""
    text = yaml.dump(
        full_tree(loaded),
        Dumper=_Dumper,
        default_flow_style=False,
        sort_keys=False,
        allow_unicode=True,
        width=1_000_000,
    )
    return text.replace("$", "$$") if escape else str(text)


def full_tree(loaded: Loaded) -> JsonObject:
    """Return a copy of the tree in the order of YAML output, extensions of every element in place."""
    order = ("name", "services", "networks", "volumes", "secrets", "configs", "models")
    tree: dict[str, Raw] = {**loaded.tree}
    if loaded.models:
        tree["models"] = loaded.models
    keys = [key for key in order if key in tree] + sorted(tree.keys() - set(order))
    return {key: _complete(tree[key], (key,), loaded) for key in keys}


def _complete(value: Raw, where: Where, loaded: Loaded) -> Raw:
    if isinstance(value, dict):
        made = {
            key: _complete(value[key], (*where, key), loaded)
            for key in sorted(value)
            if value[key] is not None or key not in ("command", "entrypoint")
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
