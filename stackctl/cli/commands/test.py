"""stackctl test."""

from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.cli.main import COMMAND_FOLLOWS
from stackctl.cli.planned import check_recreate
from stackctl.errors import InvalidInputError

CONTEXT = {"allow_interspersed_args": True}
EPILOG = (
    "Examples: stackctl test    stackctl test e2e -- pytest -x    stackctl test --artifacts out --junit out/stack.xml"
    "    What it depends on is brought up in a copy that meets no other, and removed with its volumes in any case."
)


def command(
    ctx: typer.Context,
    service: Annotated[
        str, typer.Argument(help="The service that runs the tests; the one called test.")
    ] = "",
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="Instead of its command.")
    ] = None,
    env: Annotated[list[str] | None, typer.Option("-e", "--env", help="NAME=VALUE.")] = None,
    artifacts: Annotated[
        str,
        typer.Option(
            help="On failure, save log, inspection and health probes of every service in this folder."
        ),
    ] = "",
    junit: Annotated[
        str,
        typer.Option(
            help="Write a JUnit summary here: which services became ready, and the tests."
        ),
    ] = "",
    wait_timeout: Annotated[
        float, typer.Option(help="Seconds that the services may take to be ready; 0 for no limit.")
    ] = 300,
    build: Annotated[bool, typer.Option("--build", help="Build images first.")] = False,
    pull: Annotated[str, typer.Option(help="Pull images: always, missing or never.")] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Run a test service in a copy of the stack; exit with its code, leave nothing behind."""
    from stackctl.cli import interact, trial

    words = [service, *(argv or ())]
    at = words.index(COMMAND_FOLLOWS) if COMMAND_FOLLOWS in words else len(words)
    if at > 1:
        raise InvalidInputError(
            f"test takes one service, not {' '.join(words[:at])}",
            hint=f"a command comes after two dashes: stackctl test {service} -- {' '.join(words[1:at])}",
        )
    service = words[0] if at > 0 else ""
    given = tuple(words[at + 1 :])
    check_recreate(False, False, build, False, pull)
    if wait_timeout < 0:
        raise InvalidInputError(f"--wait-timeout: {wait_timeout:g} is less than 0")
    session = Session.of(ctx, quiet=quiet)
    plain = session.variant(project_name="") if session.options.project_name == "auto" else session
    chosen = trial.choose(plain.load(warn=False).stack, service)
    if session.options.dry_run:
        session.note(f"dry run: would bring up a copy of {plain.project()} and run {chosen} in it")
        return
    raise typer.Exit(
        trial.run(
            session,
            trial.Trial(
                service=chosen,
                command=given,
                env=tuple(interact.variables(env or ())),
                artifacts=artifacts,
                junit=junit,
                wait_timeout=wait_timeout,
                build=build,
                pull=pull,
            ),
        )
    )
