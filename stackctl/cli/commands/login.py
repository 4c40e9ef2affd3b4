"""stackctl login: try credentials at a registry and keep them where Docker keeps them."""

import sys
from typing import Annotated

import typer

from stackctl.cli.context import Session
from stackctl.errors import InvalidInputError

EPILOG = (
    "Examples: stackctl login registry.example.com    "
    "echo $TOKEN | stackctl login -u me --password-stdin registry.example.com"
)


def command(
    ctx: typer.Context,
    server: Annotated[str, typer.Argument(help="Registry, HOST[:PORT]; Docker Hub if none.")] = "",
    username: Annotated[str, typer.Option("-u", "--username", help="User name.")] = "",
    password: Annotated[
        str, typer.Option("-p", "--password", help="Password; others on this machine may see it.")
    ] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Log in to a registry."""
    session = Session.of(ctx)
    credentials = session.credentials()
    key = credentials.registry_key(server)
    name, secret = _given(username, password, from_stdin=password_stdin)
    if not name and not secret:
        name, secret = credentials.known_login(key, session.environ)
        if name:
            session.note(f"logging in to {key} as {name} again")
    if not name:
        name = _asked("Username: ")
    if not secret:
        secret = _asked("Password: ", hidden=True)
    if password:
        session.warn("a password on the command line is seen by others; use --password-stdin")
    answer = session.engine().login(key, name, secret)
    token = answer.get("IdentityToken")
    where = credentials.keep(
        key, name, secret, token if isinstance(token, str) else "", session.environ
    )
    session.note(f"logged in to {key} as {name}; kept in {where}")


def _given(username: str, password: str, *, from_stdin: bool) -> tuple[str, str]:
    if not from_stdin:
        return username, password
    if password:
        raise InvalidInputError("--password and --password-stdin exclude each other")
    if not username:
        raise InvalidInputError("--password-stdin needs --username")
    secret = sys.stdin.read().rstrip("\r\n")
    if not secret:
        raise InvalidInputError("--password-stdin: standard input holds no password")
    return username, secret


def _asked(prompt: str, *, hidden: bool = False) -> str:
    """Ask at the terminal. Raises InvalidInputError where there is none."""
    if not sys.stdin.isatty():
        raise InvalidInputError(
            "there is no terminal to ask for the user name and the password",
            hint="give --username and --password-stdin",
        )
    if hidden:
        import getpass

        return getpass.getpass(prompt)
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
