"""stackctl attach."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from stackctl.cli import interact, terminal
from stackctl.cli.context import Session
from stackctl.errors import StackctlError

EPILOG = "Examples: stackctl attach shell    stackctl attach --no-stdin web    Leave with ctrl-p ctrl-q; it runs on."
_PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)  # fmt: skip


def command(
    ctx: typer.Context,
    service: Annotated[str, typer.Argument(help="The service.")],
    detach_keys: Annotated[
        str, typer.Option(help="Keys that leave, such as ctrl-p,ctrl-q.")
    ] = "ctrl-p,ctrl-q",
    index: Annotated[int, typer.Option(help="Which replica.")] = 0,
    no_stdin: Annotated[bool, typer.Option("--no-stdin", help="Only look.")] = False,
    sig_proxy: Annotated[
        bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Hand signals on to the program.")
    ] = True,
) -> None:
    """Join the terminal to a running container's own program."""
    keys = terminal.parse_keys(detach_keys)
    session = Session.of(ctx)
    engine = session.engine()
    one = session.container(service, index=index)
    config = engine.inspect_container(one.id).get("Config")
    about = config if isinstance(config, dict) else {}
    on_terminal = bool(about.get("Tty"))
    stdin = not no_stdin and bool(about.get("OpenStdin"))
    tty = on_terminal and stdin and sys.stdin.isatty()
    connection = engine.attach(one.id, stdin=stdin, terminal=on_terminal)

    def hand_on(number: int) -> None:
        with contextlib.suppress(StackctlError):
            engine.kill_container(one.id, signal=signal.Signals(number).name)

    with _handlers(hand_on) if sig_proxy else contextlib.nullcontext():
        detached = interact.join(
            connection,
            tty=tty,
            stdin=stdin,
            detach_keys=keys,
            resize=lambda rows, columns: engine.resize_container(
                one.id, rows=rows, columns=columns
            ),
        )
    if detached:
        session.note(f"\r\nleft {one.name} running")
        return
    raise typer.Exit(engine.wait_container(one.id))


@contextlib.contextmanager
def _handlers(hand_on: "interact.HandOn") -> Iterator[None]:
    before = {number: signal.signal(number, lambda got, _: hand_on(got)) for number in _PROXIED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
