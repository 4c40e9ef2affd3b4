"""stackctl config: print the resolved stack."""

from pathlib import Path
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError

EPILOG = (
    "Examples: stackctl config    stackctl config -q && echo valid    stackctl config --format json"
)


def command(
    ctx: typer.Context,
    services: Annotated[list[str] | None, typer.Argument(help="Only these services.")] = None,
    layout: Annotated[str, typer.Option("--format", help="yaml or json.")] = "yaml",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Check only; print nothing.")
    ] = False,
    list_services: Annotated[bool, typer.Option("--services", help="Names of services.")] = False,
    list_volumes: Annotated[bool, typer.Option("--volumes", help="Names of volumes.")] = False,
    list_networks: Annotated[bool, typer.Option("--networks", help="Names of networks.")] = False,
    list_images: Annotated[bool, typer.Option("--images", help="Names of images.")] = False,
    list_profiles: Annotated[bool, typer.Option("--profiles", help="Names of profiles.")] = False,
    environment: Annotated[
        bool, typer.Option("--environment", help="What interpolation saw.")
    ] = False,
    no_interpolate: Annotated[bool, typer.Option(help="Leave ${VARIABLES} as they are.")] = False,
    no_normalize: Annotated[bool, typer.Option(help="Leave out what is implied.")] = False,
    no_path_resolution: Annotated[bool, typer.Option(help="Leave paths relative.")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="File to write to.")] = "",
) -> None:
    """Check the stack file and print it merged, interpolated and in canonical form."""
    if layout not in ("yaml", "json"):
        raise InvalidInputError(f'--format: "{layout}" is not one of yaml, json')
    session = Session.of(ctx)
    loaded = session.load(
        tuple(services or ()),
        interpolate=not no_interpolate,
        normalize=not no_normalize,
        resolve_paths=not no_path_resolution,
    )
    if quiet:
        return
    lists = (
        (list_services, lambda: loaded.stack.services),
        (list_volumes, lambda: loaded.stack.volumes),
        (list_networks, lambda: loaded.stack.networks),
        (list_images, lambda: session.image_names(loaded.stack)),
        (list_profiles, lambda: session.profile_names(loaded.stack)),
        (environment, lambda: [f"{k}={v}" for k, v in sorted(loaded.environment.items())]),
    )
    for wanted, names in lists:
        if wanted:
            session.out("".join(f"{name}\n" for name in names()))
            return
    text = session.dump(loaded, layout)
    if output:
        Path(output).write_text(text)
    else:
        session.out(text)
