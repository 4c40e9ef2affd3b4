"""stackctl config: print the resolved stack."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError, NotFoundError
from stackctl.values import JsonObject

if TYPE_CHECKING:
    from stackctl.orchestrator.stackfile.load import Loaded

EPILOG = (
    "Examples: stackctl config    stackctl config -q && echo valid    stackctl config --format json"
    "    Where does it come from: stackctl config --explain services.web.image"
)


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    layout: Annotated[str, typer.Option("--format", help="yaml or json.")] = "",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Check only; print nothing.")
    ] = False,
    list_services: Annotated[bool, typer.Option("--services", help="Names of services.")] = False,
    list_volumes: Annotated[bool, typer.Option("--volumes", help="Names of volumes.")] = False,
    list_networks: Annotated[bool, typer.Option("--networks", help="Names of networks.")] = False,
    list_images: Annotated[bool, typer.Option("--images", help="Names of images.")] = False,
    list_models: Annotated[bool, typer.Option("--models", help="Names of models.")] = False,
    list_profiles: Annotated[bool, typer.Option("--profiles", help="Names of profiles.")] = False,
    environment: Annotated[
        bool, typer.Option("--environment", help="What interpolation saw.")
    ] = False,
    variables: Annotated[
        bool, typer.Option("--variables", help="Variables that the files mention, and defaults.")
    ] = False,
    hash_of: Annotated[
        str, typer.Option("--hash", help="Configuration hash of a service, or of all: *.")
    ] = "",
    explain: Annotated[
        str,
        typer.Option(metavar="KEY.PATH", help="Where a value comes from: file, line, variables."),
    ] = "",
    reference: Annotated[
        bool, typer.Option("--reference", help="The reference page of all keys, in Markdown.")
    ] = False,
    resolve_image_digests: Annotated[
        bool, typer.Option(help="Pin images to the digests that their registries have.")
    ] = False,
    lock_image_digests: Annotated[
        bool, typer.Option(help="An override file that pins images to digests.")
    ] = False,
    no_interpolate: Annotated[bool, typer.Option(help="Leave ${VARIABLES} as they are.")] = False,
    no_normalize: Annotated[bool, typer.Option(help="Leave out what is implied.")] = False,
    no_path_resolution: Annotated[bool, typer.Option(help="Leave paths relative.")] = False,
    no_consistency: Annotated[bool, typer.Option(help="Leave references unchecked.")] = False,
    no_env_resolution: Annotated[bool, typer.Option(help="Leave env files unread.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="File to write to.")] = "",
) -> None:
    """Check the stack file and print it merged, interpolated and in canonical form."""
    if layout not in ("", "yaml", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of yaml, json')
    session = Session.of(ctx)
    if reference:
        from stackctl.orchestrator.stackfile.reference import to_markdown

        _put(session, output, to_markdown())
        return
    loaded = session.load(
        tuple(services or ()),
        interpolate=not (no_interpolate or variables),
        normalize=not no_normalize,
        resolve_paths=not no_path_resolution,
        consistency=not no_consistency,
        # A hash is that of the file, as docker compose has it: with env files by name.
        resolve_environment=not (no_env_resolution or hash_of),
    )
    if quiet:
        return
    lists: tuple[tuple[bool, Callable[[], Iterable[object]]], ...] = (
        (list_services, lambda: _names(loaded, "services")),
        (list_volumes, lambda: _names(loaded, "volumes")),
        (list_networks, lambda: _names(loaded, "networks")),
        (list_images, lambda: _images(session, loaded)),
        (list_models, lambda: [one.model for one in loaded.stack.models.values()]),
        (list_profiles, lambda: _profiles(session, loaded)),
        (environment, lambda: [f"{k}={v}" for k, v in sorted(loaded.environment.items())]),
        (bool(hash_of), lambda: _hashes(loaded, hash_of)),
    )
    for wanted, names in lists:
        if wanted:
            _put(session, output, "".join(f"{name}\n" for name in names()))
            return
    if variables:
        _put(session, output, _variables(loaded, layout))
    elif explain:
        _put(session, output, _explained(session, loaded, explain, layout))
    elif lock_image_digests:
        _put(session, output, session.dump(_pinned(session, loaded, lock=True), layout or "yaml"))
    else:
        if resolve_image_digests:
            loaded = _pinned(session, loaded)
        _put(session, output, session.dump(loaded, layout or "yaml"))


def _put(session: Session, output: str, text: str) -> None:
    if output:
        Path(output).write_text(text, encoding="utf-8")
    else:
        session.out(text)


def _names(loaded: "Loaded", kind: str) -> list[str]:
    """Return the names of services, volumes or networks; variables left in place do not matter to them."""
    return list(getattr(loaded.stack, kind) if loaded.interpolated else _part(loaded.tree, kind))


def _images(session: Session, loaded: "Loaded") -> list[str]:
    if loaded.interpolated:
        return session.image_names(loaded.stack)
    services = _part(loaded.tree, "services")
    names = (
        str(_part(services, name).get("image") or f"{loaded.name}-{name}") for name in services
    )
    return list(dict.fromkeys(names))


def _profiles(session: Session, loaded: "Loaded") -> list[str]:
    if loaded.interpolated:
        return session.profile_names(loaded.stack)
    services = _part(loaded.tree, "services")
    listed = (_part(services, name).get("profiles") for name in services)
    return sorted({str(one) for names in listed if isinstance(names, list) for one in names})


def _part(tree: JsonObject, key: str) -> JsonObject:
    part = tree.get(key)
    return part if isinstance(part, dict) else {}


def _pinned(session: Session, loaded: "Loaded", *, lock: bool = False) -> "Loaded":
    from stackctl.cli import digests

    found = digests.pinned(loaded, session.engine().remote_digest)
    return digests.lock(found) if lock else found


def _hashes(loaded: "Loaded", wanted: str) -> list[str]:
    """Return the hashes that docker compose has for services; those without env files are their containers' labels."""
    from stackctl.orchestrator.planning.compose_hash import compose_hash
    from stackctl.orchestrator.stackfile.problems import suggestion

    services = loaded.stack.services
    names = sorted(services) if wanted == "*" else [name for name in wanted.split(",") if name]
    for name in names:
        if name not in services:
            raise NotFoundError(f"no such service: {name}", hint=suggestion(name, services))
    return [f"{name} {compose_hash(loaded.stack, services[name])}" for name in names]


def _variables(loaded: "Loaded", layout: str) -> str:
    from stackctl.cli.render import tables
    from stackctl.orchestrator.stackfile import explain

    found = explain.variables(loaded.marked)
    if layout == "json":
        entries = {
            one.name: {
                "Name": one.name,
                "DefaultValue": one.default,
                "PresenceValue": one.alternate,
                "Required": one.required,
            }
            for one in found
        }
        return json.dumps(entries, indent=4, ensure_ascii=False) + "\n"
    rows = [(one.name, str(one.required).lower(), one.default, one.alternate) for one in found]
    return tables.table(("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"), rows)


def _explained(session: Session, loaded: "Loaded", path: str, layout: str) -> str:
    from stackctl.cli.render import origins
    from stackctl.orchestrator.stackfile import explain

    found = explain.origins(loaded, path, environ=session.environ)
    return origins.as_json(found) if layout == "json" else origins.text(found)
