"""/containers/{id}/exec and /exec/{id}: further processes in a running container."""

import contextlib

from aiohttp import web

from stackctl.api.detach import parse_keys
from stackctl.api.framing import STDOUT, encode_frame
from stackctl.contracts.container import Status
from stackctl.contracts.runtime import ExecSession
from stackctl.daemon.bodies.create import read_console_size
from stackctl.daemon.call import Call
from stackctl.daemon.errors import text_of
from stackctl.daemon.handlers.lifecycle import terminal_size
from stackctl.daemon.streams import Connection, finish, hijack, join
from stackctl.engine.requests import ExecRecord, ExecRequest
from stackctl.errors import ConflictError, InvalidInputError, StackctlError


async def create(call: Call) -> web.StreamResponse:
    body = await call.body()
    command = body.texts("Cmd")
    if not command:
        raise InvalidInputError("No exec command specified")
    parse_keys(body.text("DetachKeys"))
    exec_id = await call.engine.execs.create(
        call.args["id"],
        ExecRequest(
            cmd=command,
            env=body.texts("Env"),
            user=body.text("User"),
            working_dir=body.text("WorkingDir"),
            tty=body.boolean("Tty"),
            attach_stdin=body.boolean("AttachStdin"),
            attach_stdout=body.boolean("AttachStdout"),
            attach_stderr=body.boolean("AttachStderr"),
            privileged=body.boolean("Privileged"),
            detach_keys=body.text("DetachKeys"),
            console_size=read_console_size(body, "ConsoleSize"),
        ),
    )
    return call.json({"Id": exec_id}, status=201)


async def start(call: Call) -> web.StreamResponse:
    body = await call.body()
    size = read_console_size(body, "ConsoleSize")
    execs = call.engine.execs
    record = execs.inspect(call.args["id"])
    if body.boolean("Detach"):
        await execs.start(record.id, detach=True, console_size=size)
        return call.empty(200)
    _check_startable(call, record)
    # The framing is the start's choice, the terminal was the create's.
    raw = body.boolean("Tty")
    connection = await hijack(call, tty=raw)
    session: ExecSession | None = None
    try:
        session = await execs.start(record.id, console_size=size)
        if session is not None:
            await _carry(connection, session, record.request, raw=raw)
    except StackctlError as error:
        # Clients read the reason from the stream and the exit code from inspect.
        text = f"{text_of(error)}\r\n".encode()
        with contextlib.suppress(OSError):
            await connection.send(text if raw else encode_frame(STDOUT, text))
    finally:
        if session is not None:
            await session.close()
        response = finish(call, connection)
    return response


def _check_startable(call: Call, record: ExecRecord) -> None:
    """Raise what has its own status, before the connection is taken over."""
    if record.started:
        state = "is already running" if record.running else "has already run"
        raise ConflictError(f"exec instance {record.id} {state}")
    container = call.engine.containers.resolve(record.container_id)
    if container.status is Status.PAUSED:
        raise ConflictError(
            f"container {container.id} is paused, unpause the container before exec"
        )
    if container.status is not Status.RUNNING:
        raise ConflictError(f"container {container.id} is not running")


async def _carry(
    connection: Connection, session: ExecSession, request: ExecRequest, *, raw: bool
) -> None:
    wants = frozenset(
        number
        for number, asked in ((1, request.attach_stdout), (2, request.attach_stderr))
        if asked or request.tty
    )
    keys = parse_keys(request.detach_keys)
    await join(connection, session, tty=raw, wants=wants, stdin=request.attach_stdin, keys=keys)


async def inspect(call: Call) -> web.StreamResponse:
    record = call.engine.execs.inspect(call.args["id"])
    request = record.request
    return call.json(
        {
            "ID": record.id,
            "Running": record.running,
            "ExitCode": record.exit_code,
            "ProcessConfig": {
                "tty": request.tty,
                "entrypoint": request.cmd[0],
                "arguments": [*request.cmd[1:]],
                "privileged": request.privileged,
                **({"user": request.user} if request.user else {}),
            },
            "OpenStdin": request.attach_stdin,
            "OpenStderr": request.attach_stderr,
            "OpenStdout": request.attach_stdout,
            "CanRemove": False,
            "ContainerID": record.container_id,
            "DetachKeys": "",
            "Pid": record.pid,
        }
    )


async def resize(call: Call) -> web.StreamResponse:
    height, width = terminal_size(call)
    await call.engine.execs.resize(call.args["id"], height, width)
    return call.empty(200)


ROUTES = (
    ("POST", "/containers/{id}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("GET", "/exec/{id}/json", inspect),
    ("POST", "/exec/{id}/resize", resize),
)
