"""stackctl port."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import NotFoundError

EPILOG = "Examples: stackctl port web 80    stackctl port --protocol udp dns 53"


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    port: Annotated[int, typer.Argument(help="The port inside the container.")],
    protocol: Annotated[str, typer.Option(help="tcp or udp.")] = "tcp",
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
) -> None:
    """Print the host's address and port of a published port."""
    session = Session.of(ctx)
    container = session.container(service, index=index)
    for entry in container.ports:
        if entry.get("PrivatePort") == port and entry.get("Type") == protocol:
            if not entry.get("PublicPort"):
                continue
            address = str(entry.get("IP") or "0.0.0.0")
            host = f"[{address}]" if ":" in address else address
            session.out(f"{host}:{entry['PublicPort']}\n")
            return
    raise NotFoundError(
        f"service {service} does not publish {port}/{protocol}",
        hint=f'publish it in the stack file: ports: ["{port}"]',
    )
