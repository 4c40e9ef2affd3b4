"""/containers/{id}/exec and /exec/{id}: further processes in a running container."""

from aiohttp import web

from stackctl.api.detach import parse_keys
from stackctl.daemon.bodies.create import read_console_size
from stackctl.daemon.call import Call
from stackctl.daemon.handlers.lifecycle import terminal_size
from stackctl.daemon.streams import finish, hijack, join
from stackctl.engine.requests import ExecRequest
from stackctl.errors import InvalidInputError


async def create(call: Call) -> web.StreamResponse:
    body = await call.body()
    command = body.words("Cmd") or ()
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
    detach = body.boolean("Detach")
    tty = body.boolean("Tty")
    size = read_console_size(body, "ConsoleSize")
    execs = call.engine.execs
    record = execs.inspect(call.args["id"])
    session = await execs.start(record.id, detach=detach, tty=tty, console_size=size)
    if session is None:
        return call.empty(200)
    request = record.request
    wants = frozenset(
        number
        for number, asked in ((1, request.attach_stdout or request.tty), (2, request.attach_stderr))
        if asked
    )
    try:
        connection = await hijack(call, tty=request.tty)
        try:
            await join(
                connection,
                session,
                tty=request.tty,
                wants=wants,
                stdin=request.attach_stdin,
                keys=parse_keys(request.detach_keys),
            )
        finally:
            response = finish(call, connection)
        return response
    finally:
        await session.close()


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
            "CanRemove": record.exit_code is not None and not record.running,
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
