"""Copies of a stack that run beside one another, and what they are tied to: what up and test share."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stackctl.cli.context import Session
from stackctl.cli.planned import UpRequest
from stackctl.cli.render.containers import Listed
from stackctl.errors import ConflictError, HostError, InvalidInputError
from stackctl.orchestrator.apply.lease import Owner, check
from stackctl.orchestrator.model.stack import Stack
from stackctl.orchestrator.planning.isolation import AUTO, Published, ports_env, unique_name
from stackctl.orchestrator.planning.plan import BuildImage, Plan

if TYPE_CHECKING:
    from stackctl.cli.context import GlobalOptions

_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def wants_copy(options: "GlobalOptions") -> bool:
    """Tell whether -p auto asks for a copy."""
    return options.project_name == AUTO


def copy_session(session: Session, *, new: bool = False) -> Session:
    """Return a session that works on a copy of the stack: the one that was named, or a new one.

    ``new``: only the command line names it, since a name in the environment is that of a copy somebody works with;
    raises ConflictError when there is one of that name.
    """
    named = ""
    if not wants_copy(session.options):
        named = session.options.project_name if new else session.given_name
    plain = session.variant(project_name="")
    plain.environ = {k: v for k, v in session.environ.items() if k != "COMPOSE_PROJECT_NAME"}
    original = plain.project()
    if named == original:
        raise InvalidInputError(
            f"--isolate: a copy of {original} cannot have its name",
            hint="leave -p out for a new name",
        )
    made = session.variant(project_name=named or unique_name(original, secrets.token_hex(4)))
    made.copy_of = original
    if new and named and made.containers((), every=True, one_off=True):
        raise ConflictError(
            f"there is a stack {named} already, and a copy for one run is removed with its data",
            hint="leave -p out for a new name",
        )
    return made


def lease_owner(*, lease: bool, pid: int, ttl: str, lasting: bool) -> Owner | None:
    """Return who the flags tie a stack to; raises InvalidInputError.

    ``lasting``: this process goes on as long as the stack is wanted, so that it is what --lease means; else it is
    the process that called this one.
    """
    from stackctl.units import parse_duration

    seconds = 0.0
    if ttl:
        try:
            seconds = parse_duration(ttl)
        except InvalidInputError as error:
            raise InvalidInputError(f"--ttl: {error.message}", hint=error.hint) from error
        if not 0 < seconds <= 366 * 86400:
            raise InvalidInputError(
                f'--ttl: "{ttl}" is not between 1s and a year', hint="--ttl 30m"
            )
    if pid < 0:
        raise InvalidInputError(f"--lease-pid: {pid} is not a process")
    ours = lease and not pid and lasting
    if lease and not pid:
        pid = os.getpid() if lasting else os.getppid()
    return Owner(pid=pid, ours=ours, seconds=seconds) if pid or seconds else None


def require_leases(session: Session, what: str) -> None:
    """Raise UnsupportedError, before anything is made, where the engine keeps no leases."""
    engine = session.engine()
    # One that cannot be reached says so itself.
    _ = engine.api_version
    check(engine, what)


def build_once(session: Session, stack: Stack, request: UpRequest) -> UpRequest:
    """Build what a copy needs under the lock of the stack itself, so that many copies at once build it once.

    Returns the request for the rest, which builds nothing any more.
    """
    if session.options.dry_run or not any(one.build for one in stack.services.values()):
        return request
    with session.lock(session.copy_of):
        plan = session.plan_up(stack, request)
        builds = [item for item in plan if isinstance(item.action, BuildImage)]
        known = {item.id for item in builds}
        if builds:
            operations = tuple(
                replace(item, after=tuple(key for key in item.after if key in known))
                for item in builds
            )
            session.apply(Plan(stack=stack.name, operations=operations), stack)
    return replace(request, build=False)


def write_ports(session: Session, path: str) -> None:
    """Write where the stack's published ports are as variables."""
    text = ports_env(session.project(), published(session.containers((), every=False)))
    try:
        Path(path).write_text(text)
    except OSError as error:
        raise HostError(
            f"--ports-env: cannot write {path}: {error.strerror}", errno=error.errno or 0
        ) from error


def published(found: Sequence[Listed]) -> list[Published]:
    """Return the published ports of containers, with addresses that can be connected to."""
    return [
        Published(
            service=one.service,
            number=one.number,
            target=int(str(entry.get("PrivatePort"))),
            protocol=str(entry.get("Type", "tcp")),
            host=_ANYWHERE.get(str(entry.get("IP") or ""), str(entry.get("IP"))),
            port=int(str(entry.get("PublicPort"))),
        )
        for one in found
        for entry in one.ports
        if entry.get("PublicPort")
    ]
