"""stackctl commit."""

from typing import Annotated

import typer

from stackctl.cli.context import Session

EPILOG = (
    "Examples: stackctl commit web shop/web:fixed    stackctl commit -c 'CMD [\"sh\"]' web debug"
)


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    reference: Annotated[
        str, typer.Argument(metavar="[REPOSITORY[:TAG]]", help="The image's name.")
    ] = "",
    author: Annotated[str, typer.Option("-a", "--author", help="Who made it.")] = "",
    change: Annotated[
        list[str] | None,
        typer.Option("-c", "--change", help="Dockerfile instruction to apply to it."),
    ] = None,
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
    message: Annotated[str, typer.Option("-m", "--message", help="What changed.")] = "",
    pause: Annotated[
        bool, typer.Option("-p/-P", "--pause/--no-pause", help="Hold it still meanwhile.")
    ] = True,
) -> None:
    """Make an image of a container's file system."""
    session = Session.of(ctx)
    one = session.container(service, index=index, running=False)
    head, _, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    repository = f"{head}/{name}" if head else name
    identity = session.engine().commit_container(
        one.id,
        {
            "repo": repository,
            "tag": tag or ("latest" if repository else ""),
            "author": author,
            "comment": message,
            "pause": "1" if pause else "0",
            "changes": "\n".join(change or ()),
        },
    )
    session.out(f"{identity}\n")
